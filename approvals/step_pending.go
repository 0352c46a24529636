package approvals

import (
	"cmp"
	"slices"
	"strconv"
	"time"
)

// pending are the rules while people may decide.
func (s *step) pending() {
	s.by(s.r.ExpiresAt())
	switch {
	case s.k.Policy == nil && s.k.Hold == "":
		s.appGone()
		return
	case !s.now.Before(s.r.ExpiresAt()):
		s.lapses(EventExpired, Failure{FailNoDecision, "nobody decided in time"}, nil)
		return
	case s.k.Overtaken != nil:
		s.lapses(EventSuperseded, Failure{}, Data{"by": s.k.Overtaken.ID, "number": itoa(s.k.Overtaken.Number)})
		return
	case s.foreign(), s.quorum():
		return
	}
	if s.k.Policy != nil {
		s.freeze()
		s.remind()
	}
	if s.l.Err != nil {
		s.lookAgain(s.k.Poll, slowLook)
		return
	}
	if !s.settled() && !s.unfit() && !s.workflowOver() {
		s.in(s.k.Poll)
	}
}

// freeze has the card show whether nobody may approve now, and looks again when
// that changes.
func (s *step) freeze() {
	f := s.k.Policy.Freeze
	s.by(f.Turns(s.now))
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
		s.by(latest(due, s.now.Add(s.k.Poll)))
		return
	}
	e := s.happens(EventReminded, Actor{Kind: ActorSystem}, Data{"votes": itoa(s.k.Valid), "needed": itoa(needed(s.r, *s.k.Policy))})
	e.Source, e.People = "timer", s.k.Able
}

// remindAt is when people are to be reminded of a pending request; zero = never.
// They are reminded once, and not again in a later round.
func (r Request) remindAt(p Policy) time.Time {
	if p.RemindAfter == 0 || r.Round > 1 || !r.RemindedAt.IsZero() {
		return time.Time{}
	}
	return r.CreatedAt.Add(p.RemindAfter)
}

// quorum decides when enough votes count, whatever made them count: mostly the last
// vote does, but it may be that Slack confirms a voter again. It reports whether it
// decided.
func (s *step) quorum() bool {
	if s.k.Hold != "" || len(s.r.Approvals()) == 0 || s.k.Valid < needed(s.r, *s.k.Policy) {
		return false
	}
	if _, frozen := s.k.Policy.Freeze.Until(s.now); frozen {
		return false
	}
	s.m.Events = append(s.m.Events, approvedEvent(s.r, *s.k.Policy, s.k.Tally, s.now))
	s.m.Next, s.m.Rank = s.now, rankUrgent
	return true
}

// approvedEvent is the decision by the votes of a request, without those that are
// lost.
func approvedEvent(r Request, p Policy, t Tally, now time.Time) Event {
	e := about(r, EventApproved, Actor{Kind: ActorSystem}, "slack")
	e.Outcome, e.MFA, e.Facts = "approved", "totp", r.Facts.Hash()
	for _, v := range r.Approvals() {
		if !slices.Contains(t.Lost, v.SlackUser) {
			e.People = append(e.People, v.SlackUser)
		}
	}
	e.Data = Data{
		"round": strconv.Itoa(r.Round), "self_approval": string(cmp.Or(t.Self, SelfUnknown)),
		"commit": r.Facts.Revision, "workflow_id": r.Facts.WorkflowID, "gate": r.GateName, "auto": strconv.FormatBool(r.AutoApprove),
		"until": now.Add(p.Window).Format(timeFormat), "window_seconds": itoa(int64(p.Window / time.Second)),
	}
	return e
}
