package approvals

import (
	"slices"
	"time"
)

// takeInClosed keeps an eye on the gate of a request that is closed, so that a
// later approval by anyone raises an alarm.
func (s *Service) takeInClosed(tx Tx, now time.Time, r *Request, seen sighting, ended ending) (time.Duration, error) {
	if r.Status.Passed() || r.Gate.over() {
		return 0, nil
	}
	switch seen.state {
	case gateChanged:
		if now.Sub(r.ClosedAt) > rerunLong {
			return 0, nil
		}
		return slowWatch, nil // a list may be cut short for once
	case gateOnHold, gateWaits:
		return s.takeInWaiting(tx, now, r, seen)
	case gateEnded:
		r.Gate.Status, r.Gate.AssumedAt = seen.gate.Status, time.Time{}
		if err := tx.SaveRequest(r); err != nil {
			return 0, err
		}
		return 0, tx.Enqueue(cardUpdate(*r))
	}
	asked, err := askedAgain(tx, *r)
	if err != nil {
		return 0, err
	}
	r.Gate = Gate{Status: seen.gate.Status, ApprovedBy: ended.by, Bypassed: !asked}
	if err := tx.SaveRequest(r); err != nil || asked {
		return 0, err
	}
	e := about(*r, EventGateBypassed, Actor{Kind: ActorCI, ID: ended.by}, "circleci")
	e.Outcome = string(r.Status)
	if e, err = record(tx, now, e); err != nil {
		return 0, err
	}
	return 0, enqueue(tx, reply(*r, e), noticeChannel(r.Channel, e), cardUpdate(*r))
}

// askedAgain reports whether a newer request was made for the same gate: who
// opened it is told there.
func askedAgain(tx Tx, r Request) (bool, error) {
	same, err := tx.Requests(Filter{WorkflowID: r.Facts.WorkflowID})
	return slices.ContainsFunc(same, func(o Request) bool { return o.Number > r.Number && o.GateName == r.GateName }), err
}

// takeInWaiting goes on with on_close where it had to wait for the gate.
func (s *Service) takeInWaiting(tx Tx, now time.Time, r *Request, seen sighting) (time.Duration, error) {
	if !r.Gate.AssumedAt.IsZero() {
		return s.takeInAssumed(tx, now, r, seen)
	}
	closes := closesGate(*r) && !r.CanRetry(now)
	again := slowWatch
	if closes && seen.state == gateWaits {
		again = s.poll
	}
	if r.Gate.Status == seen.gate.Status {
		return again, nil
	}
	r.Gate.Status = seen.gate.Status
	if err := tx.SaveRequest(r); err != nil {
		return 0, err
	}
	if closes && seen.state == gateOnHold {
		return again, tx.Enqueue(gateClose(*r, now))
	}
	return again, nil
}

// showTime is how long it may take until the job list shows how a gate ended.
const showTime = 2 * time.Minute

// takeInAssumed compares what ought to have become of a gate with a look that
// shows it waiting.
func (s *Service) takeInAssumed(tx Tx, now time.Time, r *Request, seen sighting) (time.Duration, error) {
	if now.Sub(r.Gate.AssumedAt) < showTime {
		return s.poll, nil
	}
	r.Gate.AssumedAt = time.Time{}
	if seen.state == gateWaits {
		// Of a workflow that is over: the list leaves it as it was.
		return 0, tx.SaveRequest(r)
	}
	r.Gate.Status = seen.gate.Status
	if err := tx.SaveRequest(r); err != nil {
		return 0, err
	}
	return slowWatch, tx.Enqueue(cardUpdate(*r))
}
