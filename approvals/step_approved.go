package approvals

import (
	"fmt"
	"strconv"
	"time"
)

const (
	// longestSettle is the longest pause between two approve calls.
	longestSettle = 5 * time.Minute
	// lateLook is how late a look may be before the time until it counts as time in
	// which nobody looked.
	lateLook = time.Minute
	// heldLook is how soon decisions that are on hold, or people who are not known
	// well enough, are asked about again.
	heldLook = 5 * time.Second
)

// approved are the rules from the decision on until the gate is open.
func (s *step) approved() {
	if s.r.AutoApprove {
		s.m.Rank = rankUrgent
	}
	if s.l.Err != nil {
		s.silence()
		return
	}
	s.answers()
	switch {
	case s.settled():
	case s.state == gateOnHold:
		if s.r.Gate.Waiting {
			s.r.Gate.Waiting = false
			s.usable(EventReached)
		}
		if s.r.AutoApprove {
			s.release()
		} else {
			s.handed()
		}
	case !s.unfit():
		s.waits()
	}
}

// waits are the rules for an approval whose gate was not reached yet.
func (s *step) waits() {
	if s.now.After(s.r.lastChance()) {
		s.unused()
		return
	}
	if !s.r.Gate.Waiting {
		s.happens(EventWaiting, Actor{Kind: ActorCI}, Data{"status": string(s.gate.Status)})
	}
	if s.workflowOver() {
		return
	}
	// The job that files a request mostly ends within seconds of it.
	waited := s.now.Sub(s.r.ApprovedAt)
	s.in(min(max(quickLook, waited/2), s.k.Poll))
	if s.m.Rank = rankOpen; waited < time.Minute {
		s.m.Rank = rankUrgent
	}
	s.by(s.r.lastChance().Add(time.Millisecond))
}

// usable notes that the approval can be used, after a time in which it could not. Its
// window counts from then on, but time in which nobody looked is not credited.
func (s *step) usable(e EventType) {
	since := s.now.Add(-s.idle)
	s.r.Gate.Since = latest(s.r.Gate.Since, since)
	s.happens(e, Actor{Kind: ActorCI}, Data{"since": since.Format(timeFormat)})
}

// handed are the rules for a gate on hold that a person has to open, because
// auto-approve is off.
func (s *step) handed() {
	switch {
	case s.r.windowOver(s.now):
		s.unused()
	case !s.unfit() && !s.workflowOver() && s.stands():
		s.in(s.k.Poll)
		s.by(s.r.usableUntil().Add(time.Millisecond))
	}
}

// release are the rules for a gate on hold that we have to open. Every try starts
// from a look, so it does not matter where the one before was cut off.
func (s *step) release() {
	switch a := s.r.Attempt; {
	case a.Count > 0 && (a.Answer == 401 || a.Answer == 403 || a.Answer == 404):
		s.ends(EventUndeliverable, Actor{Kind: ActorCI}, Failure{FailRefused, a.Detail}, nil)
	case a.Count > 0 && s.now.Before(s.repeatAt()):
		s.at(s.repeatAt())
		if since := s.now.Sub(a.At); s.r.unresolved() && since < settleTime {
			s.in(min(max(quickLook, since/2), 2*time.Second))
		} else {
			s.in(s.k.Poll)
		}
	case !s.silent && s.r.windowOver(s.now), s.r.Restored:
		s.unused()
	case s.l.FactsErr != nil:
		s.silence()
	case !s.silent && !s.stands():
	case s.l.Facts == nil:
		s.m.Act = ActReadFacts
		s.in(quickLook)
	case !s.unfit():
		s.m.Act, s.m.Gate = ActApprove, s.gate
		s.happens(EventAttempt, Actor{Kind: ActorSystem}, Data{
			"attempt": strconv.Itoa(s.r.Attempt.Count + 1), "approval_request_id": s.gate.approvalID(), "round": strconv.Itoa(s.r.Round),
		})
		s.in(settleTime)
	}
}

// repeatAt is when an approve call may be repeated: when the job list must have
// shown the one before, and later each time, whatever CircleCI answers.
func (s *step) repeatAt() time.Time {
	a, base := s.r.Attempt, settleTime
	if a.Answer == 429 {
		base = 2 * time.Second
	}
	return latest(a.NotBefore, a.At.Add(Backoff(a.Count, base, longestSettle)))
}

// releasing reports whether a call of ours may have opened the gate; held is when it
// was seen on hold last. A late effect is waited for twice as long as before a call is
// repeated. The answer to the newest call says nothing of those before it.
func (r Request) releasing(held time.Time) bool {
	return r.Status == Approved && r.Attempt.Count > 0 && held.Sub(r.Attempt.At) < 2*settleTime
}

// stands reports whether the decision counts now. One that does not ends the
// request; while that cannot be told, it is asked again soon.
func (s *step) stands() bool {
	lost, sure := s.k.lost(s.r)
	switch {
	case !sure:
		// It may be this process alone that must not, and another one that waits.
		s.in(heldLook)
	case lost.Code == FailAppGone:
		s.appGone()
	case lost.Code != "":
		s.ends(EventUndeliverable, Actor{Kind: ActorSystem}, lost, nil).People = s.k.Lost
	}
	return sure && lost.Code == ""
}

// lost says why a decision does not count any more, nothing while it does. sure is
// false while that cannot be told.
func (k Knowledge) lost(r Request) (why Failure, sure bool) {
	switch {
	case k.Hold != "":
		// With other settings than those of another node, an app may only seem to be gone.
		return Failure{}, false
	case k.Policy == nil:
		return failAppGone, true
	}
	need := needed(r, *k.Policy)
	why = Failure{FailQuorumLost, fmt.Sprintf("only %d of %d approvals still count", k.Valid, need)}
	if _, ok := r.Emergency(); ok {
		why.Detail = "the person who released it in an emergency may no longer do so"
	}
	switch {
	case k.Valid >= need:
		return Failure{}, true
	case k.Stale:
		return Failure{}, false
	}
	return why, true
}
