// Package ledgertest has a log in memory for tests of packages that use a
// ledger. It has no transactions and is not safe for concurrent use.
package ledgertest

import (
	"bytes"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
)

// Memory is a ledger.Storage. The zero value is an empty log.
type Memory struct {
	leaves [][]byte
	hashes []tlog.Hash
}

// Size returns the number of leaves.
func (m *Memory) Size() (int64, error) {
	return int64(len(m.leaves)), nil
}

// Append stores a leaf and its hashes. It refuses a wrong number of hashes,
// which a table would keep silently.
func (m *Memory) Append(leaf []byte, hashes []tlog.Hash) error {
	n := int64(len(m.leaves))
	if got, want := int64(len(hashes)), tlog.StoredHashCount(n+1)-tlog.StoredHashCount(n); got != want {
		return fmt.Errorf("got %d hashes for leaf %d; want %d", got, n, want)
	}
	m.leaves = append(m.leaves, bytes.Clone(leaf))
	m.hashes = append(m.hashes, hashes...)
	return nil
}

// ReadHashes returns stored hashes by position.
func (m *Memory) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, 0, len(indexes))
	for _, i := range indexes {
		if i < 0 || i >= int64(len(m.hashes)) {
			return nil, fmt.Errorf("hash %d is not stored", i)
		}
		hashes = append(hashes, m.hashes[i])
	}
	return hashes, nil
}

// Leaf returns a copy of leaf number seq. It panics if there is none.
func (m *Memory) Leaf(seq int64) []byte {
	return bytes.Clone(m.leaves[seq])
}

// Export returns all leaves, one per line.
func (m *Memory) Export() []byte {
	var b bytes.Buffer
	for _, leaf := range m.leaves {
		b.Write(leaf)
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// Append appends one leaf to a log, with a writer of its own.
func Append(s ledger.Storage, build func(seq int64, prev tlog.Hash) ([]byte, error)) (seq int64, err error) {
	w, err := ledger.NewWriter(s)
	if err != nil {
		return 0, err
	}
	return w.Append(build)
}
