package store_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/store"
	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

// outbox is a database and shorthands for its outbox.
type outbox struct {
	t  testing.TB
	db *store.DB
}

func (o outbox) enqueue(effects ...approvals.Effect) {
	o.t.Helper()
	update(o.t, o.db, func(tx approvals.Tx) error {
		for _, e := range effects {
			if err := tx.Enqueue(e); err != nil {
				return err
			}
		}
		return nil
	})
}

// claim returns the next effect, and one with an empty kind when there is none.
func (o outbox) claim(family string) (e approvals.Effect) {
	o.t.Helper()
	update(o.t, o.db, func(tx approvals.Tx) (err error) {
		e, err = tx.Claim(family, time.Now(), time.Minute)
		if errors.Is(err, approvals.ErrNotFound) {
			return nil
		}
		return err
	})
	return e
}

func (o outbox) finish(e approvals.Effect, after time.Duration) error {
	var due time.Time
	if after > 0 {
		due = time.Now().Add(after)
	}
	return o.db.Update(o.t.Context(), func(tx approvals.Tx) error { return tx.Finish(e, due, "reason") })
}

func (o outbox) holds(e approvals.Effect) (err error) {
	view(o.t, o.db, func(tx approvals.Tx) error { err = tx.Holds(e); return nil })
	return err
}

func (o outbox) nextDue(family string) (in time.Duration) {
	view(o.t, o.db, func(tx approvals.Tx) error {
		at, err := tx.NextDue(family)
		in = -1
		if err == nil && !at[0].IsZero() {
			in = time.Until(at[0])
		}
		return err
	})
	return in
}

// script runs steps such as "claim slack = a" against a fresh outbox.
//
//	add NAME LANE [chain=C] [prio=N] [due=DURATION] [dedupe=D]
//	claim FAMILY = NAME   (or "none")
//	done NAME             finish for good
//	again NAME DURATION   finish, due again
//	hold NAME DURATION    the lane rests
//	lost NAME             neither finish nor holds succeed
//	holds NAME
//	sleep DURATION
//	next FAMILY = DURATION or none
//	restart               release all leases
func script(t *testing.T, steps string) {
	synctest.Test(t, func(t *testing.T) {
		o := outbox{t, storetest.New(t)}
		claims := map[string]approvals.Effect{}
		for _, line := range strings.Split(strings.TrimSpace(steps), "\n") {
			words := strings.Fields(strings.Replace(line, " = ", " ", 1))
			span := func(text string) time.Duration {
				d, err := time.ParseDuration(text)
				if err != nil {
					t.Fatalf("%s: %v", line, err)
				}
				return d
			}
			switch words[0] {
			case "add":
				e := approvals.Effect{Kind: approvals.Notice, Lane: words[2], Payload: words[1]}
				for _, option := range words[3:] {
					name, value, _ := strings.Cut(option, "=")
					switch name {
					case "chain":
						e.Chain = value
					case "prio":
						fmt.Sscan(value, &e.Priority)
					case "due":
						e.Due = time.Now().Add(span(value))
					case "dedupe":
						e.Dedupe = value
					}
				}
				o.enqueue(e)
			case "claim":
				e := o.claim(words[1])
				if e.Payload != words[2] && (e.Kind != "" || words[2] != "none") {
					t.Errorf("%s: got %q", line, e.Payload)
				}
				claims[e.Payload] = e
			case "done", "again":
				var after time.Duration
				if words[0] == "again" {
					after = span(words[2])
				}
				if err := o.finish(claims[words[1]], after); err != nil {
					t.Errorf("%s: %v", line, err)
				}
			case "hold":
				err := o.db.Update(t.Context(), func(tx approvals.Tx) error {
					return tx.Hold(claims[words[1]], time.Now().Add(span(words[2])), "down")
				})
				if err != nil {
					t.Errorf("%s: %v", line, err)
				}
			case "lost":
				if err := o.holds(claims[words[1]]); !errors.Is(err, approvals.ErrLostLease) {
					t.Errorf("%s: holds: got %v; want %v", line, err, approvals.ErrLostLease)
				}
				if err := o.finish(claims[words[1]], 0); !errors.Is(err, approvals.ErrLostLease) {
					t.Errorf("%s: finish: got %v; want %v", line, err, approvals.ErrLostLease)
				}
			case "holds":
				if err := o.holds(claims[words[1]]); err != nil {
					t.Errorf("%s: got %v", line, err)
				}
			case "sleep":
				time.Sleep(span(words[1])) // moves the bubble's clock
			case "next":
				want := time.Duration(-1)
				if words[2] != "none" {
					want = span(words[2])
				}
				if got := o.nextDue(words[1]); got != want {
					t.Errorf("%s: got %v", line, got)
				}
			case "restart":
				if err := o.db.ReleaseLeases(t.Context()); err != nil {
					t.Fatal(err)
				}
			default:
				t.Fatalf("unknown step %q", line)
			}
		}
	})
}

