// Package ledger keeps an append-only log as an RFC 6962 Merkle tree whose
// heads are signed C2SP tlog-checkpoints (https://c2sp.org/tlog-checkpoint),
// and checks exports, receipts and older checkpoints of such a log offline.
//
// A leaf is one line of JSON without its newline, hashed byte for byte. The
// package interprets two of its members only: "seq", the leaf's number
// counting from 0, and "prev", the base64 hash of the leaf before it (32 zero
// bytes for the first). They say which leaf of a damaged export is the first
// bad one; the tree alone proves what was signed.
//
// A Writer appends leaves within one transaction. A Reader checks leaves in their
// order, for Verify as for a process that reads along. Both hold no more of the
// log than the right edge of its tree.
//
// The package does not know events, does not store anything (see Storage),
// does not decide when a checkpoint is signed, and keeps no copy of a log it
// has seen: whoever wants to notice a rewritten log keeps a checkpoint.
package ledger

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"math/bits"
	"slices"

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

// checkSize guards tlog, which panics on some sizes out of range.
func checkSize(s Storage, size int64) error {
	have, err := s.Size()
	switch {
	case err != nil:
		return fmt.Errorf("read log size: %w", err)
	case size < 0:
		return fmt.Errorf("negative log size %d", size)
	case size > have:
		return fmt.Errorf("%w: it has %d leaves, not %d", ErrBehind, have, size)
	}
	return nil
}

// Consistent checks that the log that c describes is a prefix of what s holds.
// It returns ErrBehind if s holds fewer leaves and ErrInconsistent if it holds
// others. It compares stored hashes; that the stored leaves still have them is
// for Check to find out.
func Consistent(s Storage, c Checkpoint) error {
	root, err := Root(s, c.Size)
	if err == nil && root != c.Root {
		err = fmt.Errorf("%w at size %d", ErrInconsistent, c.Size)
	}
	return err
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
			return cmp.Or(compare(), error(&TamperError{Seq: r.size, Why: err.Error()}))
		}
		if want = append(want, r.add(hash)...); len(want) >= hashesAtOnce {
			if err := compare(); err != nil {
				return err
			}
		}
	}
	return compare()
}

// Writer appends leaves within one transaction. It reads the head of the log
// once, and computes every hash after that in memory. It must not outlive its
// transaction, because other programs may append in the next one, and it is not
// safe for concurrent use.
type Writer struct {
	s    Storage
	head *Reader
}

// NewWriter reads the head of the log: one call of Size, and one of ReadHashes
// for the edge of the tree and the last leaf's hash together.
func NewWriter(s Storage) (*Writer, error) {
	size, err := s.Size()
	if err != nil {
		return nil, fmt.Errorf("read log size: %w", err)
	}
	if size < 0 || size >= maxSize {
		return nil, fmt.Errorf("log size %d is out of range", size)
	}
	if size == 0 {
		return &Writer{s: s, head: &Reader{}}, nil
	}
	var indexes []int64
	for rest := uint64(size); rest != 0; {
		level := bits.Len64(rest) - 1
		rest &^= 1 << level
		before := size - int64(rest) - 1<<level // leaves to the left of this subtree
		indexes = append(indexes, tlog.StoredHashIndex(level, before>>level))
	}
	subtrees := len(indexes)
	indexes = append(indexes, tlog.StoredHashIndex(0, size-1))
	hashes, err := s.ReadHashes(indexes)
	if err != nil {
		return nil, fmt.Errorf("read edge of %d leaves: %w", size, err)
	}
	if len(hashes) != len(indexes) {
		return nil, fmt.Errorf("read edge of %d leaves: got %d hashes for %d positions", size, len(hashes), len(indexes))
	}
	return &Writer{s: s, head: &Reader{size: size, edge: slices.Clone(hashes[:subtrees]), last: hashes[subtrees]}}, nil
}

// Append stores the leaf that build returns for its number and for prev, the
// hash of the leaf before it (32 zero bytes for the first), and returns the
// number. The leaf must be one JSON object on one line, at most MaxLeaf bytes
// long, that has both as its members "seq" and "prev". It returns the error of
// build or of the store, or says what is wrong with the leaf. After an error the
// writer stands where it stood before; whether the transaction can go on is for
// the store to say.
func (w *Writer) Append(build func(seq int64, prev tlog.Hash) ([]byte, error)) (seq int64, err error) {
	seq = w.head.size
	leaf, err := build(seq, w.head.last)
	if err != nil {
		return 0, fmt.Errorf("build leaf %d: %w", seq, err)
	}
	hash, err := w.head.check(leaf)
	if err != nil {
		return 0, fmt.Errorf("leaf %d: %w", seq, err)
	}
	next := w.head.Clone()
	if err := w.s.Append(leaf, next.add(hash)); err != nil {
		return 0, fmt.Errorf("append leaf %d: %w", seq, err)
	}
	w.head = next
	return seq, nil
}

// Head returns the number of leaves and their RFC 6962 root, with those that
// this writer has appended.
func (w *Writer) Head() (size int64, root tlog.Hash) {
	return w.head.size, w.head.Root()
}
