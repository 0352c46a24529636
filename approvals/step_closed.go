package approvals

import (
	"slices"
	"strconv"
	"time"
)

const (
	// showTime is how long the job list may take to show that a gate was stopped.
	showTime = 2 * time.Minute
	// closeTries is after how many calls a refusal counts as the last word.
	closeTries = 8
)

// A workflow that ended can be run again for a long time, but whoever runs it
// again mostly does so soon.
const (
	rerunSoon = time.Hour      // look every slowLook
	rerunLong = 24 * time.Hour // then every rerunLook
	rerunLook = 30 * time.Minute
)

// closed are the rules for a request whose gate we will not approve any more: the
// gate is stopped as on_close says, a later approval by anyone raises an alarm,
// and a newer workflow that waits unasked is pointed out.
func (s *step) closed() {
	s.m.Rank = rankClosed
	if !s.r.Status.Passed() && s.r.Gate.Status == "" {
		s.closedGate()
	}
	if s.r.mayRerun() {
		s.rerun()
	}
	switch over := s.r.RetryUntil().Add(time.Second); {
	case !s.r.retryable() || s.m.Trail.RetryOver:
	case s.now.Before(over):
		s.by(over)
	default:
		s.m.Trail.RetryOver, s.m.Show = true, true // the card loses its button
	}
}

// closedGate looks after a gate of which no event says yet how it ended.
func (s *step) closedGate() {
	if s.l.Err != nil {
		s.lookAgain(s.haste(), max(2*s.haste(), s.now.Sub(s.m.Trail.FailedAt)/40))
		return
	}
	switch s.state {
	case gateOpened:
		if s.knowsWho() {
			s.openedLate()
		}
	case gateEnded:
		s.happens(EventGateEnded, Actor{Kind: ActorCI, ID: s.l.name(s.gate.CanceledBy)}, nil).Outcome = string(s.gate.Status)
	case gateOdd:
		s.confirmed(&s.m.Trail.Odd, s.odd)
		if s.l.At.Sub(s.m.Trail.Odd.Since) < rerunLong {
			s.in(slowLook)
		}
	case gateWaits:
		s.closedWaits()
	default:
		s.in(slowLook)
		s.close()
	}
}

// haste is how soon the gate of a closed request is looked at when it may have to be
// stopped then.
func (s *step) haste() time.Duration {
	if s.closes() {
		return s.k.Poll
	}
	return slowLook
}

// closedWaits are the rules for a gate that is not on hold: it is stopped when it is,
// or with its workflow. It never will be in a workflow that is over, whose list may
// leave it as it was.
func (s *step) closedWaits() {
	pause, hopeless := s.haste(), s.r.Closing.Accepted() || stuck(s.l.Jobs, s.gate)
	if hopeless {
		pause = slowLook
	}
	s.in(max(pause, min(s.now.Sub(s.r.ClosedAt)/40, time.Hour)))
	switch {
	case s.ended():
		s.happens(EventGateEnded, Actor{Kind: ActorCI, ID: s.l.Facts.CanceledBy}, Data{"workflow": string(s.l.Facts.WorkflowStatus)}).Outcome = string(JobNotRun)
	case s.factsDue(hopeless):
		s.m.Act = ActReadFacts
	case s.m.Trail.Over.What == "":
		s.close()
	}
}

// openedLate takes in that the gate of a closed request is open.
func (s *step) openedLate() {
	newer := func(o Request) bool { return o.Number > s.r.Number && o.GateName == s.r.GateName }
	replaced := func(o Request) bool { return samePlace(o, s.r) && !o.Status.yields() }
	switch {
	case s.r.Status.CanBecome(Released) && s.r.ours(s.gate, s.l.Self) && !s.anotherOne(replaced):
		s.opened() // our own call took effect after all
	case s.anotherOne(newer):
		// The newer request for the same gate tells who opened it.
	default:
		s.happens(EventGateBypassed, Actor{Kind: ActorCI, ID: s.l.name(s.gate.ApprovedBy)}, nil).Outcome = string(s.r.Status)
	}
}

