package store_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/store"
	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

func ask(t *testing.T, db *store.DB, lane string, subjects ...string) {
	t.Helper()
	update(t, db, func(tx approvals.Tx) error {
		for _, s := range subjects {
			if err := tx.Ask(approvals.Work{Kind: "card", Subject: s, Lane: lane, Rank: 3}); err != nil {
				return err
			}
		}
		return nil
	})
}

func claim(t *testing.T, db *store.DB, lane string, n int) (out []approvals.Work) {
	t.Helper()
	update(t, db, func(tx approvals.Tx) (err error) {
		out, err = tx.Claim(lane, n, time.Hour)
		return err
	})
	return out
}

func standing(t *testing.T, db *store.DB, w approvals.Work) bool {
	t.Helper()
	var err error
	view(t, db, func(tx approvals.Tx) error { err = tx.Claimed(w); return nil })
	if err != nil && !errors.Is(err, approvals.ErrLostClaim) {
		t.Fatal(err)
	}
	return err == nil
}

// Claims end with their process, and only with theirs.
func TestLeaveAndJoin(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	one, two := storetest.Open(t, path, storetest.Keys), storetest.Open(t, path, storetest.Keys)
	ask(t, one, "f:a", "1", "2", "3")
	first, second := claim(t, one, "f:a", 1)[0], claim(t, two, "f:a", 1)[0]

	if err := one.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	if standing(t, one, first) || !standing(t, two, second) {
		t.Errorf("after a release: first %v, second %v; want only the second", standing(t, one, first), standing(t, two, second))
	}
	first = claim(t, one, "f:a", 1)[0]
	if first.Attempt != 2 {
		t.Errorf("claimed again: got attempt %d; want 2", first.Attempt)
	}
	update(t, one, func(tx approvals.Tx) error {
		return tx.Ask(approvals.Work{Kind: "card", Subject: second.Subject, Lane: "f:a", Rank: 1, Due: time.Now().Add(time.Hour)})
	})
	if err := one.Join(t.Context(), store.Node{}); err != nil {
		t.Fatal(err)
	}
	if !standing(t, one, first) || standing(t, two, second) {
		t.Errorf("after a takeover: first %v, second %v; want only the first", standing(t, one, first), standing(t, two, second))
	}
	got := claim(t, one, "f:a", 1)[0] // the rank it was asked for meanwhile, and due as before
	if got.Subject != second.Subject || got.Rank != 1 || got.Attempt != 2 {
		t.Errorf("taken over: got %+v; want %s with rank 1, attempt 2", got, second.Subject)
	}
}

func TestWorkStatsAndDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := storetest.New(t)
		begin := time.Now().UTC()
		ask(t, db, "slack:a", "1", "2")
		time.Sleep(time.Second)
		ask(t, db, "slack:b", "3")
		ask(t, db, "local:x", "4")
		held := claim(t, db, "local:x", 1)
		update(t, db, func(tx approvals.Tx) error {
			return tx.Ask(approvals.Work{Kind: "follow", Subject: "5", Lane: "circleci:w", Due: begin.Add(time.Hour)})
		})
		got, err := db.WorkStats(t.Context())
		want := map[string]store.FamilyStats{"slack": {Depth: 3, OldestDue: begin}, "local": {Depth: 1}, "circleci": {Depth: 1}}
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%v -want +got:\n%s", err, diff)
		}
		time.Sleep(time.Hour) // the lease is over, the other is due
		got, err = db.WorkStats(t.Context())
		want["local"] = store.FamilyStats{Depth: 1, OldestDue: held[0].Due}
		want["circleci"] = store.FamilyStats{Depth: 1, OldestDue: begin.Add(time.Hour)}
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("an hour later: %v -want +got:\n%s", err, diff)
		}

		if err := db.Doubt(t.Context()); err != nil {
			t.Fatal(err)
		}
		var attempts []int
		for _, w := range append(claim(t, db, "local:x", 1), claim(t, db, "slack:a", 2)...) {
			attempts = append(attempts, w.Attempt)
		}
		if fmt.Sprint(attempts) != "[2 2 2]" {
			t.Errorf("in doubt: got attempts %v; want 2 each", attempts)
		}
	})
}

// Work that was put off while the clock was ahead does not sleep until the clock gets
// there again.
func TestWorkAfterTheClockWasSetBack(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) *store.DB{
		"file":   func(t *testing.T) *store.DB { return storetest.New(t) },
		"server": func(t *testing.T) *store.DB { return storetest.OpenURL(t, storetest.Server(t), storetest.Keys) },
	} {
		t.Run(name, func(t *testing.T) {
			db := open(t)
			later := func(subject string, by time.Duration) {
				update(t, db, func(tx approvals.Tx) error {
					return tx.Ask(approvals.Work{Kind: "card", Subject: subject, Lane: "f:a", Due: tx.Now().Add(by)})
				})
			}
			ready := func() (subjects []string) {
				t.Helper()
				for _, w := range claim(t, db, "f:a", 10) {
					subjects = append(subjects, w.Subject)
				}
				return subjects
			}
			db.SetAhead(time.Hour)
			later("at once", -time.Minute)
			later("not yet", 2*time.Minute)
			if got := ready(); len(got) != 1 {
				t.Fatalf("while it was ahead: got %q; want what is due", got)
			}
			later("at once too", -time.Minute)
			db.SetAhead(0)
			if got := ready(); len(got) != 1 || got[0] != "at once too" {
				t.Errorf("after it was set back: got %q; want what was due before", got)
			}
			db.SetAhead(3 * time.Minute)
			if got := ready(); len(got) != 1 || got[0] != "not yet" {
				t.Errorf("three minutes later: got %q; want what was put off by two", got)
			}
		})
	}
}
