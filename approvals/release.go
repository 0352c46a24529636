package approvals

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"
)

const (
	// settleTime is how long the job list may lag behind a call that was accepted
	// or whose answer was lost, before the call is repeated.
	settleTime = 15 * time.Second
	// followUp is the pause between look-ups while a call takes effect.
	followUp = 500 * time.Millisecond
	// tellDelay is how long CircleCI may be silent before the thread says so.
	tellDelay = 20 * time.Second
)

// release carries a decision to the gate. Every delivery starts with a look-up,
// so that it does not matter where the one before was cut off: success by us is
// released, on hold is approved, anything else is what it is.
func (s *Service) release(ctx context.Context, e Effect) Outcome {
	r, err := s.get(ctx, e.Request)
	if err != nil {
		return Again(Backoff(e.Attempt, time.Second, time.Minute), err)
	}
	if r.Status != Approved || !r.AutoApprove {
		return Done()
	}
	seen, out, done := s.lookAt(ctx, e, r)
	if done {
		return out
	}
	if seen.state == gateWaits {
		return s.blocked(ctx, e, seen)
	}

	// On hold.
	now := now()
	if r.Attempt.Open {
		if now.Sub(r.Attempt.At) < settleTime {
			return Again(followUp, nil)
		}
		if err := s.settled(ctx, e); err != nil {
			return Again(Backoff(e.Attempt, time.Second, 30*time.Second), err)
		}
	}
	if windowOver(r, now) || r.Restored {
		return s.recorded(ctx, e, func(tx Tx, now time.Time, r *Request) error {
			r.Attempt.Open = false
			return s.expire(tx, now, r)
		})
	}
	facts, err := s.ci.Facts(ctx, r.Facts.WorkflowID)
	if err != nil {
		return s.delayed(ctx, e, err)
	}
	if what := r.Facts.differs(facts); what != "" {
		return s.recorded(ctx, e, func(tx Tx, now time.Time, r *Request) error {
			r.Attempt.Open = false
			return s.cancel(tx, now, r, Failure{FailFactsChanged, what + " changed in CircleCI since the request was made"}, Actor{Kind: ActorCI}, "circleci")
		})
	}
	if r, err = s.attempt(ctx, e, seen.gate); err != nil {
		var stop *stopped
		if errors.As(err, &stop) {
			return stop.outcome
		}
		return Again(Backoff(e.Attempt, time.Second, 30*time.Second), err)
	}
	return s.call(ctx, e, r, seen.gate)
}

// lookAt reads the job list and takes in what ends the release. done: nothing
// is left to do in this delivery.
func (s *Service) lookAt(ctx context.Context, e Effect, r Request) (sighting, Outcome, bool) {
	jobs, err := s.ci.Jobs(ctx, r.Facts.WorkflowID)
	if err != nil {
		return sighting{}, s.delayed(ctx, e, err), true
	}
	seen := sight(r, jobs)
	if seen.state == gateOnHold || seen.state == gateWaits {
		return seen, Outcome{}, false
	}
	self, err := s.ci.Self(ctx)
	if err != nil {
		return seen, s.delayed(ctx, e, err), true
	}
	ended := s.newEnding(ctx, r, seen, self)
	out := Done()
	out.Record = func(tx Tx, now time.Time) error {
		r, err := tx.Request(e.Request)
		if err != nil {
			return err
		}
		_, err = s.takeIn(tx, now, &r, seen, ended)
		return err
	}
	return seen, out, true
}

// quickLooks is how often a release looks again by itself whether its gate was
// reached: the job that files a request mostly ends within seconds of it. Then the
// watcher goes on, whose looks at all requests keep a common pace.
const quickLooks = 4

// blocked waits for the gate to become approvable.
func (s *Service) blocked(ctx context.Context, e Effect, seen sighting) Outcome {
	out := Again(min(Backoff(e.Attempt, time.Second, time.Minute), s.poll), nil)
	if e.Attempt > quickLooks {
		out = Done()
	}
	return s.recordedThen(ctx, e, out, func(tx Tx, now time.Time, r *Request) error {
		if now.After(r.lastChance()) {
			return s.expire(tx, now, r)
		}
		changed := r.Gate.Status != seen.gate.Status || r.Attempt.ToldDelay
		r.Gate.Status = seen.gate.Status
		r.Attempt.LastBlocked = newer(r.Attempt.LastBlocked, now)
		r.Attempt.Open = false
		r.Attempt.ToldDelay = false
		if err := tx.SaveRequest(r); err != nil {
			return err
		}
		// It may be there already, brought forward by nothing but its own pace.
		effects := []Effect{watch(r.Facts.WorkflowID, now.Add(s.poll))}
		if changed {
			effects = append(effects, cardUpdate(*r))
		}
		return enqueue(tx, effects...)
	})
}

