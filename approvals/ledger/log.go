package ledger

import (
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// Storage is a log inside one transaction of its store. Everything that one
// Storage returns belongs to the same state.
type Storage interface {
	// Size returns the number of leaves.
	Size() (int64, error)
	// Append stores the leaf with number Size, and the hashes after those
	// already stored, in the given order. Either both are stored or neither.
	Append(leaf []byte, hashes []tlog.Hash) error
	// ReadHashes returns stored hashes by their position in storage order,
	// one for each index (see tlog.HashReader).
	ReadHashes(indexes []int64) ([]tlog.Hash, error)
}

var (
	// ErrBehind says that the log has fewer leaves than asked for or signed:
	// it was cut, or an old copy was restored.
	ErrBehind = errors.New("log is shorter than the checkpoint")
	// ErrInconsistent says that the log has another history than the one
	// that was signed.
	ErrInconsistent = errors.New("log does not agree with the checkpoint")
)

// Root returns the root hash of the first size leaves. It returns ErrBehind if
// there are fewer.
func Root(s Storage, size int64) (tlog.Hash, error) {
	if err := checkSize(s, size); err != nil {
		return tlog.Hash{}, err
	}
	root, err := tlog.TreeHash(size, s)
	if err != nil {
		return tlog.Hash{}, fmt.Errorf("root at size %d: %w", size, err)
	}
	return root, nil
}

// Consistent checks that the log that c describes is a prefix of what s holds.
// It returns ErrBehind if s holds fewer leaves and ErrInconsistent if it holds
// others. It compares stored hashes; that the stored leaves still have them is
// for Verify to find out.
func Consistent(s Storage, c Checkpoint) error {
	root, err := Root(s, c.Size)
	if err != nil {
		return err
	}
	if root != c.Root {
		return fmt.Errorf("%w at size %d", ErrInconsistent, c.Size)
	}
	return nil
}

// checkSize guards tlog, which panics on some sizes out of range.
func checkSize(s Storage, size int64) error {
	have, err := s.Size()
	if err != nil {
		return fmt.Errorf("read log size: %w", err)
	}
	if size < 0 {
		return fmt.Errorf("negative log size %d", size)
	}
	if size > have {
		return fmt.Errorf("%w: it has %d leaves, not %d", ErrBehind, have, size)
	}
	return nil
}
