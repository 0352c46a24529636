package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

func testAllOrNothing(t *testing.T, s approvals.Store) {
	boom := errors.New("boom")
	update(t, s, func(tx approvals.Tx) error { return set(tx, "1") })
	err := s.Update(t.Context(), func(tx approvals.Tx) error {
		set(tx, "2")
		r := Request(0, "api", "")
		return errors.Join(Step(tx, &r), boom)
	})
	if !errors.Is(err, boom) {
		t.Errorf("error of fn: got %v; want %v", err, boom)
	}
	func() {
		defer func() {
			if got := recover(); got != "boom" {
				t.Errorf("panic of fn: got %v; want boom", got)
			}
		}()
		s.Update(t.Context(), func(tx approvals.Tx) error { set(tx, "3"); panic("boom") })
	}()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Update(ended, func(tx approvals.Tx) error { return set(tx, "4") }); !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: got %v; want %v", err, context.Canceled)
	}
	if err := s.View(ended, func(tx approvals.Tx) error { _, err := tx.AllKept("x"); return err }); !errors.Is(err, context.Canceled) {
		t.Errorf("view with an ended context: got %v; want %v", err, context.Canceled)
	}
	if got := get(t, s); got != "1" {
		t.Errorf("after failed updates: got %q; want 1", got)
	}
	view(t, s, func(tx approvals.Tx) error {
		all, err := tx.Requests(approvals.Filter{})
		size, err2 := tx.Ledger().Size()
		lanes, err3 := tx.Lanes(approvals.FamilySlack)
		if len(all) != 0 || size != 0 || len(lanes) != 0 {
			t.Errorf("after failed updates: got %d requests, %d leaves, %d lanes; want none", len(all), size, len(lanes))
		}
		return errors.Join(err, err2, err3)
	})
	// The end of a context does not end what has begun.
	running, stop := context.WithCancel(t.Context())
	if err := s.Update(running, func(tx approvals.Tx) error { stop(); return set(tx, "5") }); err != nil || get(t, s) != "5" {
		t.Errorf("context that ends meanwhile: got %v, %q; want it committed", err, get(t, s))
	}
}

func testDead(t *testing.T, s approvals.Store) {
	first := Request(1, "api", "w")
	update(t, s, func(tx approvals.Tx) error {
		return errors.Join(set(tx, "1"), tx.SaveRequest(&first))
	})
	err := s.Update(t.Context(), func(tx approvals.Tx) error {
		set(tx, "2")
		again := Request(1, "api", "w")
		if err := tx.SaveRequest(&again); !errors.Is(err, approvals.ErrConflict) {
			t.Errorf("got %v; want %v", err, approvals.ErrConflict)
		}
		return nil // as if nothing had happened
	})
	if !errors.Is(err, approvals.ErrConflict) || get(t, s) != "1" {
		t.Errorf("after a conflict: got %v, %q; want %v and 1", err, get(t, s), approvals.ErrConflict)
	}
	err = s.Update(t.Context(), func(tx approvals.Tx) error {
		if _, err := tx.Request("nobody"); !errors.Is(err, approvals.ErrNotFound) {
			t.Errorf("got %v; want %v", err, approvals.ErrNotFound)
		}
		if _, err := tx.Kept("no", "body"); !errors.Is(err, approvals.ErrNotFound) {
			t.Errorf("got %v; want %v", err, approvals.ErrNotFound)
		}
		if err := tx.Finish(work("nothing", 0, past(1))); !errors.Is(err, approvals.ErrLostClaim) {
			t.Errorf("got %v; want %v", err, approvals.ErrLostClaim)
		}
		return set(tx, "3")
	})
	if err != nil || get(t, s) != "3" {
		t.Errorf("after what is not there: got %v, %q; want it committed", err, get(t, s))
	}
}

func testView(t *testing.T, s approvals.Store) {
	update(t, s, func(tx approvals.Tx) error { return set(tx, "1") })
	view(t, s, func(tx approvals.Tx) error {
		before, err := tx.Kept("suite", "state")
		update(t, s, func(tx approvals.Tx) error { return set(tx, "2") })
		after, err2 := tx.Kept("suite", "state")
		if string(before) != "1" || string(after) != "1" {
			t.Errorf("in one view: got %q then %q; want 1 twice", before, after)
		}
		return errors.Join(err, err2)
	})
	for name, write := range map[string]func(approvals.Tx) error{
		"keep":   func(tx approvals.Tx) error { return set(tx, "3") },
		"secret": func(tx approvals.Tx) error { return tx.SetSecret("s", "x") },
		"ask":    func(tx approvals.Tx) error { return tx.Ask(work("a", 0, past(1))) },
		"claim":  func(tx approvals.Tx) error { _, err := tx.Claim(lane, 1, time.Hour); return err },
		"save":   func(tx approvals.Tx) error { r := Request(1, "api", ""); return tx.SaveRequest(&r) },
		"log":    func(tx approvals.Tx) error { _, err := Record(tx, "x", approvals.Event{}); return err },
	} {
		ask(t, s, work("there", 0, past(1)))
		if err := s.View(t.Context(), write); err == nil {
			t.Errorf("%s in a view: got no error", name)
		}
	}
	if got := get(t, s); got != "2" {
		t.Errorf("after the views: got %q; want 2", got)
	}
}

