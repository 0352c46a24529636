package ledger

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// Reader checks leaves one by one, in their order, as they are read from a
// store or an export: each has the next number and names the hash of the leaf
// before it. It remembers nothing but the right edge of the tree, so that a process
// can keep one for as long as it runs and catch up with the leaves that others
// append. Whether the root is the one that was signed is for the caller to
// compare. The zero value is at the start of a log.
//
// A Reader is not safe for concurrent use. An assignment shares memory with the
// original; whoever may have to go back to an earlier state takes a Clone.
type Reader struct {
	size int64
	edge []tlog.Hash // roots of the complete subtrees, the greatest first: one for each bit set in size
	last tlog.Hash
}

// Next checks the next line, without its newline, and adds it to the tree. It
// returns a *TamperError with the number Size if the line cannot be that leaf;
// then the reader stays where it was.
func (r *Reader) Next(line []byte) error {
	hash, err := r.check(line)
	if err != nil {
		return &TamperError{Seq: r.size, Why: err.Error()}
	}
	r.add(hash)
	return nil
}

// Size returns the number of leaves read, which is the number of the next one.
func (r *Reader) Size() int64 { return r.size }

// Last returns the hash of the last leaf read: 32 zero bytes where there is
// none. The next leaf names it as "prev".
func (r *Reader) Last() tlog.Hash { return r.last }

// Root returns the RFC 6962 root of the leaves read.
func (r *Reader) Root() tlog.Hash {
	if r.size == 0 {
		return sha256.Sum256(nil) // RFC 6962 section 2.1
	}
	last := len(r.edge) - 1
	root := r.edge[last]
	for _, subtree := range slices.Backward(r.edge[:last]) {
		root = tlog.NodeHash(subtree, root)
	}
	return root
}

// Clone returns a copy that shares no memory with r.
func (r *Reader) Clone() *Reader {
	return &Reader{size: r.size, edge: slices.Clone(r.edge), last: r.last}
}

// errUnlinked says that the "prev" of a leaf is not the hash of the leaf before
// it. One of the two was changed.
var errUnlinked = errors.New("it does not name the leaf before it")

// check returns the hash of the line if it can be the next leaf. The hash is
// returned with errUnlinked, too.
func (r *Reader) check(line []byte) (tlog.Hash, error) {
	h, err := parseHeader(line)
	switch {
	case err != nil:
		return tlog.Hash{}, err
	case h.seq > r.size:
		return tlog.Hash{}, fmt.Errorf("missing: leaf %d stands in its place", h.seq)
	case h.seq < r.size:
		return tlog.Hash{}, fmt.Errorf("leaf %d stands in its place", h.seq)
	case h.prev != r.last && r.size == 0:
		return tlog.Hash{}, errors.New("it names a leaf before it: the beginning is missing")
	case h.prev != r.last:
		return tlog.RecordHash(line), errUnlinked
	}
	return tlog.RecordHash(line), nil
}

// add takes in a leaf that was checked. It returns the hashes to store for it, in
// tlog's storage order: the hash of the leaf, then those of the subtrees that it
// completes, the smallest first.
func (r *Reader) add(leaf tlog.Hash) []tlog.Hash {
	completed := bits.TrailingZeros64(^uint64(r.size))
	stored := append(make([]tlog.Hash, 0, completed+1), leaf)
	for range completed {
		last := len(r.edge) - 1
		stored = append(stored, tlog.NodeHash(r.edge[last], stored[len(stored)-1]))
		r.edge = r.edge[:last]
	}
	r.edge = append(r.edge, stored[completed])
	r.last = leaf
	r.size++
	return stored
}