// closes reports whether the gate is to be stopped.
func (s *step) closes() bool {
	return s.r.closesGate() && !s.r.CanRetry(s.now) && !s.anotherOne(s.needsGate)
}

// close stops a gate that waits, as on_close says. One that is blocked cannot be
// cancelled yet.
func (s *step) close() {
	if !s.closes() {
		return
	}
	if s.short() { // a job that it lacks may run although the gate was cancelled
		s.in(s.k.Poll)
		return
	}
	act, outcome := ActCancelJob, CloseCancelJob
	if s.r.OnClose == CloseCancelWorkflow || acceptsCanceled(s.l.Jobs, s.gate.ID) {
		act, outcome = ActCancelWorkflow, CloseCancelWorkflow
	}
	c := s.r.Closing
	switch {
	case s.state == gateWaits && (act == ActCancelJob || c.Accepted()):
		return
	case c.Answer >= 400 && c.Count >= closeTries, c.Answer == 401 || c.Answer == 403:
		return // the thread asks people to do it; it is watched, and its alarm raised
	case c.Count > 0 && s.now.Before(c.repeatAt()):
		s.in(max(min(s.k.Poll, 2*time.Second), s.now.Sub(c.At)/2))
		s.by(c.repeatAt())
		return
	}
	s.m.Act, s.m.Gate = act, s.gate
	s.happens(EventClosing, Actor{Kind: ActorSystem}, Data{"attempt": strconv.Itoa(c.Count + 1)}).Outcome = string(outcome)
}

// needsGate reports whether another request for the same gate needs it. One that could
// be retried does not where this one took its place for good; see retaken.
func (s *step) needsGate(o Request) bool {
	taken := !s.r.Status.yields() && samePlace(o, s.r)
	return o.GateName == s.r.GateName && (o.Status.Passed() || o.Status.Open() || o.CanRetry(s.now) && !taken)
}

// samePlace reports whether two requests are for the same app and environment.
func samePlace(a, b Request) bool { return a.App == b.App && a.Environment == b.Environment }

// repeatAt is when a gate may be stopped once more: later each time, and when the job
// list must have shown a call that was accepted.
func (c Closing) repeatAt() time.Time {
	pause := Backoff(c.Count, 5*time.Second, 30*time.Minute)
	if c.Accepted() {
		pause = max(pause, showTime)
	}
	return c.At.Add(pause)
}

// acceptsCanceled reports whether a job would run although its gate was
// cancelled: then the whole workflow has to go.
func acceptsCanceled(jobs []Job, gateID string) bool {
	return slices.ContainsFunc(jobs, func(j Job) bool { return accepts(j.Needs[gateID], JobCanceled) })
}

// closesGate reports whether on_close applies to how the request ended.
func (r Request) closesGate() bool {
	return r.OnClose != CloseNothing && slices.Contains([]Status{Rejected, Expired, Superseded, Canceled}, r.Status)
}

// rerun looks for a newer workflow of the pipeline whose gate waits although
// nobody asked for it.
func (s *step) rerun() {
	t := &s.m.Trail
	closed := s.now.Sub(s.r.ClosedAt)
	if closed > rerunLong {
		return
	}
	every := slowLook
	if closed > rerunSoon {
		every = rerunLook
	}
	if due := latest(t.SiblingsAt, s.r.ClosedAt).Add(every); s.now.Before(due) {
		s.at(due)
		return
	}
	s.in(every)
	if !s.l.Siblings {
		if s.m.Act == ActNone && len(s.m.Events) == 0 {
			s.m.Act = ActReadSiblings
		}
		return
	}
	t.SiblingsAt = s.now
	for _, id := range s.l.Unasked {
		if !slices.Contains(s.r.NewerFlows, id) {
			s.happens(EventNewerWorkflow, Actor{Kind: ActorCI}, Data{"workflow_id": id})
		}
	}
}

// mayRerun reports whether a request ended so that its workflow may be run again
// without a job that files another request: a rerun from failed repeats no job
// that succeeded.
func (r Request) mayRerun() bool {
	return r.Status == DeployFailed || !r.Status.Open() && !r.Status.Passed()
}
