package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

func testKept(t *testing.T, s approvals.Store) {
	var want [][]byte
	for i := range 12 {
		// The order is neither that of the ids nor that of the changes.
		state := []byte(fmt.Sprintf("\x00\xff %d", i))
		update(t, s, func(tx approvals.Tx) error {
			return errors.Join(tx.Keep("person", fmt.Sprint(20-i), []byte("first")), tx.Keep("token", fmt.Sprint(i), nil))
		})
		want = append(want, state)
	}
	for i := range 12 {
		i = 11 - i
		update(t, s, func(tx approvals.Tx) error { return tx.Keep("person", fmt.Sprint(20-i), want[i]) })
	}
	view(t, s, func(tx approvals.Tx) error {
		got, err := tx.AllKept("person")
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("people: %v, -want +got:\n%s", err, diff)
		}
		if tokens, err := tx.AllKept("token"); len(tokens) != 12 || len(tokens[0]) != 0 || err != nil {
			t.Errorf("tokens: got %d, %v; want 12 empty ones", len(tokens), err)
		}
		if none, err := tx.AllKept("other"); len(none) != 0 || err != nil {
			t.Errorf("another kind: got %d, %v; want none", len(none), err)
		}
		one, err := tx.Kept("person", "18")
		if diff := cmp.Diff(want[2], one); diff != "" || err != nil {
			t.Errorf("one person: %v, -want +got:\n%s", err, diff)
		}
		if _, err := tx.Kept("token", "18"); !errors.Is(err, approvals.ErrNotFound) {
			t.Errorf("id of another kind: got %v; want %v", err, approvals.ErrNotFound)
		}
		return nil
	})
}

func testSecrets(t *testing.T, s approvals.Store) {
	for _, tt := range []struct{ set, want string }{{"s1", "s1"}, {"s2", "s2"}, {"", ""}, {"s3", "s3"}, {"s3", "s3"}} {
		update(t, s, func(tx approvals.Tx) error { return tx.SetSecret("a", tt.set) })
		view(t, s, func(tx approvals.Tx) error {
			for name, want := range map[string]string{"a": tt.want, "b": ""} {
				if got, err := tx.Secret(name); got != want || err != nil {
					t.Errorf("secret %s: got %q, %v; want %q", name, got, err, want)
				}
			}
			return nil
		})
	}
	update(t, s, func(tx approvals.Tx) error { return tx.SetSecret("never there", "") })
}

// testUnclean stores what a database may refuse: NUL, and bytes that are no UTF-8.
func testUnclean(t *testing.T, s approvals.Store) {
	const bad = "a\x00b\xff"
	r := Request(1, bad, bad)
	r.Environment, r.Facts.Branch, r.Facts.Revision = bad, bad, bad
	update(t, s, func(tx approvals.Tx) error {
		_, err := Record(tx, bad, approvals.Event{Type: approvals.EventVoted, Reason: bad})
		return errors.Join(err, tx.SaveRequest(&r), tx.Keep(bad, bad, []byte(bad)), tx.SetSecret(bad, bad),
			tx.Ask(approvals.Work{Kind: bad, Subject: bad, Lane: lane}))
	})
	w := claim(t, s, lane, 1, time.Hour)[0]
	w.Note, w.Due = bad, past(1)
	if err := finish(s, t, w); err != nil {
		t.Errorf("finish: got %v; want nil", err)
	}
	view(t, s, func(tx approvals.Tx) error {
		found, err := tx.Requests(approvals.Filter{Apps: []string{bad}, Environment: bad, Branch: bad, WorkflowID: bad, Revision: bad})
		if len(found) != 1 || err != nil {
			t.Errorf("requests: got %d, %v; want 1", len(found), err)
		}
		if _, err := tx.Request(bad); !errors.Is(err, approvals.ErrNotFound) {
			t.Errorf("request: got %v; want %v", err, approvals.ErrNotFound)
		}
		kept, err := tx.Kept(bad, bad)
		secret, err2 := tx.Secret(bad)
		history, err3 := tx.History(bad, -1)
		if string(kept) != bad || secret != bad || len(history) != 1 {
			t.Errorf("got %q, %q and %d events, %v; want what was stored", kept, secret, len(history), errors.Join(err, err2, err3))
		}
		return nil
	})
}
