package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// prepareFile makes sure that the file exists and nobody else can read it.
// SQLite gives its side files the same mode.
//
// A file that exists is never opened here: closing it again would drop the locks
// that other connections of this process have on it (POSIX).
func prepareFile(path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("create database directory: %w", err)
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if errors.Is(err, fs.ErrExist) {
			return nil // another program was faster
		}
		if err == nil {
			err = f.Close()
		}
		if err != nil {
			return fmt.Errorf("create database file: %w", err)
		}
		return syncDir(dir)
	case err != nil:
		return fmt.Errorf("find database file: %w", err)
	case !info.Mode().IsRegular():
		return fmt.Errorf("database file %s is not a regular file", path)
	case info.Mode().Perm()&0o077 != 0:
		if err := os.Chmod(path, 0o600); err != nil {
			return fmt.Errorf("database file can be read by others: %w", err)
		}
	}
	// SQLite would open it for reading only, and fail later for another reason.
	if err := syscall.Access(path, writable); err != nil {
		return fmt.Errorf("database file cannot be written: %w", err)
	}
	return nil
}

// writable is W_OK of access(2).
const writable = 2

// syncDir makes new and renamed files of a directory survive a power loss.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err == nil {
		err = errors.Join(d.Sync(), d.Close())
	}
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return nil
}
