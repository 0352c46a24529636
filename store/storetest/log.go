package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
)

func testLog(t *testing.T, s approvals.Store) {
	const n = 700 // more than a store reads at once
	update(t, s, func(tx approvals.Tx) error {
		for i := range n {
			seq, err := Record(tx, fmt.Sprint("r", i%3), approvals.Event{Type: approvals.EventVoted, Request: fmt.Sprint("r", i%3), Reason: "ünï <&> "})
			if err != nil || seq != int64(i) {
				return fmt.Errorf("append %d: got %d, %w", i, seq, err)
			}
		}
		return nil
	})
	boom := errors.New("boom")
	err := s.Update(t.Context(), func(tx approvals.Tx) error { // leaves no trace
		if _, err := Record(tx, "r1", approvals.Event{Type: approvals.EventVoted}); err != nil {
			return err
		}
		return boom
	})
	if !errors.Is(err, boom) {
		t.Fatalf("got %v; want %v", err, boom)
	}
	view(t, s, func(tx approvals.Tx) error {
		size, err := tx.Ledger().Size()
		if size != n || err != nil {
			t.Errorf("size: got %d, %v; want %d", size, err, n)
		}
		testLeaves(t, tx, n)
		testHistory(t, tx)
		testHashes(t, tx.Ledger(), n)
		return nil
	})
}

func testLeaves(t *testing.T, tx approvals.Tx, n int64) {
	root, err := ledger.Root(tx.Ledger(), n)
	if err != nil {
		t.Fatal(err)
	}
	for _, from := range []int64{0, 1, 256, 699, 700, 5000} {
		want := from
		for line, err := range tx.Leaves(from) {
			if err != nil {
				t.Fatal(err)
			}
			e, err := approvals.ParseEvent(line)
			if err != nil || e.Seq != want {
				t.Fatalf("leaves from %d: got %d, %v; want %d", from, e.Seq, err, want)
			}
			proof, err := tlog.ProveRecord(n, e.Seq, tx.Ledger())
			if err != nil || tlog.CheckRecord(proof, n, root, e.Seq, tlog.RecordHash(line)) != nil {
				t.Fatalf("leaf %d: %v; want a proof that holds", e.Seq, err)
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
}

func testHistory(t *testing.T, tx approvals.Tx) {
	for _, tt := range []struct {
		subject string
		after   int64
		count   int
		first   int64
	}{{"r1", -1, 233, 1}, {"r1", 1, 232, 4}, {"r1", 600, 33, 601}, {"r1", 697, 0, 0}, {"r", -1, 0, 0}, {"", -1, 0, 0}} {
		lines, err := tx.History(tt.subject, tt.after)
		if len(lines) != tt.count || err != nil {
			t.Errorf("history of %q after %d: got %d, %v; want %d", tt.subject, tt.after, len(lines), err, tt.count)
			continue
		}
		for i, line := range lines {
			e, err := approvals.ParseEvent(line)
			if want := tt.first + 3*int64(i); err != nil || e.Seq != want || e.Reason != "ünï <&> " {
				t.Errorf("history of %q: got %+v, %v; want %d", tt.subject, e, err, want)
			}
		}
	}
}

// testHashes reads in any order, the same one twice, and what is not there.
func testHashes(t *testing.T, log ledger.Storage, n int64) {
	all := make([]int64, tlog.StoredHashCount(n))
	for i := range all {
		all[i] = int64(i)
	}
	ordered, err := log.ReadHashes(all)
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(all)
	reversed, err := log.ReadHashes(append(all, 5, 5))
	if err != nil {
		t.Fatal(err)
	}
	for i, at := range append(all, 5, 5) {
		if reversed[i] != ordered[at] {
			t.Fatalf("hash %d differs", at)
		}
	}
	if got, err := log.ReadHashes(nil); len(got) != 0 || err != nil {
		t.Errorf("no hashes: got %d, %v", len(got), err)
	}
	if _, err := log.ReadHashes([]int64{0, int64(len(all))}); err == nil {
		t.Error("hash that is not there: got no error")
	}
}
