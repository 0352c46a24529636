package approvals

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// Times of the follower.
const (
	// settleTime is how long the job list may lag behind a call that was accepted
	// or whose answer was lost, before the call is repeated.
	settleTime = 15 * time.Second
	// longestSettle is the longest pause between two approve calls.
	longestSettle = 5 * time.Minute
	// quickLook is the first pause between looks while something is about to happen.
	quickLook = 500 * time.Millisecond
	// oddTime is how long an odd look must be confirmed by another one.
	oddTime = 10 * time.Second
	// tellDelay is how long CircleCI may be silent before the thread says so.
	tellDelay = 20 * time.Second
	// slowLook is how often a closed request whose gate still waits is looked at.
	slowLook = 5 * time.Minute
	// goneTime is after how long a workflow that CircleCI does not know any more is
	// left, if no request of it can still be decided.
	goneTime = 24 * time.Hour
	// longDeploy is after how long a running deploy is looked at slowly.
	longDeploy = 6 * time.Hour
	// showTime is how long the job list may take to show that a gate was stopped.
	showTime = 2 * time.Minute
	// factsLooks is how many looks pass between two readings of the facts.
	factsLooks = 20
	// closeTries is how often a gate that will not be approved is stopped.
	closeTries = 8
	// clockSkew is how far CircleCI's clock may differ from ours.
	clockSkew = 30 * time.Second
	// promptLook is how soon after a decision a look shows what was there before it.
	promptLook = 5 * time.Second
	// lateLook is how late a look may be before the time until it counts as time in
	// which nobody looked.
	lateLook = time.Minute
	// hiccup is for how long CircleCI may fail without a word.
	hiccup = 5 * time.Second
)

// A workflow that ended can be run again for a long time, but whoever runs it
// again mostly does so soon.
const (
	rerunSoon = time.Hour      // look every slowLook
	rerunLong = 24 * time.Hour // then every rerunLook
	rerunLook = 30 * time.Minute
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
	Policy *Policy // nil: the app is not in the settings any more
	// Valid votes of the current round count now; those of Lost do not. Stale: it
	// cannot be told for want of fresh knowledge about people.
	Valid int
	Lost  []string
	Stale bool
	// Overtaken is the request that takes this one's place, nil when there is none.
	Overtaken *Request
	Others    []Request     // the other requests of the workflow
	Hold      string        // why decisions are on hold, "" = they are not
	Rolled    bool          // the database is an older copy: it may lack what was done since
	Poll      time.Duration // how often open gates are looked at
	Self      SelfApproval  // whether a voter whose vote counts started the workflow
	// Able can still approve; nil = not known, or not asked for. See [Request.remindAt].
	Able []string
}

// Move is what follows from a look.
type Move struct {
	Events []Event
	Act    Act
	Gate   Job       // what Act is about
	Next   time.Time // when to look again; zero = never
	Urgent bool      // a decision waits
	Show   bool      // the card shows something else by now
	Trail  Trail
}