func TestOutbox(t *testing.T) {
	for name, steps := range map[string]string{
		"priority then age": `
			add a slack:c prio=2
			add b slack:c prio=1
			add c slack:c prio=1
			claim slack = b
			done b
			claim slack = c
			done c
			claim slack = a
			done a
			claim slack = none
			next slack = none`,
		"one of a lane, families apart": `
			add a slack:c
			add b slack:c
			add c slack:d
			add d circleci:r
			claim slack = a
			claim slack = c
			claim slack = none
			claim circleci = d
			claim watch = none
			done a
			claim slack = b`,
		"lane that waits longest first": `
			add a slack:z
			sleep 1s
			add b slack:a
			claim slack = a
			claim slack = b`,
		"due": `
			add late slack:c due=1h
			add soon slack:c due=1m prio=9
			claim slack = none
			next slack = 1m
			sleep 1m
			claim slack = soon
			done soon
			next slack = 59m
			sleep 59m
			claim slack = late`,
		"a retry waits behind what is due longer": `
			add a watch:0
			sleep 1s
			add c watch:0
			claim watch = a
			again a 2s
			sleep 2s
			claim watch = c
			done c
			claim watch = a`,
		"a lane that rests keeps its order": `
			add a slack:c chain=r
			sleep 1s
			add b slack:c chain=q
			add other slack:d
			claim slack = a
			hold a 1m
			lost a
			add c slack:c
			claim slack = other
			claim slack = none
			next slack = 1m
			sleep 1m
			claim slack = a
			done a
			claim slack = b
			done b
			claim slack = c`,
		"a restart ends the rest of a lane": `
			add a slack:c
			claim slack = a
			hold a 1h
			claim slack = none
			restart
			claim slack = a`,
		"chain keeps order through retries and priorities": `
			add a slack:c chain=r prio=2
			add b slack:c chain=r prio=0
			add x slack:c chain=q prio=1
			add y slack:c prio=9
			claim slack = x
			again x 1h
			claim slack = a
			again a 1m
			claim slack = y
			done y
			claim slack = none
			next slack = 1m
			sleep 1m
			claim slack = a
			done a
			claim slack = b
			done b
			next slack = 59m`,
		"chain is per lane": `
			add a slack:c chain=r
			add b slack:d chain=r
			claim slack = a
			claim slack = b`,
		"chain end frees the next of three": `
			add a slack:c chain=r
			add b slack:c chain=r
			add c slack:c chain=r
			claim slack = a
			done a
			claim slack = b
			again b 1s
			claim slack = none
			sleep 1s
			claim slack = b
			done b
			claim slack = c
			done c
			add d slack:c chain=r
			claim slack = d`,
		"lease runs out": `
			add a slack:c
			add b slack:c prio=-1 due=10s
			claim slack = a
			next slack = 1m
			sleep 59s
			claim slack = none
			holds a
			sleep 1s
			holds a
			claim slack = b
			lost a
			done b
			claim slack = a
			holds a
			done a`,
		"late finish without a successor counts": `
			add a slack:c
			claim slack = a
			sleep 2m
			holds a
			done a
			claim slack = none`,
		"finish twice": `
			add a slack:c
			claim slack = a
			again a 1s
			lost a
			sleep 1s
			claim slack = a
			done a
			lost a`,
		"dedupe brings forward": `
			add a slack:c dedupe=x due=1h
			add b slack:c dedupe=x due=2h
			next slack = 1h
			add c slack:c dedupe=x
			next slack = 0s
			claim slack = c
			done c
			claim slack = none`,
		"nudge repeats at once": `
			add a slack:c dedupe=x
			claim slack = a
			add b slack:c dedupe=x
			claim slack = none
			done a
			claim slack = b
			done b
			claim slack = none`,
		"nudge beats a later retry": `
			add a slack:c dedupe=x
			claim slack = a
			add b slack:c dedupe=x
			again a 1h
			claim slack = b
			again b 1h
			claim slack = none
			next slack = 1h`,
		"nudge for later waits": `
			add a slack:c dedupe=x
			claim slack = a
			add b slack:c dedupe=x due=1h
			add c slack:c dedupe=x due=2h
			done a
			claim slack = none
			next slack = 1h`,
		"claim takes the nudge along": `
			add a slack:c dedupe=x
			claim slack = a
			add b slack:c dedupe=x
			sleep 1m
			claim slack = b
			done b
			claim slack = none`,
		"dedupe in a blocked chain": `
			add a slack:c chain=r
			add b slack:c chain=r dedupe=x due=1h
			claim slack = a
			add b2 slack:c chain=r dedupe=x
			claim slack = none
			done a
			claim slack = b2`,
		"restart frees all": `
			add a slack:c
			add b circleci:r
			claim slack = a
			claim circleci = b
			restart
			lost a
			claim slack = a
			claim circleci = b
			done a
			done b`,
	} {
		t.Run(name, func(t *testing.T) { script(t, steps) })
	}
}

func TestEffectRoundTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := outbox{t, storetest.New(t)}
		start := time.Now().UTC()
		want := approvals.Effect{Kind: approvals.ThreadReply, Lane: "slack:c", Chain: "r", Dedupe: "d", Priority: 3, Request: "r", Seq: 7, Payload: "p"}
		o.enqueue(want)
		time.Sleep(time.Second)
		for attempt := 1; attempt <= 2; attempt++ {
			got := o.claim("slack")
			want.ID, want.Since, want.Attempt, want.Due = got.ID, start, attempt, start
			if attempt == 2 {
				want.Due = start.Add(time.Minute + time.Second)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("claim %d: -want +got:\n%s", attempt, diff)
			}
			if attempt == 1 {
				if err := o.finish(got, time.Minute); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
			}
		}
		if got, err := o.db.RawText("SELECT attempt || ' ' || reason FROM outbox"); got != "2 reason" || err != nil {
			t.Errorf("visible state: got %q, %v; want attempts and last reason", got, err)
		}
		for _, lane := range []string{"", "slack", "slack:", ":c"} {
			if err := o.db.Update(t.Context(), func(tx approvals.Tx) error { return tx.Enqueue(approvals.Effect{Lane: lane}) }); err == nil {
				t.Errorf("lane %q: got no error", lane)
			}
		}

		o.enqueue(approvals.Effect{Lane: "slack:c", Chain: "r"}, approvals.Effect{Lane: "slack:d"}, approvals.Effect{Lane: "watch:0", Due: time.Now().Add(time.Hour)})
		stats, err := o.db.OutboxStats(t.Context())
		wantStats := map[string]store.FamilyStats{"slack": {Depth: 3, OldestDue: time.Now().UTC()}, "watch": {Depth: 1}}
		if diff := cmp.Diff(wantStats, stats); diff != "" || err != nil {
			t.Errorf("stats: %v, -want +got:\n%s", err, diff)
		}
	})
}

// Claims, ends and the search for the next one must be answered by indexes.
func TestPlans(t *testing.T) {
	db := storetest.New(t)
	for _, query := range []string{
		"SELECT lane FROM lanes WHERE family = 'x' AND wake <= 1 ORDER BY wake, lane LIMIT 1",
		"SELECT coalesce(min(wake), 0) FROM lanes WHERE family = 'x'",
		"SELECT id FROM outbox WHERE lane = 'x' AND state = 1 ORDER BY priority, due, id LIMIT 1",
		"UPDATE outbox SET state = 1 WHERE lane = 'x' AND state = 0 AND due <= 1",
		"UPDATE outbox SET state = 1 WHERE lane = 'x' AND state = 2",
		"SELECT min(due) FROM outbox WHERE lane = 'x' AND state = 0",
		"SELECT min(id) FROM outbox WHERE lane = 'x' AND chain = 'y'",
		"SELECT number FROM requests WHERE status IN ('pending', 'approved') ORDER BY number DESC LIMIT 5",
		"SELECT number FROM requests WHERE app IN ('a') AND status IN ('pending') ORDER BY number DESC LIMIT 5",
		"SELECT seq FROM audit_index WHERE request = 'x' ORDER BY seq",
	} {
		plan, err := db.RawText("EXPLAIN QUERY PLAN " + query)
		lines := strings.Split(plan, "\n")
		if err != nil || slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "SCAN") }) {
			t.Errorf("%s: got plan %q, %v; want no scan", query, plan, err)
		}
		if strings.Contains(query, "FROM outbox") && strings.Contains(plan, "TEMP B-TREE") {
			t.Errorf("%s: got plan %q; want no sorting", query, plan)
		}
	}
}
