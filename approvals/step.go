package approvals

import (
	"cmp"
	"slices"
	"strconv"
	"time"
)

// Times of the follower.
const (
	// quickLook is the first pause between looks while something is about to happen.
	quickLook = 500 * time.Millisecond
	// slowLook is how often a closed request whose gate still waits is looked at.
	slowLook = 5 * time.Minute
	// settleTime is how long the job list may lag behind a call that was accepted
	// or whose answer was lost, before the call is repeated.
	settleTime = 15 * time.Second
	// factsLooks is how many looks pass between two readings of the facts.
	factsLooks = 20
	// clockSkew is how far CircleCI's clock may differ from ours.
	clockSkew = 30 * time.Second
	// hiccup is for how long CircleCI may fail without a word.
	hiccup = 5 * time.Second
	// tellDelay is how long CircleCI may be silent before the thread says so.
	tellDelay = 20 * time.Second
	// goneLooks and goneTime are how many looks in a row, and for how long, must find
	// no such workflow before it counts as gone for good.
	goneLooks = 10
	goneTime  = 24 * time.Hour
)

// Act is what the follower has to do at the CI provider.
type Act int

// The acts. The first two only read, and then step again.
const (
	ActNone Act = iota
	ActReadFacts
	ActReadSiblings
	ActApprove
	ActCancelJob
	ActCancelWorkflow
)

// Knowledge is what the store knows now about a request and its surroundings.
type Knowledge struct {
	Policy *Policy // nil: the app is not in the settings of this node
	Tally
	// Overtaken is the request that takes this one's place, nil when there is none.
	Overtaken *Request
	Others    []Request     // the other requests of the workflow
	Hold      string        // why decisions are on hold, "" = they are not
	Rolled    bool          // the database is an older copy: it may lack what was done since
	Poll      time.Duration // how often open gates are looked at
	// Able can still approve; nil = not known, or not asked for. See [Request.remindAt].
	Able []string
}

// Tally is how the votes of the current round, or its emergency release, count now.
type Tally struct {
	Valid int          // votes that count
	Lost  []string     // people whose votes do not count any more
	Stale bool         // some votes cannot be judged: what is known of the people is too old
	Self  SelfApproval // whether a voter whose vote counts started the workflow
}

// Move is what follows from a look.
type Move struct {
	Events []Event
	Act    Act
	Gate   Job       // what Act is about
	Next   time.Time // when to look again; zero = never
	Rank   int       // the rank of that look
	// Deadline is when time alone may change something; zero = never. A look then has
	// the rank of what is due.
	Deadline time.Time
	Show     bool // the card shows something else by now
	Trail    Trail
}

// Step is the rule book after a request was filed. It is pure: it reads no clock,
// no store and no network. Whatever it returns has to be committed before its act
// is carried out; an act that changes something comes with an event that says so.
//
// Each status has rules of its own, in a file of its own: step_pending.go,
// step_approved.go, step_released.go and step_closed.go. What they share are the
// rules for a gate, in step_gate.go, and those for a look that failed, below.
func Step(r Request, t Trail, l Look, k Knowledge, now time.Time) Move {
	s := &step{r: r, l: l, k: k, now: now, m: Move{Trail: t, Rank: rankOpen}}
	s.look()
	switch r.Status {
	case Pending:
		s.pending()
	case Approved:
		s.approved()
	case Released:
		s.released()
	default:
		s.closed()
	}
	return s.m
}

// step is one application of the rules.
type step struct {
	r     Request
	l     Look
	k     Knowledge
	now   time.Time
	m     Move
	state gateState
	gate  Job
	odd   string // what is odd about the gate, "" for nothing
	first bool   // no job list with the gate is known that was read before
	// recovered: CircleCI answers again, after looks that failed for a while.
	recovered bool
	// silent: before this look CircleCI did not answer, and it lacks facts.
	silent bool
	// idle is for how long in all nobody looked at an approval since its gate was seen.
	idle time.Duration
	// changed is the fact that the newest reading had changed, "" for none.
	changed string
}

