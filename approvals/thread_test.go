package approvals_test

import (
	"slices"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// What a later line tells, too, has no line of its own; what no line tells gets one
// after a while.
func TestThreadTellsEachStepOnce(t *testing.T) {
	const (
		asked, voted, approved, accepted = approvals.EventRequested, approvals.EventVoted, approvals.EventApproved, approvals.EventAccepted
		released, reported, deployed     = approvals.EventReleased, approvals.EventDeployReport, approvals.EventDeployed
		verified                         = approvals.EventVerified
	)
	verify := func(w *world, r approvals.Request) {
		_, err := w.svc.Verify(w.ctx, w.token, approvals.NewRequest{App: "shop", GitCommit: r.Facts.Revision, WorkflowID: r.Facts.WorkflowID})
		w.must(err)
	}
	report := func(w *world, r approvals.Request, phase approvals.Phase) {
		_, err := w.svc.ReportDeploy(w.ctx, w.token, r.ID, phase, "", "")
		w.must(err)
	}
	for name, c := range map[string]struct {
		settings string
		play     func(*world, approvals.Request)
		told     []approvals.EventType
		merged   []approvals.EventType
	}{
		"a normal deploy": {"", func(w *world, r approvals.Request) {
			w.must(w.approve("U01", r))
			verify(w, r)
			verify(w, r)
			report(w, r, approvals.PhaseStarted)
			report(w, r, approvals.PhaseSucceeded)
			w.ci.set(r.Facts.WorkflowID, "deploy", approvals.JobSuccess)
			w.wait(20 * time.Second)
		}, []approvals.EventType{asked, approved, released, verified, deployed}, []approvals.EventType{voted, accepted, reported}},
		"a deploy job that asks before the release is seen": {"", func(w *world, r approvals.Request) {
			w.ci.set(r.Facts.WorkflowID, "hold", approvals.JobBlocked)
			w.must(w.approve("U01", r))
			w.must(w.svc.Happen(w.ctx, r.ID, approvals.Event{Type: approvals.EventAttempt, Data: approvals.Data{"attempt": "1", "approval_request_id": "x"}}))
			w.must(w.svc.Happen(w.ctx, r.ID, approvals.Event{Type: accepted, Data: approvals.Data{"attempt": "1", "status": "202"}}))
			verify(w, r)
			w.wait(time.Second)
			w.must(w.svc.Happen(w.ctx, r.ID, approvals.Event{Type: released}))
			w.wait(time.Second)
		}, []approvals.EventType{asked, approved, verified, released}, []approvals.EventType{voted, accepted}},
		"a report without a question": {"", func(w *world, r approvals.Request) {
			w.must(w.approve("U01", r))
			report(w, r, approvals.PhaseStarted)
			w.wait(0)
		}, []approvals.EventType{asked, approved, released, reported}, []approvals.EventType{voted, accepted}},
		"two votes": {"REQUIRED_APPROVALS=2", func(w *world, r approvals.Request) {
			w.must(w.approve("U01", r))
			w.must(w.approve("U02", r))
		}, []approvals.EventType{asked, voted, approved, released}, []approvals.EventType{voted, accepted}},
		"a gate that stays closed": {"", func(w *world, r approvals.Request) {
			w.ci.set(r.Facts.WorkflowID, "hold", approvals.JobBlocked)
			w.must(w.approve("U01", r))
			w.must(w.svc.Happen(w.ctx, r.ID, approvals.Event{Type: accepted, Data: approvals.Data{"attempt": "1", "status": "202"}}))
			w.wait(14 * time.Second)
			if w.toldOf(accepted) != 0 {
				t.Error("told before the release had time to come")
			}
			w.wait(2 * time.Second)
		}, []approvals.EventType{asked, approved, accepted}, []approvals.EventType{voted}},
		"a deploy that goes on": {"", func(w *world, r approvals.Request) {
			w.must(w.approve("U01", r))
			report(w, r, approvals.PhaseSucceeded)
			w.wait(44 * time.Second)
			if w.toldOf(reported) != 0 {
				t.Error("told before the outcome had time to come")
			}
			w.wait(2 * time.Second)
		}, []approvals.EventType{asked, approved, released, reported}, []approvals.EventType{voted, accepted}},
		"a line that others follow": {"", func(w *world, r approvals.Request) {
			w.must(w.approve("U01", r))
			report(w, r, approvals.PhaseFailed)
			report(w, r, approvals.PhaseStarted)
			w.wait(0)
		}, []approvals.EventType{asked, approved, released, reported, reported}, []approvals.EventType{voted, accepted}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, c.settings, func(w *world) {
				r := w.request(1, "on_hold")
				c.play(w, r)
				w.mu.Lock()
				defer w.mu.Unlock()
				if !slices.Equal(w.told, c.told) || !slices.Equal(w.merged, c.merged) {
					t.Errorf("got the lines %v, which tell %v, too; want %v and %v", w.told, w.merged, c.told, c.merged)
				}
			})
		})
	}
}

// After a time in which nothing could be posted, outcomes are told before remarks
// that came earlier.
func TestOutcomesAreToldBeforeRemarks(t *testing.T) {
	bubble(t, "SUPERSEDE=off", func(w *world) {
		first, second := w.request(1, "blocked"), w.request(2, "blocked")
		w.wait(time.Second)
		w.halt()
		w.told = nil
		w.must(w.svc.Happen(w.ctx, first.ID, approvals.Event{Type: approvals.EventDelayed}))
		time.Sleep(time.Second)
		w.must(w.svc.Happen(w.ctx, second.ID, approvals.Event{Type: approvals.EventRejected}))
		w.start()
		w.run()
		w.wait(time.Minute)
		if want := []approvals.EventType{approvals.EventRejected, approvals.EventDelayed}; !slices.Equal(w.told, want) {
			t.Errorf("told %v; want %v", w.told, want)
		}
	})
}

// A card is found lost while a line of its thread is told: the next one's thread begins
// with the first event, whatever that line recorded.
func TestALostCardTakesItsThreadAlong(t *testing.T) {
	bubble(t, "REQUIRED_APPROVALS=2", func(w *world) {
		r := w.request(1, "on_hold")
		w.halt()
		err := w.svc.Decide(w.ctx, approvals.Clicker{Team: team, User: "U01"}, r.ID, approvals.ActionApprove, "", w.code("U01"))
		w.must(err)
		late, err := w.svc.Untold(w.ctx, r.ID)
		w.must(err)
		if len(late.Lines) != 1 {
			t.Fatalf("got %d lines; want that of the vote", len(late.Lines))
		}
		w.must(w.svc.Commit(w.ctx, w.svc.CardLost(r.ID, late.Card)))
		w.must(w.svc.Commit(w.ctx, w.svc.TellUntil(r.ID, late.Card, late.Newest, false)))
		w.told = nil
		w.start()
		w.run()
		w.wait(2 * time.Second)
		if want := []approvals.EventType{approvals.EventRequested, approvals.EventVoted}; !slices.Equal(w.told, want) {
			t.Errorf("the new thread tells %v; want %v", w.told, want)
		}
	})
}