// delayed notes that the provider did not answer a look-up or a call. It never
// closes a request before its time is over.
func (s *Service) delayed(ctx context.Context, e Effect, cause error) Outcome {
	out := ciAgain(e, cause)
	return s.recordedThen(ctx, e, out, func(tx Tx, now time.Time, r *Request) error {
		if now.After(r.lastChance()) && !r.Attempt.Open {
			return s.expire(tx, now, r)
		}
		return noteSilence(tx, now, r, now.Add(out.After), cause)
	})
}

// noteSilence records that the provider did not answer about an approval that
// waits. The time until the next try does not count against it. The thread hears
// of it when it lasts.
func noteSilence(tx Tx, now time.Time, r *Request, until time.Time, cause error) error {
	r.Attempt.LastBlocked = newer(r.Attempt.LastBlocked, until)
	tell := r.AutoApprove && !r.Attempt.ToldDelay && now.Sub(r.ApprovedAt) > tellDelay
	r.Attempt.ToldDelay = r.Attempt.ToldDelay || tell
	if err := tx.SaveRequest(r); err != nil || !tell {
		return err
	}
	d := about(*r, EventDelayed, Actor{Kind: ActorCI}, "circleci")
	d.Outcome = delayName(cause)
	d, err := record(tx, now, d)
	if err != nil {
		return err
	}
	return enqueue(tx, reply(*r, d), cardUpdate(*r))
}

func delayName(err error) string {
	if status := ciStatus(err); status != 0 {
		return strconv.Itoa(status)
	}
	return "no answer"
}

// settled records that the newest call had no effect: the gate still is on hold.
func (s *Service) settled(ctx context.Context, e Effect) error {
	return s.update(ctx, func(tx Tx, _ time.Time) error {
		if err := tx.Holds(e); err != nil {
			return err
		}
		r, err := tx.Request(e.Request)
		if err != nil {
			return err
		}
		r.Attempt.Open = false
		return tx.SaveRequest(&r)
	})
}

// stopped ends a delivery from within a transaction.
type stopped struct{ outcome Outcome }

func (*stopped) Error() string { return "stopped" }

// attempt records that the approve call is about to be made, after judging
// everything once more in the same transaction.
func (s *Service) attempt(ctx context.Context, e Effect, gate Job) (Request, error) {
	var r Request
	var stop *stopped
	err := s.update(ctx, func(tx Tx, now time.Time) error {
		var err error
		if err = tx.Holds(e); err != nil {
			return err
		}
		if r, err = tx.Request(e.Request); err != nil {
			return err
		}
		if r.Status != Approved {
			return &stopped{Done()}
		}
		if why := s.hold(); why != "" {
			// Not for long: it may be this process alone that must not, and another
			// one that waits for the effect.
			return &stopped{Again(Backoff(e.Attempt, time.Second, 5*time.Second), errors.New(why))}
		}
		p, err := s.settings.Lookup(r.App, r.Environment)
		if err != nil {
			stop = &stopped{Done()}
			return s.cancel(tx, now, &r, Failure{FailAppGone, "the app's settings are gone"}, Actor{Kind: ActorSystem}, "timer")
		}
		valid, lost, stale, err := tally(tx, now, p, r)
		if err != nil {
			return err
		}
		if need := needed(r, p); valid < need {
			if stale {
				return &stopped{Again(5*time.Second, errors.New("people cannot be confirmed at Slack"))}
			}
			stop = &stopped{Done()}
			return s.undeliverable(tx, now, &r, Failure{FailQuorumLost, fmt.Sprintf("only %d of %d approvals still count", valid, need)}, lost)
		}
		r.Attempt.Count++
		r.Attempt.At = now
		r.Attempt.Open = true
		r.Attempt.ApprovalID = gate.approvalID()
		r.Gate.Status = gate.Status
		if err := tx.SaveRequest(&r); err != nil {
			return err
		}
		a := about(r, EventAttempt, Actor{Kind: ActorSystem}, "circleci")
		a.Data = map[string]string{"attempt": strconv.Itoa(r.Attempt.Count), "approval_request_id": r.Attempt.ApprovalID, "round": strconv.Itoa(r.Round)}
		_, err = record(tx, now, a)
		return err
	})
	if err == nil && stop != nil {
		err = stop
	}
	return r, err
}

