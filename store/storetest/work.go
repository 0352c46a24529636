package storetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

const lane = "slack:C1/api"

func ask(t testing.TB, s approvals.Store, work ...approvals.Work) {
	t.Helper()
	update(t, s, func(tx approvals.Tx) error {
		for _, w := range work {
			if err := tx.Ask(w); err != nil {
				return err
			}
		}
		return nil
	})
}

func claim(t testing.TB, s approvals.Store, lane string, n int, lease time.Duration) (out []approvals.Work) {
	t.Helper()
	update(t, s, func(tx approvals.Tx) (err error) {
		out, err = tx.Claim(lane, n, lease)
		return err
	})
	return out
}

func finish(s approvals.Store, t testing.TB, w approvals.Work) error {
	return s.Update(t.Context(), func(tx approvals.Tx) error { return tx.Finish(w) })
}

func claimed(t testing.TB, s approvals.Store, w approvals.Work) (err error) {
	t.Helper()
	view(t, s, func(tx approvals.Tx) error { err = tx.Claimed(w); return nil })
	return err
}

// past is due, the smaller the number the longer.
func past(n int) time.Time { return time.UnixMilli(1_600_000_000_000 + int64(n)).UTC() }

func work(subject string, rank int, due time.Time) approvals.Work {
	return approvals.Work{Kind: approvals.WorkCard, Subject: subject, Lane: lane, Rank: rank, Due: due}
}

// brief shows the work without what is the store's own.
func brief(work []approvals.Work) (out []string) {
	for _, w := range work {
		out = append(out, fmt.Sprintf("%s/%s %d %d", w.Kind, w.Subject, w.Rank, w.Attempt))
	}
	return out
}

func testAsk(t *testing.T, s approvals.Store) {
	later := time.Now().Add(time.Hour)
	other := work("a", 1, past(1))
	other.Lane, other.Kind = "circleci:x", approvals.WorkThread
	moved := work("a", 9, later)
	moved.Lane = "slack:C2/api"
	ask(t, s, work("a", 5, later), work("a", 7, past(3)), work("a", 2, past(4)), moved, other)
	got := claim(t, s, lane, 10, time.Minute)
	want := []approvals.Work{{Kind: approvals.WorkCard, Subject: "a", Lane: lane, Rank: 2, Due: past(3), Attempt: 1}}
	if len(got) == 1 {
		want[0].Claim = got[0].Claim
	}
	if diff := cmp.Diff(want, got); diff != "" || got[0].Claim == "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := claim(t, s, moved.Lane, 10, time.Minute); len(got) != 0 {
		t.Errorf("the other lane: got %v; want nothing", got)
	}
	if got := claim(t, s, other.Lane, 10, time.Minute); len(got) != 1 {
		t.Errorf("another kind: got %v; want it", got)
	}

	ask(t, s, approvals.Work{Kind: approvals.WorkPeople, Lane: "local:people"}) // due now, without a subject
	if got := claim(t, s, "local:people", 1, time.Minute); len(got) != 1 {
		t.Errorf("without a time: got %v; want it", got)
	}
	for _, bad := range []string{"", "slack", ":x", "slack:"} {
		w := work("bad", 0, past(1))
		w.Lane = bad
		if err := s.Update(t.Context(), func(tx approvals.Tx) error { return tx.Ask(w) }); err == nil {
			t.Errorf("lane %q: got no error", bad)
		}
	}
}

func testClaimOrder(t *testing.T, s approvals.Store) {
	later := time.Now().Add(time.Hour)
	ask(t, s, work("late", 0, later), work("b", 1, past(3)), work("a", 1, past(2)), work("c", 1, past(1)), work("d", 3, past(0)), work("e", -2, past(9)))
	for _, tt := range []struct {
		n    int
		want []string
	}{{0, nil}, {2, []string{"card/e -2 1", "card/c 1 1"}}, {1, []string{"card/a 1 1"}}, {9, []string{"card/b 1 1", "card/d 3 1"}}, {9, nil}} {
		if diff := cmp.Diff(tt.want, brief(claim(t, s, lane, tt.n, time.Minute))); diff != "" {
			t.Errorf("claim of %d: -want +got:\n%s", tt.n, diff)
		}
	}
	if got := claim(t, s, "slack:C1", 9, time.Minute); len(got) != 0 {
		t.Errorf("a lane that is a prefix: got %v; want nothing", got)
	}
	ask(t, s, work("z", 7, past(1)), work("y", 7, past(1)))
	ask(t, s, work("x", 7, past(1)))
	if diff := cmp.Diff([]string{"card/z 7 1", "card/y 7 1", "card/x 7 1"}, brief(claim(t, s, lane, 9, time.Minute))); diff != "" {
		t.Errorf("due at the same time: -want +got:\n%s", diff)
	}
}

