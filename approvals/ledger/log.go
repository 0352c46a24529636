package ledger

import (
	"cmp"
	"errors"
	"fmt"
	"iter"

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

// hashesAtOnce is how many stored hashes Check reads at once.
const hashesAtOnce = 1000

// Check reads all leaves of a log and compares them with the hashes that are stored,
// which Consistent trusts. A *TamperError names the first leaf that is bad. A leaf or
// a hash that is missing is the error of the store.
func Check(s Storage, leaves iter.Seq2[[]byte, error]) error {
	var r Reader
	var at int64 // position of the first of want
	var want []tlog.Hash
	compare := func() error {
		indexes := make([]int64, len(want))
		for i := range indexes {
			indexes[i] = at + int64(i)
		}
		got, err := s.ReadHashes(indexes)
		if err != nil {
			return err
		}
		for i, h := range got {
			if level, n := tlog.SplitStoredHashIndex(indexes[i]); h != want[i] {
				return &TamperError{Seq: (n+1)<<level - 1, Why: "its hashes are not those that were stored with it"}
			}
		}
		at, want = at+int64(len(want)), want[:0]
		return nil
	}
	for line, err := range leaves {
		if err != nil {
			return err
		}
		hash, err := r.check(line)
		if err != nil { // the leaf before it may be the bad one
			return cmp.Or(compare(), error(&TamperError{Seq: r.Size(), Why: err.Error()}))
		}
		if want = append(want, r.add(hash)...); len(want) >= hashesAtOnce {
			if err := compare(); err != nil {
				return err
			}
		}
	}
	return compare()
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
