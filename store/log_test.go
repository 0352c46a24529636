package store_test

import (
	"strings"
	"testing"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

func TestLogIsAppendOnly(t *testing.T) {
	db := storetest.New(t)
	for range 5 {
		update(t, db, func(tx approvals.Tx) error {
			_, err := storetest.Record(tx, "r", approvals.Event{Type: approvals.EventVoted})
			return err
		})
	}
	for _, sql := range []string{
		"UPDATE audit SET line = 'x' WHERE seq = 1",
		"DELETE FROM audit WHERE seq = 4",
		"INSERT OR REPLACE INTO audit (seq, line) VALUES (1, 'x')",
		"UPDATE audit_hashes SET hash = zeroblob(32)",
		"DELETE FROM audit_hashes",
		"REPLACE INTO audit_hashes (position, hash) VALUES (0, zeroblob(32))",
		"UPDATE audit_index SET subject = 's'",
		"DELETE FROM audit_index",
		"REPLACE INTO audit_index (subject, seq) VALUES ('r', 0)",
		"INSERT INTO audit_index (subject, seq) VALUES ('r', 99)",
	} {
		if err := db.RawSQL(sql); err == nil {
			t.Errorf("%s: got no error", sql)
		}
	}
	// Holes that were made all the same do not pass unseen.
	raw(t, db, "DROP TRIGGER audit_no_delete; DROP TRIGGER audit_hashes_no_delete; DROP TRIGGER audit_index_no_delete")
	raw(t, db, "DELETE FROM audit_index WHERE seq = 2; DELETE FROM audit WHERE seq = 2; DELETE FROM audit_hashes WHERE position = 3")
	for from, want := range map[int64]string{0: "leaf 2 is missing", 2: "leaf 2 is missing", -1: "leaf -1 is missing"} {
		view(t, db, func(tx approvals.Tx) error {
			var last error
			for _, err := range tx.Leaves(from) {
				last = err
			}
			if last == nil || !strings.Contains(last.Error(), want) {
				t.Errorf("leaves from %d: got %v; want %s", from, last, want)
			}
			return nil
		})
	}
	view(t, db, func(tx approvals.Tx) error {
		if _, err := tx.Ledger().ReadHashes([]int64{2, 3}); err == nil || !strings.Contains(err.Error(), "hash 3") {
			t.Errorf("hash that is gone: got %v; want an error", err)
		}
		return nil
	})
}
