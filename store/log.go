package store

import (
	"errors"
	"fmt"
	"iter"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
)

// leafPage is how many leaves are held in memory while a log is read.
const leafPage = 256

// storage is the log inside one transaction. It reads the size anew each time:
// other programs append too.
type storage struct{ t *tx }

func (t *tx) Ledger() ledger.Storage { return storage{t} }

func (s storage) Size() (size int64, err error) {
	err = s.t.get("SELECT coalesce(max(seq) + 1, 0) FROM audit", nil, &size)
	return size, err
}

func (s storage) Append(leaf []byte, hashes []tlog.Hash) error {
	if !isClean(string(leaf)) {
		return s.t.failed(errors.New("append to the log: the leaf is no clean UTF-8"))
	}
	var seq int64
	err := s.t.get("INSERT INTO audit (seq, line) SELECT coalesce(max(seq) + 1, 0), ? FROM audit RETURNING seq", []any{string(leaf)}, &seq)
	if err != nil || len(hashes) == 0 {
		return err
	}
	var rows [][]any
	for i, h := range hashes {
		rows = append(rows, []any{tlog.StoredHashCount(seq) + int64(i), h[:]})
	}
	return writeRows(s.t, "audit_hashes", []string{"position", "hash"}, rows)
}

// ReadHashes reads them with one statement: package ledger asks for a good thousand at
// the most, and a database takes some ten thousand parameters.
func (s storage) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	if len(indexes) == 0 {
		return nil, nil
	}
	args := make([]any, len(indexes))
	for i, at := range indexes {
		args[i] = at
	}
	found := make(map[int64]tlog.Hash, len(indexes))
	err := s.t.each("SELECT position, hash FROM audit_hashes WHERE position IN "+marks(len(args)), args, func(scan func(...any) error) error {
		var at int64
		var raw []byte
		var h tlog.Hash
		if err := scan(&at, &raw); err != nil {
			return err
		}
		if copy(h[:], raw) != len(h) {
			return fmt.Errorf("read hash %d: it is cut", at)
		}
		found[at] = h
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := make([]tlog.Hash, len(indexes))
	for i, at := range indexes {
		var there bool
		if out[i], there = found[at]; !there {
			return nil, s.t.failed(fmt.Errorf("read hash %d: it is missing", at))
		}
	}
	return out, nil
}

func (t *tx) Index(seq int64, subject string) error {
	return t.exec("INSERT INTO audit_index (subject, seq) VALUES (?, ?)", subject, seq)
}

const selectHistory = `SELECT line FROM audit_index i JOIN audit a ON a.seq = i.seq
	WHERE i.subject = ? AND i.seq > ? ORDER BY i.seq`

func (t *tx) History(subject string, after int64) ([][]byte, error) {
	return list(t, single[[]byte], selectHistory, subject, after)
}

// Leaves reads a page at a time, so that memory stays small and whoever ranges
// may use the transaction in between.
func (t *tx) Leaves(from int64) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for {
			page, err := t.leaves(from)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, line := range page {
				if !yield(line, nil) {
					return
				}
			}
			if len(page) < leafPage {
				return
			}
			from += leafPage
		}
	}
}

const selectLeaves = "SELECT seq, line FROM audit WHERE seq >= ? ORDER BY seq LIMIT ?"

// leaves returns leaves from on. A hole, which only somebody else can have made,
// is an error: page by page it would pass unseen.
func (t *tx) leaves(from int64) ([][]byte, error) {
	var page [][]byte
	err := t.each(selectLeaves, []any{from, leafPage}, func(scan func(...any) error) error {
		var seq int64
		var line []byte
		if err := scan(&seq, &line); err != nil {
			return err
		}
		if want := from + int64(len(page)); seq != want {
			return fmt.Errorf("read log: leaf %d is missing", want)
		}
		page = append(page, line)
		return nil
	})
	return page, err
}