func testLanes(t *testing.T, s approvals.Store) {
	lanes := func() (out []approvals.Lane) {
		view(t, s, func(tx approvals.Tx) (err error) { out, err = tx.Lanes("slack"); return err })
		return out
	}
	if got := lanes(); len(got) != 0 {
		t.Errorf("without work: got %v; want none", got)
	}
	later := time.UnixMilli(time.Now().Add(time.Hour).UnixMilli()).UTC()
	in := func(lane, subject string, rank int, due time.Time) approvals.Work {
		w := work(subject, rank, due)
		w.Lane = lane
		return w
	}
	ask(t, s,
		in("slack:a", "1", 0, later), in("slack:a", "2", 5, past(7)),
		in("slack:b", "3", 0, later), in("slack:b", "4", 0, past(1)),
		in("slack:c", "5", 0, past(1)),
		in("slackish:a", "6", 0, past(0)), in("circleci:w", "7", 0, past(0)))
	all := []approvals.Lane{{Name: "circleci:w", Due: past(0)}, {Name: "slack:a", Due: past(7)}, {Name: "slack:b", Due: past(1)}, {Name: "slack:c", Due: past(1)}, {Name: "slackish:a", Due: past(0)}}
	view(t, s, func(tx approvals.Tx) error {
		got, err := tx.Lanes("")
		if diff := cmp.Diff(all, got); diff != "" {
			t.Errorf("of all families: -want +got:\n%s", diff)
		}
		return err
	})
	held := append(claim(t, s, "slack:b", 1, time.Hour), claim(t, s, "slack:c", 1, time.Hour)...)
	want := []approvals.Lane{{Name: "slack:a", Due: past(7)}, {Name: "slack:b", Due: later}}
	if diff := cmp.Diff(want, lanes()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, w := range held {
		w.Due = past(3)
		if err := finish(s, t, w); err != nil {
			t.Fatal(err)
		}
	}
	want[1].Due = past(3)
	want = append(want, approvals.Lane{Name: "slack:c", Due: past(3)})
	if diff := cmp.Diff(want, lanes()); diff != "" {
		t.Errorf("after the claims: -want +got:\n%s", diff)
	}
}

// lost has nothing come of a claim that is over.
func lost(t *testing.T, s approvals.Store, what string, w approvals.Work) {
	t.Helper()
	if err := claimed(t, s, w); !errors.Is(err, approvals.ErrLostClaim) {
		t.Errorf("%s, claimed: got %v; want %v", what, err, approvals.ErrLostClaim)
	}
	if err := finish(s, t, w); !errors.Is(err, approvals.ErrLostClaim) {
		t.Errorf("%s, finish: got %v; want %v", what, err, approvals.ErrLostClaim)
	}
}

func testFinish(t *testing.T, s approvals.Store) {
	ask(t, s, work("a", 1, past(1)))
	w := claim(t, s, lane, 1, time.Hour)[0]
	if err := claimed(t, s, w); err != nil {
		t.Errorf("claimed: got %v; want nil", err)
	}
	w.Due, w.Rank, w.Note = past(5), 4, "note"
	if err := finish(s, t, w); err != nil {
		t.Fatal(err)
	}
	lost(t, s, "finished", w)
	unclaimed := w
	unclaimed.Claim = ""
	lost(t, s, "without a claim", unclaimed)

	again := claim(t, s, lane, 1, time.Hour)[0]
	want := w
	want.Attempt, want.Claim = 2, again.Claim // the attempt was kept
	if diff := cmp.Diff(want, again); diff != "" || again.Claim == w.Claim {
		t.Errorf("claimed again: -want +got:\n%s", diff)
	}
	lost(t, s, "claimed anew", w)
}

// testAttempts has work fail, be asked for meanwhile, succeed, and be done.
func testAttempts(t *testing.T, s approvals.Store) {
	ask(t, s, work("a", 1, past(1)))
	again := claim(t, s, lane, 1, time.Hour)[0]
	again.Attempt, again.Note = 5, "note"
	if err := finish(s, t, again); err != nil {
		t.Fatal(err)
	}
	again = claim(t, s, lane, 1, time.Hour)[0]
	ask(t, s, work("a", 1, past(1))) // while it is claimed
	if err := finish(s, t, again); err != nil {
		t.Fatal(err)
	}
	if again = claim(t, s, lane, 1, time.Hour)[0]; again.Attempt != 2 {
		t.Errorf("asked for anew after six failures: got attempt %d; want 2", again.Attempt)
	}
	again.Attempt, again.Note = 0, ""
	if err := finish(s, t, again); err != nil {
		t.Fatal(err)
	}
	third := claim(t, s, lane, 1, time.Hour)[0]
	if third.Attempt != 1 || third.Note != "" {
		t.Errorf("after a success: got attempt %d, note %q; want 1 and none", third.Attempt, third.Note)
	}
	third.Due = time.Time{}
	if err := finish(s, t, third); err != nil {
		t.Fatal(err)
	}
	lost(t, s, "done", third)
	ask(t, s, work("a", 1, past(1))) // a new row under the same key
	fresh := claim(t, s, lane, 9, time.Hour)
	if diff := cmp.Diff([]string{"card/a 1 1"}, brief(fresh)); diff != "" {
		t.Errorf("asked for anew: -want +got:\n%s", diff)
	}
	lost(t, s, "made anew", third)
}

func testAgain(t *testing.T, s approvals.Store) {
	later := time.UnixMilli(time.Now().Add(time.Hour).UnixMilli()).UTC()
	for _, tt := range []struct {
		name     string
		finished approvals.Work // Due and Rank
		want     []string       // what can be claimed then
	}{
		{"done", work("", 3, time.Time{}), []string{"card/a 2 2"}},
		{"due later", work("", 3, later), []string{"card/a 2 2"}},
		{"due before, with a lower rank", work("", 1, past(1)), []string{"card/a 1 2"}},
	} {
		ask(t, s, work("a", 3, past(1)))
		w := claim(t, s, lane, 1, time.Hour)[0]
		ask(t, s, work("a", 7, later), work("a", 2, past(50)), work("a", 5, past(60)))
		if got := claim(t, s, lane, 1, time.Hour); len(got) != 0 {
			t.Errorf("%s, while claimed: got %v; want nothing", tt.name, got)
		}
		if err := claimed(t, s, w); err != nil {
			t.Errorf("%s, while claimed: got %v; want nil", tt.name, err)
		}
		w.Due, w.Rank = tt.finished.Due, tt.finished.Rank
		if err := finish(s, t, w); err != nil {
			t.Fatal(err)
		}
		got := claim(t, s, lane, 9, time.Hour)
		if diff := cmp.Diff(tt.want, brief(got)); diff != "" {
			t.Fatalf("%s: -want +got:\n%s", tt.name, diff)
		}
		// It was asked for before this claim: once done, it is done.
		got[0].Due = time.Time{}
		if err := finish(s, t, got[0]); err != nil {
			t.Fatal(err)
		}
		if got := claim(t, s, lane, 9, time.Hour); len(got) != 0 {
			t.Errorf("%s, at the end: got %v; want nothing", tt.name, got)
		}
	}
}

func testLease(t *testing.T, s approvals.Store) {
	ask(t, s, work("a", 3, past(1)))
	first := claim(t, s, lane, 1, time.Millisecond)[0]
	var second []approvals.Work
	for len(second) == 0 { // until the lease is over
		second = claim(t, s, lane, 1, time.Hour)
	}
	if diff := cmp.Diff([]string{"card/a 3 2"}, brief(second)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if err := finish(s, t, first); !errors.Is(err, approvals.ErrLostClaim) {
		t.Errorf("the first claim: got %v; want %v", err, approvals.ErrLostClaim)
	}
	if err := finish(s, t, second[0]); err != nil {
		t.Errorf("the second claim: got %v; want nil", err)
	}
}

// testClaimers has several workers claim until everything was delivered once.
func testClaimers(t *testing.T, s approvals.Store) {
	const total, workers = 120, 6
	update(t, s, func(tx approvals.Tx) error {
		for i := range total {
			if err := tx.Ask(work(fmt.Sprint(i), i%3, past(i))); err != nil {
				return err
			}
		}
		return nil
	})
	var mu sync.Mutex
	seen := map[string]int{}
	names := map[string]bool{}
	var wg sync.WaitGroup
	for n := range workers {
		wg.Go(func() {
			for {
				var got []approvals.Work
				err := s.Update(t.Context(), func(tx approvals.Tx) (err error) {
					got, err = tx.Claim(lane, 1+n%3, time.Hour)
					return err
				})
				if err != nil || len(got) == 0 {
					if err != nil {
						t.Error(err)
					}
					return
				}
				mu.Lock()
				if names[got[0].Claim] {
					t.Errorf("the claim %s was made twice", got[0].Claim)
				}
				names[got[0].Claim] = true
				for _, w := range got {
					seen[w.Subject]++
				}
				mu.Unlock()
				for _, w := range got {
					w.Due = time.Time{}
					if err := finish(s, t, w); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	for i := range total {
		if seen[fmt.Sprint(i)] != 1 {
			t.Errorf("work %d: got %d claims; want 1", i, seen[fmt.Sprint(i)])
		}
	}
}
