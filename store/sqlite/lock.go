package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/store/engine"
)

// ErrLockLost says that the lock file was removed or replaced, so that another
// process may hold a lock too.
var ErrLockLost = errors.New("the lock file of the database was removed or replaced")

// lockPoll is how often a waiting process looks whether the lock is free.
const lockPoll = 100 * time.Millisecond

// Lock picks the one process that works on a database: an advisory lock on the
// file "<database>.lock", which the kernel lifts when the process ends. The data
// does not depend on it; writers without it are safe. The file stays behind.
type Lock struct {
	path string
	file *os.File
}

// TryLock takes the lock of the database at path, or returns [engine.ErrLocked].
func TryLock(path string) (*Lock, error) {
	path += ".lock"
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("create database directory: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock file: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, engine.ErrLocked
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	l := &Lock{path: path, file: f}
	if l.Held() != nil { // replaced between opening and locking
		f.Close()
		return nil, engine.ErrLocked
	}
	return l, nil
}

// WaitLock takes the lock of the database at path as soon as it is free, or
// returns the error of ctx.
func WaitLock(ctx context.Context, path string) (*Lock, error) {
	ticker := time.NewTicker(lockPoll)
	defer ticker.Stop()
	for {
		l, err := TryLock(path)
		if !errors.Is(err, engine.ErrLocked) {
			return l, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-ticker.C:
		}
	}
}

// Held is nil while the lock protects: the file that is locked is still the one
// that others would lock. Else it is [ErrLockLost].
func (l *Lock) Held() error {
	mine, err := l.file.Stat()
	there, err2 := os.Stat(l.path)
	if err := errors.Join(err, err2); err != nil {
		return fmt.Errorf("%w: %w", ErrLockLost, err)
	}
	if !os.SameFile(mine, there) {
		return ErrLockLost
	}
	return nil
}

// Remove is Release that leaves no file behind: beside a backup it would look as if
// somebody served it. Who had opened the file meanwhile finds that it is gone.
func (l *Lock) Remove() error { return errors.Join(os.Remove(l.path), l.Release()) }

// Release gives the lock back.
func (l *Lock) Release() error { return l.file.Close() }
