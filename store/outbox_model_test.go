package store_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

// naive is the outbox as ports.go describes it, without any regard for speed.
// Times are milliseconds; rows are in the order in which they were enqueued.
type naive struct {
	rows  []*row
	holds map[string]int64 // until when nothing of a lane is claimed
	now   int64
}

type row struct {
	lane, chain, dedupe string
	priority, attempt   int
	due, lease, nudge   int64
	claimed             bool
	id                  int64 // of the newest claim
}

func (n *naive) free(r *row) bool {
	older := true
	if n.holds[r.lane] > n.now {
		return false
	}
	for _, o := range n.rows {
		older = older && o != r
		if o.lane == r.lane && (o.claimed && o.lease > n.now || older && r.chain != "" && o.chain == r.chain) {
			return false
		}
	}
	return r.due <= n.now
}

// candidates lists, for each lane, the one row that may be claimed.
func (n *naive) candidates() map[string]*row {
	best := map[string]*row{}
	for _, r := range n.rows {
		if b := best[r.lane]; n.free(r) && (b == nil || r.priority < b.priority || r.priority == b.priority && r.due < b.due) {
			best[r.lane] = r
		}
	}
	return best
}

// The store behaves like the naive outbox whatever is done to it.
func TestOutboxModel(t *testing.T) {
	db := storetest.New(t)
	rapid.Check(t, func(rt *rapid.T) {
		undo := errors.New("undo")
		err := db.Update(t.Context(), func(tx approvals.Tx) error {
			play(rt, tx)
			return undo
		})
		if err != undo {
			rt.Fatal(err)
		}
	})
}

func play(rt *rapid.T, tx approvals.Tx) {
	model := &naive{holds: map[string]int64{}, now: time.Now().Add(time.Hour).UnixMilli()}
	at := func(ms int64) time.Time { return time.UnixMilli(ms) }
	var held []approvals.Effect
	rt.Repeat(map[string]func(*rapid.T){
		"enqueue": func(rt *rapid.T) {
			due := model.now + rapid.Int64Range(-3, 10).Draw(rt, "due")
			e := approvals.Effect{
				Lane:     fmt.Sprint("f:", rapid.IntRange(0, 2).Draw(rt, "lane")),
				Chain:    rapid.SampledFrom([]string{"", "x", "y"}).Draw(rt, "chain"),
				Priority: rapid.IntRange(0, 2).Draw(rt, "priority"), Due: at(due),
			}
			if rapid.Bool().Draw(rt, "deduped") {
				e.Dedupe = "d" + e.Lane + fmt.Sprint(rapid.IntRange(0, 1).Draw(rt, "dedupe"))
			}
			if err := tx.Enqueue(e); err != nil {
				rt.Fatal(err)
			}
			for _, r := range model.rows {
				switch {
				case e.Dedupe == "" || r.dedupe != e.Dedupe:
					continue
				case r.claimed && (r.nudge == 0 || due < r.nudge):
					r.nudge = due
				case !r.claimed:
					r.due = min(r.due, due)
				}
				return
			}
			model.rows = append(model.rows, &row{id: -1, lane: e.Lane, chain: e.Chain, dedupe: e.Dedupe, priority: e.Priority, due: due})
		},
		"claim": func(rt *rapid.T) {
			want := model.candidates()
			e, err := tx.Claim("f", at(model.now), 5*time.Millisecond)
			if len(want) == 0 {
				if !errors.Is(err, approvals.ErrNotFound) {
					rt.Fatalf("claim: got %+v, %v; want none", e, err)
				}
				return
			}
			if err != nil {
				rt.Fatal(err)
			}
			r := want[e.Lane]
			if r == nil || r.chain != e.Chain || r.dedupe != e.Dedupe || r.priority != e.Priority || r.due != e.Due.UnixMilli() || r.attempt+1 != e.Attempt {
				rt.Fatalf("claim: got %+v; want %+v", e, r)
			}
			for _, o := range model.rows {
				if o.lane == r.lane {
					o.claimed = false
				}
			}
			r.claimed, r.attempt, r.lease, r.nudge = true, e.Attempt, model.now+5, 0
			r.id = e.ID
			held = append(held, e)
		},
		"finish": func(rt *rapid.T) {
			if len(held) == 0 {
				rt.Skip("nothing was claimed")
			}
			e := rapid.SampledFrom(held).Draw(rt, "effect")
			var due time.Time
			next := int64(0)
			if rapid.Bool().Draw(rt, "again") {
				next = model.now + rapid.Int64Range(0, 10).Draw(rt, "after")
				due = at(next)
			}
			for i, r := range model.rows {
				if !r.claimed || r.id != e.ID || r.attempt != e.Attempt {
					continue
				}
				if err := errors.Join(tx.Holds(e), tx.Finish(e, due, "why")); err != nil {
					rt.Fatal(err)
				}
				if r.nudge != 0 && (next == 0 || r.nudge < next) {
					next = r.nudge
				}
				r.claimed, r.nudge, r.due = false, 0, next
				if next == 0 {
					model.rows = append(model.rows[:i:i], model.rows[i+1:]...)
				}
				return
			}
			if err := tx.Finish(e, due, "why"); !errors.Is(err, approvals.ErrLostLease) {
				rt.Fatalf("finish of a lost claim: got %v", err)
			}
		},
		"hold": func(rt *rapid.T) {
			if len(held) == 0 {
				rt.Skip("nothing was claimed")
			}
			e := rapid.SampledFrom(held).Draw(rt, "effect")
			until := model.now + rapid.Int64Range(0, 10).Draw(rt, "after")
			for _, r := range model.rows {
				if !r.claimed || r.id != e.ID || r.attempt != e.Attempt {
					continue
				}
				if err := tx.Hold(e, at(until), "down"); err != nil {
					rt.Fatal(err)
				}
				r.claimed, r.nudge = false, 0
				model.holds[r.lane] = until
				why, err := tx.Held(r.lane, at(model.now))
				if err != nil || (why == "down") != (until > model.now) {
					rt.Fatalf("held: got %q, %v", why, err)
				}
				return
			}
			if err := tx.Hold(e, at(until), "down"); !errors.Is(err, approvals.ErrLostLease) {
				rt.Fatalf("hold of a lost claim: got %v", err)
			}
		},
		"wait": func(rt *rapid.T) { model.now += rapid.Int64Range(1, 6).Draw(rt, "ms") },
		"": func(rt *rapid.T) {
			// The worker sleeps until NextDue: never past the first claim, and never
			// to find nothing.
			all, err := tx.NextDue("f", "other")
			if err != nil || len(all) != 2 || !all[1].IsZero() {
				rt.Fatal(all, err)
			}
			due := all[0]
			some := len(model.candidates()) > 0
			if wakes := !due.IsZero() && !due.After(at(model.now)); wakes != some {
				rt.Fatalf("next due: got %v at %v; want something to claim now: %v", due, at(model.now), some)
			}
			if due.IsZero() != (len(model.rows) == 0) {
				rt.Fatalf("next due: got %v with %d effects", due, len(model.rows))
			}
		},
	})
}