// call makes the approve call and judges by the job list what came of it.
func (s *Service) call(ctx context.Context, e Effect, r Request, gate Job) Outcome {
	err := s.ci.Approve(ctx, r.Facts.WorkflowID, r.Attempt.ApprovalID)
	if err == nil {
		if out := s.note(ctx, e, EventAccepted, "accepted", ""); out != nil {
			return *out
		}
	} else if out := s.note(ctx, e, EventGateRefused, delayName(err), err.Error()); out != nil {
		return *out
	}
	seen, out, done := s.lookAt(ctx, e, r)
	if done {
		return out
	}
	var ci *CIError
	switch {
	case err == nil:
		return Again(followUp, nil)
	case errors.As(err, &ci) && ci.Refused() && seen.state == gateOnHold:
		return s.recorded(ctx, e, func(tx Tx, now time.Time, r *Request) error {
			r.Attempt.Open = false
			return s.undeliverable(tx, now, r, Failure{FailRefused, ci.Message}, nil)
		})
	case ci != nil && ci.Status == 429:
		// Certainly not done: no need to let the list settle.
		out := ciAgain(e, err)
		return s.recordedThen(ctx, e, out, func(tx Tx, now time.Time, r *Request) error {
			r.Attempt.Open = false
			r.Attempt.LastBlocked = now.Add(out.After)
			return tx.SaveRequest(r)
		})
	case ci == nil || ci.Status == 0 || ci.Status >= 500:
		return s.delayed(ctx, e, err)
	}
	return Again(settleTime, err)
}

// note records the answer to a call. A non-nil outcome ends the delivery.
func (s *Service) note(ctx context.Context, e Effect, t EventType, outcome, reason string) *Outcome {
	err := s.update(ctx, func(tx Tx, now time.Time) error {
		if err := tx.Holds(e); err != nil {
			return err
		}
		r, err := tx.Request(e.Request)
		if err != nil {
			return err
		}
		n := about(r, t, Actor{Kind: ActorCI}, "circleci")
		n.Outcome, n.Reason = outcome, reason
		n.Data = map[string]string{"attempt": strconv.Itoa(r.Attempt.Count)}
		if n, err = record(tx, now, n); err != nil {
			return err
		}
		return tx.Enqueue(reply(r, n))
	})
	if err != nil {
		out := Again(Backoff(e.Attempt, time.Second, 30*time.Second), err)
		return &out
	}
	return nil
}

// undeliverable ends a release that cannot be made, until somebody retries.
func (s *Service) undeliverable(tx Tx, now time.Time, r *Request, why Failure, lost []string) error {
	r.Failure = why
	e := about(*r, EventUndeliverable, Actor{Kind: ActorCI}, "circleci")
	e.Data = map[string]string{"detail": why.Detail}
	if why.Code == FailQuorumLost {
		e.Actor = Actor{Kind: ActorSystem}
		for i, id := range lost {
			e.Data["lost"+strconv.Itoa(i)] = id
		}
	}
	return s.end(tx, now, r, Undeliverable, e)
}

// recorded ends a delivery with a change of its request, as long as the request
// still is approved.
func (s *Service) recorded(ctx context.Context, e Effect, change func(Tx, time.Time, *Request) error) Outcome {
	return s.recordedThen(ctx, e, Done(), change)
}

func (s *Service) recordedThen(_ context.Context, e Effect, out Outcome, change func(Tx, time.Time, *Request) error) Outcome {
	out.Record = func(tx Tx, now time.Time) error {
		r, err := tx.Request(e.Request)
		if err != nil || r.Status != Approved {
			return err
		}
		return change(tx, now, &r)
	}
	return out
}
