package approvals

import (
	"strconv"
	"time"
)

const (
	// tellDelay is how long CircleCI may be silent before the thread says so.
	tellDelay = 20 * time.Second
	// goneLooks and goneTime are how many looks in a row, and for how long, must find
	// no such workflow before it counts as gone for good.
	goneLooks = 10
	goneTime  = 24 * time.Hour
)

// lookAgain has a look that failed repeated: when CircleCI asked for it, else slower
// and slower, from base to most. A workflow that is gone for good is left.
func (s *step) lookAgain(base, most time.Duration) {
	if s.gone() {
		return
	}
	failing := s.now.Sub(s.m.Trail.FailedAt)
	if s.m.Trail.Gone > goneLooks {
		most = max(most, time.Hour)
	}
	pause := max(base, min(failing/4, most))
	s.in(max(pause, min(ciError(s.l.failure()).RetryAfter, slowLook)))
}

// gone reports whether CircleCI has not known the workflow for so long that it
// never will again.
func (s *step) gone() bool {
	return s.m.Trail.Gone > goneLooks && s.now.Sub(s.m.Trail.FailedAt) > goneTime
}

// silence are the rules for an approval while CircleCI does not answer, not even with
// the facts that it takes to open the gate. The
// approval loses no time by it, but it ends with the time in which Retry would be
// offered, unless a call may still take effect.
func (s *step) silence() {
	switch {
	case s.gone():
		s.ends(EventUndeliverable, Actor{Kind: ActorCI}, Failure{FailCIGone, "CircleCI has not known the workflow for a day: it was deleted, or the gateway's token may not see it any more"}, nil)
		return
	case s.now.After(s.r.lastChance()) && !s.r.unresolved():
		s.unused()
		return
	case !s.r.Gate.Silent && s.r.AutoApprove && s.now.Sub(latest(s.m.Trail.FailedAt, s.r.ApprovedAt)) > tellDelay:
		s.happens(EventDelayed, Actor{Kind: ActorCI}, nil).Outcome = delayName(s.l.failure())
	}
	s.lookAgain(min(2*time.Second, s.k.Poll), s.k.Poll)
	if !s.r.unresolved() {
		s.by(s.r.lastChance().Add(time.Millisecond))
	}
}

// answers notes that CircleCI answers again. The window of the approval counts from
// then on.
func (s *step) answers() {
	if !s.lacksFacts() && (s.r.Gate.Silent || s.recovered) {
		s.r.Gate.Silent = false
		s.usable(EventAnswers)
	}
}

// delayName names a failed call for the log: the HTTP status of the answer, or that
// there was none.
func delayName(err error) string {
	if status := ciError(err).Status; status != 0 {
		return strconv.Itoa(status)
	}
	return "no answer"
}
