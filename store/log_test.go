package store_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
	"github.com/rack-gateway/rack-gateway-approvals/store"
	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

// logged makes a database with n events of requests r0, r1 and r2 in turn.
func logged(t testing.TB, n int) *store.DB {
	db := storetest.New(t)
	update(t, db, func(tx approvals.Tx) error {
		for i := range n {
			seq, err := record(tx, approvals.Event{Type: approvals.EventVoted, Request: fmt.Sprint("r", i%3), App: "api", Reason: "ünï <&> "})
			if err != nil || seq != int64(i) {
				return fmt.Errorf("append %d: got %d, %w", i, seq, err)
			}
		}
		return nil
	})
	return db
}

func TestLog(t *testing.T) {
	const n = 700 // more than two pages
	db := logged(t, n)
	view(t, db, func(tx approvals.Tx) error {
		size, err := tx.Ledger().Size()
		if size != n || err != nil {
			t.Errorf("size: got %d, %v; want %d", size, err, n)
		}
		for _, from := range []int64{0, 1, 256, 699, 700, 5000} {
			want := from
			for line, err := range tx.Leaves(from) {
				if err != nil {
					t.Fatal(err)
				}
				var e approvals.Event
				if json.Unmarshal(line, &e); e.Seq != want {
					t.Fatalf("leaves from %d: got %d; want %d", from, e.Seq, want)
				}
				proof, err := ledger.ProveInclusion(tx.Ledger(), e.Seq, n)
				root, err2 := ledger.Root(tx.Ledger(), n)
				if err != nil || err2 != nil || ledger.CheckInclusion(proof, ledger.Checkpoint{Size: n, Root: root}, e.Seq, line) != nil {
					t.Fatalf("leaf %d: %v, %v; want a proof that holds", e.Seq, err, err2)
				}
				want++
			}
			if want != max(n, from) {
				t.Errorf("leaves from %d: ended at %d; want %d", from, want, n)
			}
		}
		for line := range tx.Leaves(0) {
			if !strings.Contains(string(line), `"seq":0`) {
				t.Errorf("first leaf: got %s", line)
			}
			break
		}
		events, err := tx.EventsOf("r1")
		if err != nil || len(events) != 233 || events[0].Seq != 1 || events[232].Seq != 697 {
			t.Errorf("events of r1: got %d, %v; want 233 from 1 to 697", len(events), err)
		}
		if events, err := tx.EventsOf(""); len(events) != 0 || err != nil {
			t.Errorf("events of no request: got %d, %v; want none", len(events), err)
		}
		e, err := tx.Event(5)
		if err != nil || e.Seq != 5 || e.Request != "r2" || e.Reason != "ünï <&> " {
			t.Errorf("event 5: got %+v, %v", e, err)
		}
		if _, err := tx.Event(n); !errors.Is(err, approvals.ErrNotFound) {
			t.Errorf("event %d: got %v; want %v", n, err, approvals.ErrNotFound)
		}
		return nil
	})

	ctx := timeout(t, 1_000_000)
	err := db.View(ctx, func(tx approvals.Tx) error {
		for line, err := range tx.Leaves(-1) {
			return fmt.Errorf("%w, line %q", err, line)
		}
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "leaf -1 is missing") {
		t.Errorf("leaves from -1: got %v; want an error", err)
	}
}

func TestLogIsAppendOnly(t *testing.T) {
	db := logged(t, 5)
	for _, sql := range []string{
		"UPDATE audit SET line = 'x' WHERE seq = 1",
		"DELETE FROM audit WHERE seq = 4",
		"INSERT OR REPLACE INTO audit (seq, line) VALUES (1, 'x')",
		"UPDATE audit_hashes SET hash = zeroblob(32)",
		"DELETE FROM audit_hashes",
		"REPLACE INTO audit_hashes (position, hash) VALUES (0, zeroblob(32))",
		"UPDATE audit_index SET request = ''",
		"DELETE FROM audit_index",
		"REPLACE INTO audit_index (seq, request, app, type) VALUES (0, '', '', '')",
		"INSERT INTO audit_index (seq, request, app, type) VALUES (99, '', '', '')",
	} {
		if err := db.RawSQL(sql); err == nil {
			t.Errorf("%s: got no error", sql)
		}
	}
	// A hole that was made all the same does not pass unseen.
	raw(t, db, "DROP TRIGGER audit_no_delete")
	raw(t, db, "DELETE FROM audit_index WHERE 0; PRAGMA foreign_keys=OFF; DELETE FROM audit WHERE seq = 2; PRAGMA foreign_keys=ON")
	view(t, db, func(tx approvals.Tx) error {
		var last error
		for _, err := range tx.Leaves(0) {
			last = err
		}
		if last == nil || !strings.Contains(last.Error(), "leaf 2 is missing") {
			t.Errorf("leaves with a hole: got %v; want leaf 2 is missing", last)
		}
		return nil
	})
}
