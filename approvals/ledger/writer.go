package ledger

import (
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// Writer appends leaves within one transaction. It reads the head of the log
// once, and computes every hash after that in memory. It must not outlive its
// transaction, because other programs may append in the next one, and it is not
// safe for concurrent use.
type Writer struct {
	s    Storage
	head Reader
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
	edge, last, err := readEdge(s, size)
	if err != nil {
		return nil, err
	}
	return &Writer{s: s, head: Reader{edge: edge, last: last}}, nil
}

// Append stores the leaf that build returns for its number and for prev, the
// hash of the leaf before it (32 zero bytes for the first), and returns the
// number. The leaf must be one JSON object on one line, at most MaxLeaf bytes
// long, that has both as its members "seq" and "prev". It returns the error of
// build or of the store, or says what is wrong with the leaf. After an error the
// writer stands where it stood before; whether the transaction can go on is for
// the store to say.
func (w *Writer) Append(build func(seq int64, prev tlog.Hash) ([]byte, error)) (seq int64, err error) {
	seq = w.head.Size()
	leaf, err := build(seq, w.head.Last())
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
	w.head = *next
	return seq, nil
}

// Head returns the number of leaves and their RFC 6962 root, with those that
// this writer has appended.
func (w *Writer) Head() (size int64, root tlog.Hash) {
	return w.head.Size(), w.head.Root()
}
