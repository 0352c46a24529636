package approvals

import (
	"context"
	"strings"
	"time"
)

// end records the event of an ending that does not come from a look, and has the
// follower deal with the gate.
func (s *Service) end(c *Change, r *Request, e Event) error {
	if err := c.happen(r, e); err != nil {
		return err
	}
	return c.ask(followWork(r.Facts.WorkflowID, c.Now(), rankDue))
}

// Withdraw closes a request on behalf of the token that may file it, unless one of our
// calls may open its gate: whether it did is then asked at CircleCI. A reason may have
// up to 500 characters. Refusals are *[Error].
func (s *Service) Withdraw(ctx context.Context, t Token, idOrNumber, reason string) (Request, error) {
	if err := t.mayAct("withdraw requests"); err != nil {
		return Request{}, err
	}
	reason = strings.TrimSpace(reason)
	if len([]rune(reason)) > maxReason {
		return Request{}, faults{{"reason", "must be at most 500 characters"}}.refusal("the reason is too long")
	}
	held, err := s.heldAt(ctx, t, idOrNumber)
	if err != nil {
		return Request{}, err
	}
	var r Request
	err = s.update(ctx, func(c *Change) error {
		var err error
		if r, err = covered(c.Tx, t, idOrNumber); err != nil {
			return err
		}
		switch {
		case r.Status == Canceled && r.Failure.Code == FailWithdrawn:
			return nil
		case !r.Status.Open():
			return refuse(CodeConflict, "request #%d is %s and cannot be withdrawn any more", r.Number, r.Status)
		case r.releasing(held):
			return refuse(CodeConflict, "request #%d is being released at this moment and cannot be withdrawn", r.Number)
		}
		e := about(r, EventCanceled, t.actor(), "api")
		e.Outcome, e.Reason, e.Data = string(Canceled), FailWithdrawn, Data{"detail": reason}
		return s.end(c, &r, e)
	})
	return r, err
}

// heldAt is when CircleCI showed just now that the gate of a request still waits, zero
// when it did not. It is asked only if one of our calls may have opened the gate.
func (s *Service) heldAt(ctx context.Context, t Token, idOrNumber string) (at time.Time, err error) {
	r, err := query(ctx, s.store, func(tx Tx) (Request, error) {
		at = tx.Now()
		return covered(tx, t, idOrNumber)
	})
	if err != nil || !r.releasing(time.Time{}) || r.releasing(at) {
		return time.Time{}, err
	}
	s.pace.turn(rankUrgent, 1)
	jobs, err := s.ci.Jobs(ctx, r.Facts.WorkflowID)
	if err != nil {
		s.log.Warn("look whether a request was released", "request", r.ID, "err", err)
	}
	if state, _, _ := (Look{Jobs: jobs}).gate(r); state != gateOnHold {
		return time.Time{}, nil
	}
	return at, nil
}
