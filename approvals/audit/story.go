package audit

import (
	"cmp"
	"strconv"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// story is what the history of a request says beside its state. Like the state it is
// that of the newest round, in which nobody has decided before somebody does.
type story struct {
	decision   string    // approved or rejected; empty = none
	at         time.Time // of the decision
	people     []string  // Slack ids of those who took it
	mfa        string    // totp, or none for a reject without a code
	reason     string
	self       approvals.SelfApproval // of an approval
	breakGlass bool                   // by an emergency release, in any round
	retries    int
	refused    []approvals.Event // verify calls that were answered with no, in any round; anybody with a token can make one
	verified   time.Time         // when one was answered with yes first; zero = never
	stopped    bool              // one was answered with no since the approval, when the gate may have been open
	unasked    bool              // CircleCI ran the deploy, and no job of it can have asked
}

func storyOf(history []approvals.Event) story {
	var s story
	for _, e := range history {
		s.take(e)
	}
	return s
}

func (s *story) take(e approvals.Event) {
	switch e.Type {
	case approvals.EventReopened:
		*s = story{breakGlass: s.breakGlass, retries: s.retries + 1, refused: s.refused}
	case approvals.EventVerified:
		s.verified = e.At()
	case approvals.EventVerifyRefused:
		s.refused = append(s.refused, e)
		s.stopped = true
	case approvals.EventDeployed, approvals.EventDeployFailed:
		// A job that was told no may have failed because of that. It cannot have deployed.
		s.unasked = s.verified.IsZero() && ran(e) && !(s.stopped && e.Type == approvals.EventDeployFailed)
	case approvals.EventApproved, approvals.EventBreakGlass:
		s.breakGlass = s.breakGlass || e.Type == approvals.EventBreakGlass
		s.approved(e)
	case approvals.EventRejected:
		s.decision, s.at, s.mfa, s.reason, s.people, s.self = "rejected", e.At(), cmp.Or(e.MFA, "none"), e.Reason, []string{e.Actor.ID}, ""
	}
}

// ran reports whether a deploy that ended may have done something. One that was skipped,
// or did not get its context, never began.
func ran(e approvals.Event) bool {
	return e.Outcome != "skipped" && e.Outcome != string(approvals.JobUnauthorized)
}

// refusals is how often a verify call was answered with no. Repeated ones are only
// counted for a while, and the next event says how many there were.
func (s *story) refusals() int {
	n := 0
	for _, e := range s.refused {
		again, _ := strconv.Atoi(e.Data["count"])
		n += max(1, again)
	}
	return n
}

// approved takes in an approval. An emergency release is the decision of one
// person.
func (s *story) approved(e approvals.Event) {
	s.decision, s.at, s.people, s.stopped = "approved", e.At(), e.People, false
	if len(e.People) == 0 && e.Actor.Kind == approvals.ActorPerson {
		s.people = []string{e.Actor.ID}
	}
	s.mfa, s.reason = cmp.Or(e.MFA, s.mfa), cmp.Or(e.Reason, s.reason)
	if s.self = approvals.SelfApproval(e.Data["self_approval"]); selfApprovals[s.self] == "" {
		s.self = approvals.SelfUnknown
	}
}
