package approvals_test

import (
	"context"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// TestProofsHoldWhileTheLogGrows asks for proofs of a request while events are
// appended to it and taken in: none of that is tampering.
func TestProofsHoldWhileTheLogGrows(t *testing.T) {
	t.Parallel()
	bubble(t, "", func(w *world) {
		r := w.approved(1, "on_hold")
		const rounds = 200
		errs := make(chan error)
		for _, do := range []func() error{
			func() error {
				_, err := w.svc.Verify(w.ctx, w.token, approvals.NewRequest{App: "shop", GitCommit: r.Facts.Revision, WorkflowID: r.Facts.WorkflowID})
				return err
			},
			func() error {
				return w.svc.Opened(w.ctx, approvals.Clicker{Team: team, User: "U01"}, r.ID, approvals.ActionApprove)
			},
			func() error { w.svc.KeepUp(w.ctx); return nil },
		} {
			go func() {
				for range rounds {
					if err := do(); err != nil {
						errs <- err
						return
					}
				}
				errs <- nil
			}()
		}
		for range 3 {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		if why := w.svc.Fault(); why != "" {
			t.Errorf("got %q; want no fault", why)
		}
	})
}

// TestLongLogsTakeLittleMemory reads the log of requests that were deployed an hour
// after another: of what was over long ago nothing is kept, not even meanwhile.
func TestLongLogsTakeLittleMemory(t *testing.T) {
	t.Parallel()
	bubble(t, "", func(w *world) {
		r := w.approved(1, "on_hold")
		w.ci.set(r.Facts.WorkflowID, "deploy", approvals.JobSuccess)
		w.wait(10 * time.Minute)
		if r = w.get(r); r.Status != approvals.Deployed {
			t.Fatalf("got a request that is %s; want it deployed", r.Status)
		}
		w.halt()
		w.must(approvals.Repeat(w.ctx, w.db, []approvals.Request{r}, 1000))
		w.start()
		svc := approvals.New(w.cfg)
		most := svc.MostHistories()
		svc.KeepUp(w.ctx)
		if *most < 2 || *most > 100 {
			t.Errorf("got at most %d histories at once of 1,002 requests; want those of about a day", *most)
		}
		w.run()
		w.approved(2, "on_hold")
	})
}

// A clock that jumps ahead for some seconds stops nothing for good: what was forgotten
// for it meanwhile is no tampering, and a deploy job that asks later gets its answer.
func TestClockJumpsAhead(t *testing.T) {
	for name, recorded := range map[string]bool{"nothing is recorded meanwhile": false, "something is": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, "DEPLOY_APPROVAL_WINDOW_MINUTES=60", func(w *world) {
				jumped := &jumpedClock{Store: w.store.Store}
				w.store.Store = jumped
				r := w.approved(1, "on_hold")
				w.ci.set(r.Facts.WorkflowID, "deploy", approvals.JobFailed)
				w.wait(10 * time.Minute)
				w.is(r, approvals.DeployFailed)
				w.halt()
				jumped.by = 48 * time.Hour
				if recorded {
					w.must(w.svc.Record(w.ctx, approvals.Event{Type: approvals.EventLogExported, Actor: w.svc.OperatorActor()}))
				}
				w.svc.KeepUp(w.ctx)
				jumped.by = 0
				w.run()
				v := approvals.NewRequest{App: "shop", GitCommit: r.Facts.Revision, WorkflowID: r.Facts.WorkflowID}
				_, err := w.svc.Verify(w.ctx, w.token, v)
				if recorded {
					w.fails(err, approvals.CodeUnavailable)
				} else {
					w.must(err)
				}
				if why := w.svc.Fault(); why != "" {
					t.Errorf("got the fault %q; want none", why)
				}
				w.must(w.approve("U02", w.request(2, "on_hold")))
			})
		})
	}
}

// jumpedClock is a store whose clock goes ahead.
type jumpedClock struct {
	approvals.Store
	by time.Duration
}

type jumpedTx struct {
	approvals.Tx
	by time.Duration
}

func (t jumpedTx) Now() time.Time { return t.Tx.Now().Add(t.by) }

func (s *jumpedClock) Update(ctx context.Context, fn func(approvals.Tx) error) error {
	return s.Store.Update(ctx, func(tx approvals.Tx) error { return fn(jumpedTx{tx, s.by}) })
}

func (s *jumpedClock) View(ctx context.Context, fn func(approvals.Tx) error) error {
	return s.Store.View(ctx, func(tx approvals.Tx) error { return fn(jumpedTx{tx, s.by}) })
}

// TestVoteOnWhatWasJustClosed ends a request between the look at the click and the
// vote: the history that was forgotten with it is no tampering.
func TestVoteOnWhatWasJustClosed(t *testing.T) {
	bubble(t, "", func(w *world) {
		r := w.request(1, "on_hold")
		w.halt()
		updates := 0
		w.store.Store = &eachUpdate{w.db, func() {
			if updates++; updates != 2 { // the first one counts the attempt
				return
			}
			if err := w.svc.Decide(w.ctx, approvals.Clicker{Team: team, User: "U02"}, r.ID, approvals.ActionReject, "no", ""); err != nil {
				t.Error(err)
			}
			w.svc.KeepUp(w.ctx)
		}}
		err := w.approve("U01", r)
		w.refused(err, approvals.RefusedClosed)
		if why := w.svc.Fault(); why != "" {
			t.Errorf("got %q; want no fault", why)
		}
	})
}

// eachUpdate is a store that does something before each writing transaction.
type eachUpdate struct {
	approvals.Store
	before func()
}

func (s *eachUpdate) Update(ctx context.Context, fn func(approvals.Tx) error) error {
	s.before()
	return s.Store.Update(ctx, fn)
}
