package approvals_test

import (
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// verify asks whether a request's deploy may go on.
func (w *world) verify(r approvals.Request) error {
	_, err := w.svc.Verify(w.ctx, w.token, approvals.NewRequest{App: r.App, GitCommit: r.Facts.Revision, WorkflowID: r.Facts.WorkflowID})
	return err
}

// With auto-approve off the votes are judged until the gate is seen open.
func TestVotesLostBeforeTheGateIsOpenedByHand(t *testing.T) {
	t.Parallel()
	const byHand = "CIRCLECI_AUTO_APPROVE_ON_APPROVAL=false ON_CLOSE=nothing"
	t.Run("while it waits", func(t *testing.T) {
		bubble(t, byHand, func(w *world) {
			r := w.approved(1, "on_hold")
			w.must(w.admin.RemovePerson(w.ctx, "U01"))
			w.wait(3 * time.Second) // long before the next poll
			w.is(r, approvals.Undeliverable, approvals.FailQuorumLost)
			w.fails(w.verify(r), approvals.CodeNotApproved)
			w.must(w.approve("U02", r))
			w.must(w.verify(r))
		})
	})
	t.Run("before that is seen", func(t *testing.T) {
		bubble(t, byHand, func(w *world) {
			r := w.approved(1, "on_hold")
			w.halt()
			w.must(w.admin.RemovePerson(w.ctx, "U01"))
			w.fails(w.verify(r), approvals.CodeNotApproved)
			w.ci.humanApproves(r.Facts.WorkflowID)
			w.fails(w.verify(r), approvals.CodeNotApproved)
			w.run()
			w.wait(20 * time.Second)
			if got := w.is(r, approvals.Bypassed, approvals.FailQuorumLost); got.Failure.Detail != "only 0 of 1 approvals still count" || got.Gate.ApprovedBy != "eve" {
				t.Errorf("got %+v by %q", got.Failure, got.Gate.ApprovedBy)
			}
			w.fails(w.verify(r), approvals.CodeNotApproved)
		})
	})
	t.Run("after the release", func(t *testing.T) {
		bubble(t, byHand, func(w *world) {
			r := w.approved(1, "on_hold")
			w.ci.humanApproves(r.Facts.WorkflowID)
			w.wait(20 * time.Second)
			w.must(w.admin.RemovePerson(w.ctx, "U01"))
			w.wait(20 * time.Second)
			w.is(r, approvals.Released)
			w.must(w.verify(r))
		})
	})
	t.Run("an emergency release", func(t *testing.T) {
		bubble(t, byHand+" BREAK_GLASS=U02", func(w *world) {
			r := w.request(1, "on_hold")
			err := w.svc.Decide(w.ctx, approvals.Clicker{Team: team, User: "U02"}, r.ID, approvals.ActionBreakGlass, "the site is down", w.code("U02"))
			w.must(err)
			w.must(w.verify(r))
			w.must(w.admin.Reset(w.ctx, "U02"))
			w.fails(w.verify(r), approvals.CodeNotApproved)
			w.wait(3 * time.Second)
			w.is(r, approvals.Undeliverable, approvals.FailQuorumLost)
		})
	})
	t.Run("the settings ask for more", func(t *testing.T) {
		bubble(t, byHand, func(w *world) {
			r := w.approved(1, "on_hold")
			w.cfg.Settings = parse(t, byHand+" REQUIRED_APPROVALS=2")
			w.restart()
			w.is(r, approvals.Undeliverable, approvals.FailQuorumLost)
		})
	})
	t.Run("the app is gone", func(t *testing.T) {
		bubble(t, byHand, func(w *world) {
			r := w.approved(1, "on_hold")
			w.ci.humanApproves(r.Facts.WorkflowID)
			w.cfg.Settings = approvals.Settings{}
			w.restart()
			w.is(r, approvals.Bypassed, approvals.FailAppGone)
		})
	})
}

// While it cannot be told whether the votes count, a gate that was opened by hand is
// neither a release nor a bypass, and no deploy goes on.
func TestVotesThatCannotBeJudgedByHand(t *testing.T) {
	t.Parallel()
	const byHand = "CIRCLECI_AUTO_APPROVE_ON_APPROVAL=false DEPLOY_APPROVAL_WINDOW_MINUTES=120 PENDING_TTL=10h"
	t.Run("Slack does not answer", func(t *testing.T) {
		bubble(t, byHand, func(w *world) {
			r := w.approved(1, "on_hold")
			w.dir.set(true)
			w.wait(40 * time.Minute)
			w.fails(w.verify(r), approvals.CodeUnavailable)
			w.ci.humanApproves(r.Facts.WorkflowID)
			w.wait(time.Minute)
			w.is(r, approvals.Approved)
			w.dir.set(false)
			w.wait(time.Minute)
			w.is(r, approvals.Released)
			w.must(w.verify(r))
		})
	})
	t.Run("decisions are on hold", func(t *testing.T) {
		bubble(t, byHand, func(w *world) {
			r := w.approved(1, "on_hold")
			hold := "the clock"
			w.cfg.Hold = func() string { return hold }
			w.restart()
			w.ci.humanApproves(r.Facts.WorkflowID)
			w.wait(time.Minute)
			w.is(r, approvals.Approved)
			w.halt()
			hold = ""
			w.run()
			w.wait(time.Minute)
			w.is(r, approvals.Released)
		})
	})
}

// A call that surely did nothing is no release: the votes are judged again before a
// deploy may go on.
func TestVotesLostAfterACallThatWasRefused(t *testing.T) {
	t.Parallel()
	bubble(t, "", func(w *world) {
		r := w.request(1, "on_hold")
		w.ci.breaks("approve", &fault{status: 429, times: -1, retry: 5 * time.Minute})
		w.must(w.approve("U01", r))
		w.must(w.verify(r))
		w.must(w.admin.RemovePerson(w.ctx, "U01"))
		w.fails(w.verify(r), approvals.CodeNotApproved)
	})
}