func testNow(t *testing.T, s approvals.Store) {
	var last time.Time
	for i := range 200 {
		run := s.Update
		if i%2 == 1 {
			run = s.View
		}
		err := run(t.Context(), func(tx approvals.Tx) error {
			now := tx.Now()
			if now.Before(last) || now.Location() != time.UTC || now.UnixNano()%1e6 != 0 {
				t.Errorf("got %v after %v; want UTC in milliseconds, not before", now, last)
			}
			if _, err := tx.AllKept("x"); err != nil || tx.Now() != now {
				t.Errorf("in one transaction: got %v and %v, %v", now, tx.Now(), err)
			}
			last = now
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if age := time.Since(last); age < -time.Minute || age > time.Minute {
		t.Errorf("it is %v behind", age)
	}
}

// testWriters has writers at once that succeed, fail, panic, end their goroutine
// or give up waiting. Each learns what became of its own change, and only that.
func testWriters(t *testing.T, s approvals.Store) {
	const writers, rounds = 24, 10
	var mu sync.Mutex
	kept := map[string]bool{} // what must be there
	var wg sync.WaitGroup
	for w := range writers {
		for round := range rounds {
			wg.Go(func() {
				id := fmt.Sprint(w, "-", round)
				if writeOne(t, s, w, id) {
					mu.Lock()
					kept[id] = true
					mu.Unlock()
				}
			})
		}
	}
	wg.Wait()
	want := len(kept)
	view(t, s, func(tx approvals.Tx) error {
		all, err := tx.Requests(approvals.Filter{})
		for i, r := range all {
			if !kept[r.ID] || r.Number != int64(want-i) {
				t.Errorf("got request %s under %d; want it %v, under %d", r.ID, r.Number, kept[r.ID], want-i)
			}
		}
		size, err2 := tx.Ledger().Size()
		if len(all) != want || size != int64(want) {
			t.Errorf("got %d requests and %d leaves; want %d", len(all), size, want)
		}
		return errors.Join(err, err2)
	})
}

// writeOne makes the request with the id in the way of writer w, and reports whether
// it has to be there.
func writeOne(t *testing.T, s approvals.Store, w int, id string) (kept bool) {
	boom := errors.New("boom")
	r := Request(0, "app"+fmt.Sprint(w%3), "")
	r.ID = id
	ran := 0
	change := func(tx approvals.Tx) error { ran++; return Step(tx, &r) }
	defer func() {
		if got := recover(); got != nil && got != id {
			t.Errorf("%s: got the panic of %v", id, got)
		}
		if ran > 1 {
			t.Errorf("%s: ran %d times; want once at the most", id, ran)
		}
	}()
	switch w % 6 {
	case 0:
		err := s.Update(t.Context(), func(tx approvals.Tx) error { return errors.Join(change(tx), fmt.Errorf("%s: %w", id, boom)) })
		if !errors.Is(err, boom) || err.Error() != id+": boom" {
			t.Errorf("%s: got %v; want its own error", id, err)
		}
		return false
	case 1:
		s.Update(t.Context(), func(tx approvals.Tx) error { change(tx); panic(id) })
		t.Errorf("%s: got no panic", id)
		return false
	case 2:
		ctx, cancel := context.WithCancel(t.Context())
		go cancel()
		err := s.Update(ctx, change)
		if (err == nil) != (ran == 1) || err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("%s: ran %d times, got %v", id, ran, err)
		}
		return err == nil
	default:
		if err := s.Update(t.Context(), change); err != nil {
			t.Errorf("%s: got %v; want nil", id, err)
		}
		view(t, s, func(tx approvals.Tx) error { // what is acknowledged is there
			_, err := tx.Request(id)
			return err
		})
		return true
	}
}

func testStamp(t *testing.T, s approvals.Store) {
	var had int64
	for i := range 4 { // of two nodes, each commits
		stamp, err := s.Stamp(t.Context())
		if err != nil || i > 0 && stamp == had {
			t.Errorf("stamp after %d commits: got %d, %v; want another one than before", i, stamp, err)
		}
		had = stamp
		update(t, s, func(tx approvals.Tx) error { return set(tx, fmt.Sprint(i)) })
	}
}
