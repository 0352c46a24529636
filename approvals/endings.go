package approvals

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// slowWatch is how often a closed request whose gate still waits is looked at.
const slowWatch = 5 * time.Minute

// Codes of [Failure]: why a request ended without a deploy.
const (
	FailWithdrawn     = "withdrawn"
	FailCIEnded       = "workflow_ended"
	FailFactsChanged  = "facts_changed"
	FailAppGone       = "app_removed"
	FailRefused       = "circleci_refused"
	FailQuorumLost    = "quorum_lost"
	FailDeploy        = "deploy_failed"
	FailCardNotPosted = "card_not_posted"
	FailNoDecision    = "not_decided"
	FailWindowOver    = "window_over"
)

// end moves a request to a status in which we will not approve its gate, with
// the event, the thread line, the card and what happens to the gate. The event
// may be partly filled. It saves the request.
func (s *Service) end(tx Tx, now time.Time, r *Request, to Status, e Event) error {
	if !r.Status.CanBecome(to) {
		return fmt.Errorf("%s request #%d cannot become %s", r.Status, r.Number, to)
	}
	r.Status = to
	r.ClosedAt = now
	r.Retrying = false
	if e.Outcome == "" {
		e.Outcome = string(to)
	}
	if e.Reason == "" {
		e.Reason = r.Failure.Code
	}
	if err := tx.SaveRequest(r); err != nil {
		return err
	}
	e, err := record(tx, now, e)
	if err != nil {
		return err
	}
	effects := []Effect{reply(*r, e), cardUpdate(*r), watch(r.Facts.WorkflowID, now.Add(slowWatch))}
	if mayRerun(*r) {
		effects = append(effects, rerunWatch(*r, now))
	}
	due := now
	if r.CanRetry(now) {
		due = r.RetryUntil().Add(time.Second)
		effects = append(effects, retryEnds(*r, due))
	}
	if closesGate(*r) {
		effects = append(effects, gateClose(*r, due))
	}
	return enqueue(tx, effects...)
}

// closesGate reports whether on_close applies to how the request ended.
func closesGate(r Request) bool {
	return r.OnClose != CloseNothing && slices.Contains([]Status{Rejected, Expired, Superseded, Canceled}, r.Status)
}

// cancel ends a request because what it asked for is gone or not wanted any more.
func (s *Service) cancel(tx Tx, now time.Time, r *Request, why Failure, by Actor, source string) error {
	r.Failure = why
	if by.Kind != ActorSystem {
		r.DecidedBy = by.ID
	}
	e := about(*r, EventCanceled, by, source)
	e.Data = map[string]string{"detail": why.Detail}
	return s.end(tx, now, r, Canceled, e)
}

// expire ends a request whose time is over.
func (s *Service) expire(tx Tx, now time.Time, r *Request) error {
	e := about(*r, EventExpired, Actor{Kind: ActorSystem}, "timer")
	r.Failure = Failure{FailNoDecision, "nobody decided in time"}
	if r.Status == Approved {
		r.Failure = Failure{FailWindowOver, "the approval was not used in time"}
	}
	return s.end(tx, now, r, Expired, e)
}

// Withdraw closes a request on behalf of the token that may file it.
func (s *Service) Withdraw(ctx context.Context, t Token, idOrNumber, reason string) (Request, error) {
	if t.Role != RoleCICD {
		return Request{}, refuse(CodeForbidden, "a token with the role %s cannot withdraw requests: use one with the role %s", t.Role, RoleCICD)
	}
	reason = strings.TrimSpace(reason)
	if len([]rune(reason)) > maxReason {
		e := refuse(CodeInvalid, "the reason is too long")
		e.Fields = []FieldError{{"reason", "must be at most 500 characters"}}
		return Request{}, e
	}
	var r Request
	err := s.update(ctx, func(tx Tx, now time.Time) error {
		var err error
		if r, err = covered(tx, t, idOrNumber); err != nil {
			return err
		}
		switch {
		case r.Status == Canceled && r.Failure.Code == FailWithdrawn:
			return nil
		case !r.Status.Open():
			return refuse(CodeConflict, "request #%d is %s and cannot be withdrawn any more", r.Number, r.Status)
		case r.Attempt.Open:
			return refuse(CodeConflict, "request #%d is being released at this moment and cannot be withdrawn", r.Number)
		}
		return s.cancel(tx, now, &r, Failure{FailWithdrawn, reason}, Actor{Kind: ActorToken, ID: t.ID}, "api")
	})
	return r, err
}