// Step is the rule book after a request was filed. It is pure: it reads no clock,
// no store and no network. Whatever it returns has to be committed before its act
// is carried out; an act that changes something comes with an event that says so.
func Step(r Request, t Trail, l Look, k Knowledge, now time.Time) Move {
	s := &step{r: r, l: l, k: k, now: now, m: Move{Trail: t}}
	s.look()
	switch {
	case r.Status == Pending:
		s.pending()
	case r.Status == Approved:
		s.approved()
	case r.Status == Released:
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
	odd   string
	// failed: CircleCI answers again after looks that failed for a while.
	failed bool
	// changed is the fact that the newest reading had changed, "" for none.
	changed string
}

// look takes in how the look went.
func (s *step) look() {
	t := &s.m.Trail
	if s.l.Err != nil {
		if t.FailedAt.IsZero() {
			t.FailedAt = s.now
		}
		if ciStatus(s.l.Err) == 404 {
			t.Gone++
		}
		return
	}
	s.failed = !t.FailedAt.IsZero() && s.now.Sub(t.FailedAt) > hiccup
	t.Gone, t.FailedAt = 0, time.Time{}
	t.Looks++
	s.state, s.gate, s.odd = s.l.gate(s.r)
	if s.state != gateOdd {
		t.Odd, t.OddAt = "", time.Time{}
	}
	if s.l.Facts == nil {
		return
	}
	t.Looks = 0
	if s.changed = s.r.Facts.differs(*s.l.Facts); s.changed == "" {
		t.Changed, t.ChangedAt = "", time.Time{}
	}
}

// seen reports whether there is a job list.
func (s *step) seen() bool { return s.l.Err == nil }

// at sets when to look again, if nothing else is sooner.
func (s *step) at(next time.Time) {
	if s.m.Next.IsZero() || next.Before(s.m.Next) {
		s.m.Next = next
	}
}

func (s *step) in(d time.Duration) { s.at(s.now.Add(d)) }

// happens adds an event.
func (s *step) happens(t EventType, by Actor, source string, data Data) *Event {
	e := about(s.r, t, by, source)
	e.Data = data
	s.m.Events = append(s.m.Events, e)
	return &s.m.Events[len(s.m.Events)-1]
}

// ends adds the event of an ending, and has the follower look once more, under
// the rules of the new status.
func (s *step) ends(t EventType, by Actor, source string, why Failure, data Data) *Event {
	if data == nil {
		data = Data{}
	}
	data["detail"] = why.Detail
	e := s.happens(t, by, source, data)
	e.Outcome, e.Reason = string(becomes[t]), why.Code
	s.m.Next = s.now
	return e
}

// retry is when to try a look that failed again: as the provider asks, else
// slower and slower.
func (s *step) retry(base, most time.Duration) {
	t := s.m.Trail
	pause := max(base, min(s.now.Sub(t.FailedAt)/4, most))
	if t.Gone > 10 {
		pause = max(pause, min(s.now.Sub(t.FailedAt)/4, time.Hour))
	}
	s.in(max(pause, min(retryAfter(s.l.Err), slowLook)))
}

// left reports whether CircleCI has not known the workflow for so long that it
// never will again.
func (s *step) left() bool {
	return s.m.Trail.Gone > 10 && s.now.Sub(s.m.Trail.FailedAt) > goneTime
}

// confirmed reports whether an odd answer says the same as an earlier one. One
// odd answer decides nothing.
func (s *step) confirmed(what string, before *string, since *time.Time) bool {
	if *before != what {
		*before, *since = what, s.now
	}
	if s.now.Sub(*since) >= oddTime {
		return true
	}
	s.at(since.Add(oddTime))
	return false
}

// canceled ends a request because what it asked for is gone.
func (s *step) canceled(why Failure, by Actor) { s.ends(EventCanceled, by, "circleci", why, nil) }

func (s *step) expired(why Failure) {
	s.ends(EventExpired, Actor{Kind: ActorSystem}, "timer", why, nil)
}

// opened takes in a gate that is open: by us, or past us.
func (s *step) opened() {
	id := s.gate.ApprovedBy
	if id == "" && s.r.Attempt.Count > 0 && s.now.Sub(s.r.Attempt.At) < settleTime {
		s.in(quickLook) // the list does not say yet by whom
		return
	}
	by := Actor{Kind: ActorCI, ID: s.l.name(id)}
	handed := s.r.Status == Approved && !s.r.AutoApprove && s.inWindow()
	restored := (s.r.Restored || s.k.Rolled) && s.r.Status == Approved && s.r.AutoApprove && id != "" && id == s.l.Self
	if s.r.ours(s.gate, s.l.Self) || handed || restored {
		e := s.happens(EventReleased, by, "circleci", Data{"attempts": strconv.Itoa(s.r.Attempt.Count)})
		e.Outcome, e.Facts = "released", s.r.Facts.Hash()
		s.m.Next = s.now.Add(min(s.k.Poll, 5*time.Second))
		return
	}
	e := s.happens(EventBypassed, by, "circleci", nil)
	e.Outcome = string(Bypassed)
	s.m.Next = s.now
}

// inWindow judges a gate that somebody opened by hand: after the decision, and
// inside its window. A look after the decision that showed it waiting proves the
// first, whatever the clocks say.
func (s *step) inWindow() bool {
	at := s.gate.StoppedAt
	if at.IsZero() {
		at = s.now
	}
	if !s.m.Trail.LookedAt.Before(s.r.ApprovedAt) {
		return !s.r.windowOver(at.Add(-clockSkew))
	}
	// Nobody looked between the decision and now. Right after the decision that
	// means that the gate was open before; later only the provider's clock tells.
	prompt := s.now.Sub(s.r.ApprovedAt) < promptLook
	return !prompt && !s.gate.StoppedAt.IsZero() && at.After(s.r.ApprovedAt) && !s.r.windowOver(at.Add(-clockSkew))
}

// over takes in a gate that ended otherwise than by an approval.
func (s *step) over() {
	how := fmt.Sprintf("%s is %s in CircleCI", s.r.GateName, s.gate.Status)
	by := Actor{Kind: ActorCI}
	switch {
	case s.gate.CanceledBy != "":
		how, by.ID = s.r.GateName+" was cancelled in CircleCI", s.l.name(s.gate.CanceledBy)
	case s.l.Facts == nil && s.l.FactsErr == nil:
		s.m.Act = ActReadFacts // they may say who cancelled the workflow
		s.in(quickLook)
		return
	case s.l.Facts != nil && s.l.Facts.WorkflowStatus.Final():
		how, by.ID = endedText(s.r, s.l.Facts.WorkflowStatus), s.l.Facts.CanceledBy
	}
	s.canceled(Failure{FailCIEnded, how}, by)
}

// endedText says how a workflow ended that never opened the gate.
func endedText(r Request, workflow WorkflowStatus) string {
	switch workflow {
	case WorkflowCanceled:
		return "The workflow was cancelled in CircleCI"
	case WorkflowFailed, WorkflowError:
		return "The workflow failed in CircleCI before it reached " + r.GateName
	}
	return fmt.Sprintf("The workflow is over in CircleCI (%s) and never reached %s", workflow, r.GateName)
}

// foreign ends a request whose configuration is not the file of its commit, as the
// code host says.
func (s *step) foreign() bool {
	if s.r.Commits == nil || s.r.Commits.Config != ConfigOther {
		return false
	}
	s.canceled(Failure{FailForeignConfig, "The CI configuration is not the file in the commit"}, Actor{Kind: ActorCodeHost})
	return true
}

// unfit ends a request whose gate is not the one that was reviewed, or whose
// facts changed, once a second look says so too. It reports whether the rules for
// a gate that waits do not apply.
func (s *step) unfit() bool {
	t := &s.m.Trail
	sure, why := false, ""
	switch {
	case s.foreign():
		return true
	case s.state == gateOdd:
		why = s.odd
		sure = s.confirmed(why, &t.Odd, &t.OddAt)
	case s.changed != "":
		why = s.changed + " changed in CircleCI since the request was made"
		sure = s.confirmed(s.changed, &t.Changed, &t.ChangedAt)
	default:
		return false
	}
	if sure {
		s.canceled(Failure{FailFactsChanged, why}, Actor{Kind: ActorCI})
	}
	return true
}

// doubtful asks for the facts of a workflow that may be over, or now and then,
// and ends a request whose workflow is. It reports whether that settles the look.
func (s *step) doubtful() bool {
	if s.l.Facts == nil {
		t := s.m.Trail
		if s.l.FactsErr != nil || t.Looks < factsLooks && t.Changed == "" && !(s.state == gateWaits && stuck(s.l.Jobs, s.gate)) {
			return false
		}
		s.m.Act = ActReadFacts
		s.in(s.k.Poll)
		return true
	}
	if s.state == gateWaits && s.l.Facts.WorkflowStatus.Final() {
		s.canceled(Failure{FailCIEnded, endedText(s.r, s.l.Facts.WorkflowStatus)}, Actor{Kind: ActorCI, ID: s.l.Facts.CanceledBy})
		return true
	}
	return false
}

// pending are the rules while people may decide.
func (s *step) pending() {
	s.at(s.r.ExpiresAt())
	switch {
	case s.k.Policy == nil:
		s.ends(EventCanceled, Actor{Kind: ActorSystem}, "timer", Failure{FailAppGone, "the app is not in the settings any more"}, nil)
		return
	case !s.now.Before(s.r.ExpiresAt()):
		s.expired(Failure{FailNoDecision, "nobody decided in time"})
		return
	case s.k.Overtaken != nil:
		s.ends(EventSuperseded, Actor{Kind: ActorSystem}, "timer", Failure{}, Data{"by": s.k.Overtaken.ID, "number": itoa(s.k.Overtaken.Number)})
		return
	case s.foreign(), s.quorum():
		return
	}
	s.freeze()
	s.remind()
	switch {
	case !s.seen():
		if !s.left() {
			s.retry(s.k.Poll, slowLook)
		}
		return
	}
	switch s.state {
	case gateOpened:
		s.opened()
	case gateEnded:
		s.over()
	default:
		if !s.unfit() && !s.doubtful() {
			s.in(s.k.Poll)
		}
	}
	s.m.Trail.LookedAt = s.l.At
}

// freeze has the card show whether nobody may approve now, and looks again when
// that changes.
func (s *step) freeze() {
	f := s.k.Policy.Freeze
	if turns := f.Turns(s.now); !turns.IsZero() {
		s.at(turns)
	}
	until, frozen := f.Until(s.now)
	if !frozen {
		until = time.Time{}
	}
	if t := &s.m.Trail; !t.Frozen.Equal(until) {
		t.Frozen, s.m.Show = until.UTC(), true
	}
}

// remind reminds people once, when somebody can be named who may approve.
func (s *step) remind() {
	due := s.r.remindAt(*s.k.Policy)
	if due.IsZero() || s.k.Policy.Freeze.Says(s.now) != "" {
		return
	}
	if s.now.Before(due) || s.k.Able == nil {
		s.at(latest(due, s.now.Add(s.k.Poll)))
		return
	}
	e := s.happens(EventReminded, Actor{Kind: ActorSystem}, "timer", Data{"votes": itoa(s.k.Valid), "needed": itoa(needed(s.r, *s.k.Policy))})
	e.People = s.k.Able
}

// remindAt is when people are to be reminded of a pending request; zero = never.
// They are reminded once, and not again in a later round.
func (r Request) remindAt(p Policy) time.Time {
	if p.RemindAfter == 0 || r.Round > 1 || !r.RemindedAt.IsZero() {
		return time.Time{}
	}
	return r.CreatedAt.Add(p.RemindAfter)
}

// quorum decides when enough votes count, whatever made them count.
func (s *step) quorum() bool {
	if len(s.r.Approvals()) == 0 || s.k.Valid < needed(s.r, *s.k.Policy) || s.k.Hold != "" {
		return false
	}
	if _, frozen := s.k.Policy.Freeze.Until(s.now); frozen {
		return false
	}
	s.m.Events = append(s.m.Events, approvedEvent(s.r, *s.k.Policy, s.k.Lost, s.k.Self, s.now))
	s.m.Next, s.m.Urgent = s.now, true
	return true
}

// approvedEvent is the decision.
func approvedEvent(r Request, p Policy, lost []string, self SelfApproval, now time.Time) Event {
	e := about(r, EventApproved, Actor{Kind: ActorSystem}, "slack")
	e.Outcome, e.MFA, e.Facts = "approved", "totp", r.Facts.Hash()
	for _, v := range r.Approvals() {
		if !slices.Contains(lost, v.SlackUser) {
			e.People = append(e.People, v.SlackUser)
		}
	}
	e.Data = Data{
		"round": strconv.Itoa(r.Round), "self_approval": string(cmp.Or(self, SelfUnknown)),
		"commit": r.Facts.Revision, "workflow_id": r.Facts.WorkflowID, "gate": r.GateName, "auto": strconv.FormatBool(r.AutoApprove),
		"until": now.Add(p.Window).Format(timeFormat), "window_seconds": itoa(int64(p.Window / time.Second)),
	}
	return e
}

// approved are the rules from the decision on until the gate is open.
func (s *step) approved() {
	s.m.Urgent = s.r.AutoApprove
	if !s.seen() {
		s.silence()
		return
	}
	if s.r.Gate.Silent || s.failed {
		s.happens(EventAnswers, Actor{Kind: ActorCI}, "circleci", nil)
		s.r.Gate.Silent, s.r.Gate.Since = false, s.now
	}
	switch s.state {
	case gateOpened:
		s.opened()
	case gateEnded:
		s.over()
	case gateWaits:
		if !s.unfit() {
			s.waits()
		}
	case gateOdd:
		s.unfit()
	case gateOnHold:
		s.reached()
		if s.r.AutoApprove {
			s.release()
		} else if s.r.windowOver(s.now) {
			s.expired(Failure{FailWindowOver, "the approval was not used in time"})
		} else if !s.unfit() && !s.doubtful() {
			s.in(s.k.Poll)
			s.at(latest(s.r.ApprovedAt, s.r.Gate.Since).Add(s.r.Window + time.Millisecond))
		}
	}
	s.m.Trail.LookedAt = s.l.At
}

// silence are the rules for an approval while CircleCI does not answer.
func (s *step) silence() {
	switch {
	case s.left():
		s.ends(EventUndeliverable, Actor{Kind: ActorCI}, "circleci", Failure{FailCIGone, "CircleCI has not known the workflow for a day: it was deleted, or the gateway's token may not see it any more"}, nil)
		return
	case s.now.After(s.r.lastChance()) && !s.r.unresolved():
		s.expired(Failure{FailWindowOver, "the approval was not used in time"})
		return
	case !s.r.Gate.Silent && s.r.AutoApprove && s.now.Sub(latest(s.m.Trail.FailedAt, s.r.ApprovedAt)) > tellDelay:
		e := s.happens(EventDelayed, Actor{Kind: ActorCI}, "circleci", nil)
		e.Outcome = delayName(s.l.Err)
	}
	s.retry(min(2*time.Second, s.k.Poll), s.k.Poll)
	if !s.r.unresolved() {
		s.at(s.r.lastChance().Add(time.Millisecond))
	}
}

func delayName(err error) string {
	if status := ciStatus(err); status != 0 {
		return strconv.Itoa(status)
	}
	return "no answer"
}

// waits are the rules for an approval whose gate was not reached yet.
func (s *step) waits() {
	if s.now.After(s.r.lastChance()) {
		s.expired(Failure{FailWindowOver, "the approval was not used in time"})
		return
	}
	if !s.r.Gate.Waiting {
		s.happens(EventWaiting, Actor{Kind: ActorCI}, "circleci", Data{"status": string(s.gate.Status)})
	}
	if s.doubtful() {
		return
	}
	// The job that files a request mostly ends within seconds of it.
	waited := s.now.Sub(s.r.ApprovedAt)
	s.in(min(max(quickLook, waited/2), s.k.Poll))
	s.m.Urgent = waited < time.Minute
	s.at(s.r.lastChance().Add(time.Millisecond))
}

// reached notes that a gate which was waited for is on hold. Time in which nobody
// looked is not credited.
func (s *step) reached() {
	if !s.r.Gate.Waiting {
		return
	}
	since := s.now
	if !s.l.Due.IsZero() && s.now.Sub(s.l.Due) > lateLook {
		since = latest(s.m.Trail.LookedAt, s.r.ApprovedAt)
	}
	s.r.Gate.Waiting, s.r.Gate.Since = false, latest(s.r.Gate.Since, since)
	s.happens(EventReached, Actor{Kind: ActorCI}, "circleci", Data{"since": since.Format(timeFormat)})
}

// release are the rules for an approval whose gate is on hold. Every try starts
// from a look, so it does not matter where the one before was cut off.
func (s *step) release() {
	a := s.r.Attempt
	if a.Count > 0 {
		if a.Answer == 401 || a.Answer == 403 || a.Answer == 404 {
			s.ends(EventUndeliverable, Actor{Kind: ActorCI}, "circleci", Failure{FailRefused, a.Detail}, nil)
			return
		}
		if pause := s.repeatAt(); s.now.Before(pause) {
			s.at(pause)
			if s.r.unresolved() && s.now.Sub(a.At) < settleTime {
				s.in(min(max(quickLook, s.now.Sub(a.At)/2), 2*time.Second))
			} else {
				s.in(s.k.Poll)
			}
			return
		}
	}
	if s.r.windowOver(s.now) || s.r.Restored {
		s.expired(Failure{FailWindowOver, "the approval was not used in time"})
		return
	}
	switch {
	case s.l.FactsErr != nil:
		s.in(2 * time.Second)
		return
	case s.l.Facts == nil:
		s.m.Act = ActReadFacts
		s.in(quickLook)
		return
	case s.unfit():
		return
	case s.k.Policy == nil:
		s.ends(EventCanceled, Actor{Kind: ActorSystem}, "timer", Failure{FailAppGone, "the app is not in the settings any more"}, nil)
	case s.k.Hold != "":
		// It may be this process alone that must not, and another one that waits.
		s.in(5 * time.Second)
	case s.k.Valid >= needed(s.r, *s.k.Policy):
		s.m.Act, s.m.Gate = ActApprove, s.gate
		s.happens(EventAttempt, Actor{Kind: ActorSystem}, "circleci", Data{
			"attempt": strconv.Itoa(a.Count + 1), "approval_request_id": s.gate.approvalID(), "round": strconv.Itoa(s.r.Round),
		})
		s.in(settleTime)
	case s.k.Stale:
		s.in(5 * time.Second)
	default:
		why := Failure{FailQuorumLost, fmt.Sprintf("only %d of %d approvals still count", s.k.Valid, needed(s.r, *s.k.Policy))}
		if _, ok := s.r.Emergency(); ok {
			why.Detail = "who released it in an emergency may not any more"
		}
		s.ends(EventUndeliverable, Actor{Kind: ActorSystem}, "circleci", why, nil).People = s.k.Lost
	}
}

// repeatAt is when an approve call may be repeated: when the job list must have
// shown the one before, and later each time that CircleCI refuses alike.
func (s *step) repeatAt() time.Time {
	a := s.r.Attempt
	pause := Backoff(max(a.Same, 1), settleTime, longestSettle)
	if a.Answer == 429 {
		pause = Backoff(a.Same, 2*time.Second, longestSettle)
	}
	return latest(a.NotBefore, a.At.Add(pause))
}

// released are the rules until the deploy has ended.
func (s *step) released() {
	if !s.seen() {
		if !s.left() {
			s.retry(s.k.Poll, slowLook)
		}
		return
	}
	slow := s.k.Poll
	if s.now.Sub(s.r.ReleasedAt) > longDeploy {
		slow = slowLook
	}
	if s.state == gateOdd {
		s.in(slow)
		return
	}
	var filed []string
	for _, o := range s.k.Others {
		if o.JobID != "" {
			filed = append(filed, o.JobID)
		}
	}
	behind := dependents(s.l.Jobs, s.gate.ID, filed)
	over := s.l.Facts != nil && s.l.Facts.WorkflowStatus.Final()
	is, job := outcome(behind, s.r.DeployJobs, over)
	switch is {
	case resultNothing:
	case resultOpen:
		s.in(slow)
		if s.m.Trail.Looks >= factsLooks && s.l.Facts == nil && s.l.FactsErr == nil {
			s.m.Act = ActReadFacts
		}
	case resultDone:
		e := s.happens(EventDeployed, Actor{Kind: ActorCI}, "circleci", Data{"jobs": list(jobNames(behind))})
		e.Outcome = string(PhaseSucceeded)
	default:
		s.deployFailed(is, job, behind)
	}
}

func (s *step) deployFailed(is resultKind, job Job, behind []Job) {
	outcome := string(job.Status)
	detail := fmt.Sprintf("job %s: %s", job.Name, job.Status)
	switch {
	case is == resultSkipped:
		outcome, detail = "skipped", fmt.Sprintf("job %s never ran: CircleCI skipped it", job.Name)
	case job.Status == JobUnauthorized:
		// https://circleci.com/docs/contexts/#restrict-a-context
		detail += "; its context is restricted to a group that the approver in CircleCI is not in"
	}
	e := s.ends(EventDeployFailed, Actor{Kind: ActorCI}, "circleci", Failure{FailDeploy, detail}, Data{"jobs": list(jobNames(behind)), "job": job.Name})
	e.Outcome = outcome
}

func jobNames(jobs []Job) []string {
	names := make([]string, len(jobs))
	for i, j := range jobs {
		names[i] = j.Name
	}
	slices.Sort(names)
	return names
}

// closed are the rules for a request whose gate we will not approve any more: the
// gate is stopped as on_close says, a later approval by anyone raises an alarm,
// and a newer workflow that waits unasked is pointed out.
func (s *step) closed() {
	if !s.r.Status.Passed() && s.r.Gate.Status == "" {
		s.closedGate()
	}
	if s.r.mayRerun() {
		s.rerun()
	}
	switch over := s.r.RetryUntil().Add(time.Second); {
	case !s.r.retryable() || s.m.Trail.RetryOver:
	case s.now.Before(over):
		s.at(over)
	default:
		s.m.Trail.RetryOver, s.m.Show = true, true // the card loses its button
	}
}

func (s *step) closedGate() {
	if !s.seen() {
		switch {
		case s.left():
		case s.r.closesGate() && !s.r.CanRetry(s.now):
			s.retry(s.k.Poll, 2*s.k.Poll)
		default:
			s.retry(slowLook, time.Hour)
		}
		return
	}
	s.m.Trail.LookedAt = s.l.At
	switch s.state {
	case gateOpened:
		s.openedLate()
	case gateEnded:
		// It never opens any more.
	case gateOdd:
		if s.now.Sub(s.r.ClosedAt) < rerunLong {
			s.in(slowLook)
		}
	default:
		s.close()
	}
}

// openedLate takes in that the gate of a closed request is open.
func (s *step) openedLate() {
	if s.r.Status.CanBecome(Released) && s.r.ours(s.gate, s.l.Self) && !s.replaced() {
		s.opened() // our own call took effect after all
		return
	}
	for _, o := range s.k.Others {
		if o.Number > s.r.Number && o.GateName == s.r.GateName {
			return // a newer request was made for the same gate, and tells who opened it
		}
	}
	e := s.happens(EventGateBypassed, Actor{Kind: ActorCI, ID: s.l.name(s.gate.ApprovedBy)}, "circleci", nil)
	e.Outcome = string(s.r.Status)
}

// replaced reports whether another request stands for the workflow now.
func (s *step) replaced() bool {
	return slices.ContainsFunc(s.k.Others, func(o Request) bool {
		return o.App == s.r.App && o.Environment == s.r.Environment && !o.Status.yields()
	})
}

// close stops a gate that waits, as on_close says. One that is blocked cannot be
// cancelled yet.
func (s *step) close() {
	s.in(slowLook)
	if !s.r.closesGate() || s.r.CanRetry(s.now) || s.taken() {
		return
	}
	act := ActCancelJob
	outcome := CloseCancelJob
	if s.r.OnClose == CloseCancelWorkflow || acceptsCanceled(s.l.Jobs, s.gate.ID) {
		act, outcome = ActCancelWorkflow, CloseCancelWorkflow
	}
	c := s.r.Closing
	switch {
	case s.state == gateWaits && act == ActCancelJob:
		s.in(s.k.Poll)
		return
	case s.state == gateWaits && c.Accepted():
		// The workflow is over: the list leaves such a gate as it was.
		if s.now.Sub(c.At) > showTime {
			s.m.Next = time.Time{}
		} else {
			s.in(s.k.Poll)
		}
		return
	case c.Count >= closeTries, c.Answer == 401 || c.Answer == 403:
		return // it is watched, and its alarm raised
	case c.Count > 0 && s.now.Before(c.At.Add(s.closePause())):
		s.in(min(s.k.Poll, 2*time.Second))
		s.at(c.At.Add(s.closePause()))
		return
	}
	s.m.Act, s.m.Gate = act, s.gate
	s.happens(EventClosing, Actor{Kind: ActorSystem}, "circleci", Data{"attempt": strconv.Itoa(c.Count + 1)}).Outcome = string(outcome)
}

// closePause is how long the job list may take to show that a gate was stopped,
// and longer each time that it could not be.
func (s *step) closePause() time.Duration {
	c := s.r.Closing
	if c.Accepted() {
		return showTime
	}
	return Backoff(c.Count, 5*time.Second, 30*time.Minute)
}

// taken reports whether another request for the same gate needs it.
func (s *step) taken() bool {
	return slices.ContainsFunc(s.k.Others, func(o Request) bool {
		return o.GateName == s.r.GateName && (o.Status.Passed() || o.Status.Open() || o.CanRetry(s.now))
	})
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
	if !s.l.Siblings {
		if s.m.Act == ActNone && len(s.m.Events) == 0 {
			s.m.Act = ActReadSiblings
		}
		s.in(every)
		return
	}
	t.SiblingsAt = s.now
	s.in(every)
	for _, id := range s.l.Unasked {
		if !slices.Contains(s.r.NewerFlows, id) {
			s.happens(EventNewerWorkflow, Actor{Kind: ActorCI}, "circleci", Data{"workflow_id": id})
		}
	}
}

// mayRerun reports whether a request ended so that its workflow may be run again
// without a job that files another request: a rerun from failed repeats no job
// that succeeded.
func (r Request) mayRerun() bool {
	return r.Status == DeployFailed || !r.Status.Open() && !r.Status.Passed()
}

// closesGate reports whether on_close applies to how the request ended.
func (r Request) closesGate() bool {
	return r.OnClose != CloseNothing && slices.Contains([]Status{Rejected, Expired, Superseded, Canceled}, r.Status)
}
