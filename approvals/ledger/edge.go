package ledger

import (
	"crypto/sha256"
	"fmt"
	"math/bits"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// Edge is the right edge of a growing tree: the roots of its complete
// subtrees, the greatest first. It gives the root of any number of leaves, and
// holds at most 32 bytes for each binary digit of that number. The zero value is
// the edge of an empty tree.
//
// An assignment shares memory with the original. To add leaves to both, take a
// Clone. An Edge is not safe for concurrent use.
type Edge struct {
	size   int64
	hashes []tlog.Hash // one for each bit set in size
}

// readEdge reads the edge of the first size leaves and the hash of the last of
// them, which is zero where there is none. The log must have so many leaves.
func readEdge(s Storage, size int64) (e Edge, last tlog.Hash, err error) {
	if size == 0 {
		return Edge{}, tlog.Hash{}, nil
	}
	indexes := make([]int64, 0, bits.OnesCount64(uint64(size))+1)
	for rest := uint64(size); rest != 0; {
		level := bits.Len64(rest) - 1
		rest &^= 1 << level
		before := size - int64(rest) - 1<<level // leaves to the left of this subtree
		indexes = append(indexes, tlog.StoredHashIndex(level, before>>level))
	}
	subtrees := len(indexes)
	if size&1 == 0 { // in a tree of odd size the last leaf is a subtree by itself
		indexes = append(indexes, tlog.StoredHashIndex(0, size-1))
	}
	hashes, err := s.ReadHashes(indexes)
	if err != nil {
		return Edge{}, tlog.Hash{}, fmt.Errorf("read edge of %d leaves: %w", size, err)
	}
	if len(hashes) != len(indexes) {
		return Edge{}, tlog.Hash{}, fmt.Errorf("read edge of %d leaves: got %d hashes for %d positions", size, len(hashes), len(indexes))
	}
	return Edge{size: size, hashes: slices.Clone(hashes[:subtrees])}, hashes[len(hashes)-1], nil
}

// Size returns the number of leaves.
func (e *Edge) Size() int64 { return e.size }

// Add adds one leaf by its hash (see tlog.RecordHash). It returns the hashes to store for it,
// in tlog's storage order: the hash of the leaf, then those of the subtrees that it
// completes, the smallest first.
func (e *Edge) Add(leaf tlog.Hash) []tlog.Hash {
	completed := bits.TrailingZeros64(^uint64(e.size))
	stored := append(make([]tlog.Hash, 0, completed+1), leaf)
	for range completed {
		last := len(e.hashes) - 1
		stored = append(stored, tlog.NodeHash(e.hashes[last], stored[len(stored)-1]))
		e.hashes = e.hashes[:last]
	}
	e.hashes = append(e.hashes, stored[completed])
	e.size++
	return stored
}

// Root returns the RFC 6962 root of the leaves so far.
func (e *Edge) Root() tlog.Hash {
	if e.size == 0 {
		return sha256.Sum256(nil) // RFC 6962 section 2.1
	}
	last := len(e.hashes) - 1
	root := e.hashes[last]
	for _, subtree := range slices.Backward(e.hashes[:last]) {
		root = tlog.NodeHash(subtree, root)
	}
	return root
}

// Clone returns a copy that shares no memory with e.
func (e Edge) Clone() Edge {
	e.hashes = slices.Clone(e.hashes)
	return e
}