// deadline judges the expiry of one request; after it, the end of Retry.
func (s *Service) deadline(ctx context.Context, e Effect) Outcome {
	var next time.Time
	err := s.update(ctx, func(tx Tx, now time.Time) error {
		r, err := tx.Request(e.Request)
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if r.CanRetry(now) {
			next = r.RetryUntil().Add(time.Second)
			return nil
		}
		if !r.Status.Open() {
			if r.retryable() {
				return tx.Enqueue(cardUpdate(r)) // without its button
			}
			return nil
		}
		end := r.ExpiresAt
		if r.Status == Approved {
			end = r.lastChance()
		}
		switch {
		case now.Before(end):
			next = end
		case r.Attempt.Open:
			// The newest call may have taken effect: a look-up decides.
			next = now.Add(time.Minute)
		default:
			return s.expire(tx, now, &r)
		}
		return nil
	})
	if err != nil {
		return Again(Backoff(e.Attempt, time.Second, time.Minute), err)
	}
	if !next.IsZero() {
		return Again(time.Until(next)+time.Millisecond, nil)
	}
	return Done()
}

// closeGate deals with a gate that will not be approved, as the app's on_close
// says. A gate that is blocked cannot be cancelled yet.
func (s *Service) closeGate(ctx context.Context, e Effect) Outcome {
	r, standing, err := s.closing(ctx, e.Request)
	if err != nil {
		return Again(Backoff(e.Attempt, time.Second, time.Minute), err)
	}
	if !closesGate(r) || standing {
		return Done()
	}
	if now := now(); r.CanRetry(now) {
		return Again(r.RetryUntil().Add(time.Second).Sub(now), nil)
	}
	jobs, err := s.ci.Jobs(ctx, r.Facts.WorkflowID)
	if err != nil {
		return ciAgain(e, err)
	}
	gate, why := findGate(jobs, r.GateName)
	if why != nil || gate.Status.Final() {
		return Done() // the watcher records how it ended
	}
	whole := r.OnClose == CloseCancelWorkflow || acceptsCanceled(jobs, gate.ID)
	if !whole && gate.Status != "on_hold" {
		return s.closeLater(e, gate)
	}
	if whole {
		err = s.ci.CancelWorkflow(ctx, r.Facts.WorkflowID)
	} else {
		err = s.ci.CancelJob(ctx, gate.ID)
	}
	if status := ciStatus(err); err != nil && status != 401 && status != 403 {
		return ciAgain(e, err)
	}
	outcome := Done()
	refused := err
	outcome.Record = func(tx Tx, now time.Time) error {
		r, err := tx.Request(e.Request)
		if err != nil {
			return err
		}
		closed := about(r, EventGateClosed, Actor{Kind: ActorSystem}, "circleci")
		closed.Outcome = map[bool]string{true: CloseCancelWorkflow, false: CloseCancelJob}[whole]
		if refused != nil {
			closed.Outcome, closed.Reason = "refused", refused.Error()
		}
		if refused == nil {
			// Accepted is not done, and somebody may have opened it at this very
			// moment: only the job list tells.
			r.Gate.Status, r.Gate.AssumedAt = "canceled", now
		}
		if closed, err = record(tx, now, closed); err != nil {
			return err
		}
		if err := tx.SaveRequest(&r); err != nil {
			return err
		}
		return enqueue(tx, reply(r, closed), cardUpdate(r), watch(r.Facts.WorkflowID, now.Add(min(s.poll, time.Second))))
	}
	return outcome
}

// closeLater leaves a gate that was not reached yet to the watcher.
func (s *Service) closeLater(e Effect, gate Job) Outcome {
	out := Done()
	out.Record = func(tx Tx, now time.Time) error {
		r, err := tx.Request(e.Request)
		if err != nil {
			return err
		}
		if r.Gate.AssumedAt.IsZero() {
			// That it is reached must be news, whatever was seen before.
			r.Gate.Status = gate.Status
		}
		if err := tx.SaveRequest(&r); err != nil {
			return err
		}
		return tx.Enqueue(watch(r.Facts.WorkflowID, now.Add(s.poll)))
	}
	return out
}

// closing reads a request that may have its gate closed. standing: another
// request for the same workflow and place took over, which needs the gate.
func (s *Service) closing(ctx context.Context, id string) (r Request, standing bool, err error) {
	err = s.view(ctx, func(tx Tx, now time.Time) error {
		var err error
		if r, err = tx.Request(id); err != nil {
			return err
		}
		same, err := tx.Requests(Filter{WorkflowID: r.Facts.WorkflowID})
		for _, o := range same {
			if o.ID != r.ID && o.GateName == r.GateName {
				standing = standing || o.Status.Passed() || o.Status.Open() || o.CanRetry(now)
			}
		}
		return err
	})
	return r, standing, err
}

// acceptsCanceled reports whether a job would run although its gate was
// cancelled: then the whole workflow has to go.
func acceptsCanceled(jobs []Job, gateID string) bool {
	return slices.ContainsFunc(jobs, func(j Job) bool {
		return slices.Contains(j.Needs[gateID], "canceled") || slices.Contains(j.Needs[gateID], "terminal")
	})
}

// ciAgain repeats an effect after the provider failed, as it asks or backing off.
func ciAgain(e Effect, err error) Outcome {
	after := Backoff(e.Attempt, time.Second, 30*time.Second)
	var ci *CIError
	if errors.As(err, &ci) {
		after = max(after, min(ci.RetryAfter, 5*time.Minute))
	}
	return Again(after, err)
}