// look notes in the trail how the look went, and finds the gate in it.
func (s *step) look() {
	t := &s.m.Trail
	idle := t.Idle
	t.Idle += s.missed()
	s.idle = t.Idle
	if s.l.Err != nil {
		t.FailedAt = cmp.Or(t.FailedAt, s.now)
		if ciError(s.l.Err).Status == 404 {
			t.Gone++
		}
		return
	}
	t.Gone = 0
	t.Looks++
	s.state, s.gate, s.odd = s.l.gate(s.r)
	if s.state != gateOdd && !s.unnamed() {
		t.Odd = Doubt{}
	}
	s.silent = s.lacksFacts() && (s.r.Gate.Silent || !t.FailedAt.IsZero())
	switch {
	case !s.lacksFacts():
		s.recovered = !t.FailedAt.IsZero() && s.now.Sub(t.FailedAt) > hiccup
		t.FailedAt = time.Time{}
		if s.state != gateOdd {
			t.Idle = 0
		}
	case s.l.FactsErr != nil:
		t.FailedAt = cmp.Or(t.FailedAt, s.now)
	default:
		t.Idle = idle // it is judged when they were read
	}
	if s.state == gateWaits || s.state == gateOnHold {
		t.LookedAt = s.l.At
	}
	if s.state != gateOdd {
		s.first = t.Jobs == 0
		if t.Jobs = max(t.Jobs, len(s.l.Jobs)); len(s.l.Jobs) == t.Jobs {
			t.Short = Doubt{}
		}
	}
	if s.l.Facts == nil {
		return
	}
	t.Looks = 0
	if !s.l.Facts.WorkflowStatus.Final() {
		t.Over = Doubt{}
	}
	if s.changed = s.r.Facts.differs(*s.l.Facts); s.changed == "" {
		t.Changed = Doubt{}
	}
}

// lacksFacts reports whether the facts are missing that it takes to open the gate.
func (s *step) lacksFacts() bool {
	return s.r.Status == Approved && s.r.AutoApprove && s.state == gateOnHold && s.l.Facts == nil
}

// missed is for how long nobody looked at an approval although a look was due.
func (s *step) missed() time.Duration {
	if s.r.Status != Approved || s.l.Due.IsZero() {
		return 0
	}
	if late := s.now.Sub(latest(s.l.Due, s.r.ApprovedAt)); late > lateLook {
		return late
	}
	return 0
}

// at has the workflow looked at again, unless something else is sooner.
func (s *step) at(next time.Time) {
	s.m.Next = sooner(s.m.Next, next)
}

// by has the workflow looked at again at a deadline, unless something else is sooner.
func (s *step) by(deadline time.Time) {
	s.at(deadline)
	s.m.Deadline = sooner(s.m.Deadline, deadline)
}

// in has the workflow looked at again after a pause, unless something else is sooner.
func (s *step) in(pause time.Duration) { s.at(s.now.Add(pause)) }

// happens adds an event, which the caller may still fill in.
func (s *step) happens(t EventType, by Actor, data Data) *Event {
	e := about(s.r, t, by, "circleci")
	e.Data = data
	s.m.Events = append(s.m.Events, e)
	return &s.m.Events[len(s.m.Events)-1]
}

// ends adds the event of an ending, and has the follower look once more, under
// the rules of the new status.
func (s *step) ends(t EventType, by Actor, why Failure, data Data) *Event {
	if data == nil {
		data = Data{}
	}
	data["detail"] = why.Detail
	e := s.happens(t, by, data)
	e.Outcome, e.Reason = string(becomes[t]), why.Code
	s.m.Next, s.m.Rank = s.now, rankDue
	return e
}

// lapses ends a request for a reason that no look shows: time, the settings or a
// newer request.
func (s *step) lapses(t EventType, why Failure, data Data) {
	s.ends(t, Actor{Kind: ActorSystem}, why, data).Source = "timer"
}

// unused ends an approval that was not used in its window.
func (s *step) unused() {
	s.lapses(EventExpired, Failure{FailWindowOver, "the approval was not used in time"}, nil)
}

// appGone ends a request of an app that the operator took out of the settings.
func (s *step) appGone() { s.lapses(EventCanceled, failAppGone, nil) }

var failAppGone = Failure{FailAppGone, "the app is not in the settings any more"}

// canceled ends a request because what it asked for is gone.
func (s *step) canceled(why Failure, by Actor) { s.ends(EventCanceled, by, why, nil) }

// anotherOne reports whether one of the workflow's other requests is as described.
func (s *step) anotherOne(is func(Request) bool) bool { return slices.ContainsFunc(s.k.Others, is) }

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
// the facts that it takes to open the gate. The approval loses no time by it, but it ends
// with the time in which Retry would be offered, unless a call may still take effect.
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

// answers notes that CircleCI answers again.
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
