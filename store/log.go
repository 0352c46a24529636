package store

import (
	"fmt"
	"iter"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
)

// leafPage is how many leaves are held in memory while a log is read.
const leafPage = 256

// storage is the log inside one transaction. It reads the size anew each time:
// other programs append too.
type storage struct{ t *tx }

func (t *tx) Ledger() ledger.Storage { return storage{t} }

func (s storage) Size() (int64, error) {
	var size int64
	err := s.t.get("SELECT coalesce(max(seq) + 1, 0) FROM audit", nil, &size)
	return size, err
}

func (s storage) Append(leaf []byte, hashes []tlog.Hash) error {
	_, err := s.t.exec("INSERT INTO audit (seq, line) SELECT coalesce(max(seq) + 1, 0), ? FROM audit", string(leaf))
	if err != nil {
		return err
	}
	for _, h := range hashes {
		_, err := s.t.exec("INSERT INTO audit_hashes (position, hash) SELECT coalesce(max(position) + 1, 0), ? FROM audit_hashes", h[:])
		if err != nil {
			return err
		}
	}
	return nil
}

func (s storage) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, at := range indexes {
		var hash []byte
		if err := s.t.get("SELECT hash FROM audit_hashes WHERE position = ?", []any{at}, &hash); err != nil {
			return nil, fmt.Errorf("read hash %d: %w", at, err)
		}
		if copy(out[i][:], hash) != len(out[i]) {
			return nil, fmt.Errorf("read hash %d: it is cut", at)
		}
	}
	return out, nil
}

func (t *tx) Index(seq int64, e approvals.Event) error {
	_, err := t.exec("INSERT INTO audit_index (seq, request, app, type) VALUES (?, ?, ?, ?)", seq, e.Request, e.App, e.Type)
	return err
}

func (t *tx) Event(seq int64) (approvals.Event, error) {
	var line []byte
	if err := t.get("SELECT line FROM audit WHERE seq = ?", []any{seq}, &line); err != nil {
		return approvals.Event{}, err
	}
	e, err := approvals.ParseEvent(line)
	if err != nil {
		return approvals.Event{}, fmt.Errorf("read event %d: %w", seq, err)
	}
	return e, nil
}

func (t *tx) EventsOf(request string) ([]approvals.Event, error) {
	if request == "" {
		return nil, nil
	}
	var out []approvals.Event
	err := t.each(`SELECT seq, line FROM audit_index JOIN audit USING (seq) WHERE request = ? ORDER BY seq`, []any{request},
		func(scan func(...any) error) error {
			var seq int64
			var line []byte
			if err := scan(&seq, &line); err != nil {
				return err
			}
			e, err := approvals.ParseEvent(line)
			if err != nil {
				return fmt.Errorf("read event %d: %w", seq, err)
			}
			out = append(out, e)
			return nil
		})
	return out, err
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

// leaves returns leaves from on. A hole, which only somebody else can have made,
// is an error: page by page it would pass unseen.
func (t *tx) leaves(from int64) ([][]byte, error) {
	if err := t.ctx.Err(); err != nil {
		return nil, err
	}
	var page [][]byte
	err := t.each("SELECT seq, line FROM audit WHERE seq >= ? ORDER BY seq LIMIT ?", []any{from, leafPage}, func(scan func(...any) error) error {
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
