package approvals

import (
	"context"
	"strings"
)

// end records the event of an ending that does not come from a look, and has the
// follower deal with the gate.
func (s *Service) end(c *Change, r *Request, e Event) error {
	if err := c.happen(r, e); err != nil {
		return err
	}
	return c.ask(followWork(r.Facts.WorkflowID, c.Now(), rankDue))
}

// Withdraw closes a request on behalf of the token that may file it. A reason may
// have up to 500 characters. Refusals are *[Error].
func (s *Service) Withdraw(ctx context.Context, t Token, idOrNumber, reason string) (Request, error) {
	if err := t.mayAct("withdraw requests"); err != nil {
		return Request{}, err
	}
	reason = strings.TrimSpace(reason)
	if len([]rune(reason)) > maxReason {
		return Request{}, invalid("the reason is too long", FieldError{"reason", "must be at most 500 characters"})
	}
	var r Request
	err := s.update(ctx, func(c *Change) error {
		var err error
		if r, err = covered(c.Tx, t, idOrNumber); err != nil {
			return err
		}
		switch {
		case r.Status == Canceled && r.Failure.Code == FailWithdrawn:
			return nil
		case !r.Status.Open():
			return refuse(CodeConflict, "request #%d is %s and cannot be withdrawn any more", r.Number, r.Status)
		case r.Status == Approved && r.unresolved() && (r.GateStatus != JobOnHold || c.Now().Sub(r.Attempt.At) < 2*settleTime):
			return refuse(CodeConflict, "request #%d is being released at this moment and cannot be withdrawn", r.Number)
		}
		e := about(r, EventCanceled, t.actor(), "api")
		e.Outcome, e.Reason, e.Data = string(Canceled), FailWithdrawn, Data{"detail": reason}
		return s.end(c, &r, e)
	})
	return r, err
}
