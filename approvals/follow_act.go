package approvals

import (
	"cmp"
	"context"
	"time"
)

// act makes the call that an attempt was recorded for, and records the answer.
func (f *follower) act(ctx context.Context, p plan) error {
	e := about(p.r, EventGateClosed, Actor{Kind: ActorSystem}, "circleci")
	e.Data = Data{"status": "202"}
	var err error
	switch p.act {
	case ActApprove:
		err = f.s.ci.Approve(ctx, f.w.Subject, p.gate.approvalID())
		e.Type, e.Actor, e.Outcome = EventAccepted, Actor{Kind: ActorCI}, "accepted"
		e.Data["attempt"] = itoa(p.r.Attempt.Count)
	case ActCancelJob:
		err = f.s.ci.CancelJob(ctx, p.gate.ID)
		e.Outcome = string(CloseCancelJob)
	case ActCancelWorkflow:
		err = f.s.ci.CancelWorkflow(ctx, f.w.Subject)
		e.Outcome = string(CloseCancelWorkflow)
	}
	if err != nil {
		f.heed(err)
		e.Outcome, e.Reason = "refused", bounded(cmp.Or(ciError(err).Message, err.Error()), maxReason)
		e.Data["status"] = itoa(ciError(err).Status)
		if p.act == ActApprove {
			e.Type, e.Outcome = EventGateRefused, delayName(err)
			if wait := min(ciError(err).RetryAfter, longestSettle); wait > 0 {
				e.Data["retry_after"] = itoa(int64((wait + time.Second - 1) / time.Second))
			}
		}
		if e.Type == EventGateClosed && ciError(err).Temporary() {
			return nil // the call is repeated, and the answer that counts is recorded then
		}
	}
	return f.s.update(ctx, func(c *Change) error {
		if err := c.Claimed(f.w); err != nil {
			return err
		}
		r, err := c.Request(p.r.ID)
		if err != nil {
			return err
		}
		if r.saidAlready(e) {
			e.Data["again"] = "true" // the thread is told once
		}
		return c.happen(&r, e)
	})
}

// saidAlready reports whether an answer comes to the same as the one before.
func (r Request) saidAlready(e Event) bool {
	if e.Type == EventGateClosed {
		return r.Closing.Said == e.answer()
	}
	return r.Attempt.Said == e.answer()
}
