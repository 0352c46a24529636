package ledger

import (
	"crypto/sha256"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// edge is the right edge of a growing tree: the roots of its complete
// subtrees, greatest first. It gives the root of any number of leaves in
// memory that does not grow with them.
type edge struct {
	size   int64
	hashes []tlog.Hash // one for each bit set in size
}

func (e *edge) add(leaf tlog.Hash) {
	h := leaf
	for n := e.size; n&1 == 1; n >>= 1 {
		last := len(e.hashes) - 1
		h = tlog.NodeHash(e.hashes[last], h)
		e.hashes = e.hashes[:last]
	}
	e.hashes = append(e.hashes, h)
	e.size++
}

// with returns the root that one more leaf would give.
func (e edge) with(leaf tlog.Hash) tlog.Hash {
	e.hashes = slices.Clone(e.hashes)
	e.add(leaf)
	return e.root()
}

func (e edge) root() tlog.Hash {
	if e.size == 0 {
		return sha256.Sum256(nil) // RFC 6962 section 2.1
	}
	last := len(e.hashes) - 1
	h := e.hashes[last]
	for i := last - 1; i >= 0; i-- {
		h = tlog.NodeHash(e.hashes[i], h)
	}
	return h
}
