package audit

import (
	"strconv"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// story is what the history of a request says beside its state. Of several
// decisions the newest counts.
type story struct {
	decision   string    // approved or rejected; empty = none
	at         time.Time // of the decision
	people     []string  // Slack ids of those who took it
	mfa        string    // totp, or none for a reject without a code
	reason     string
	self       approvals.SelfApproval // of an approval
	breakGlass bool                   // by an emergency release, in any round
	retries    int
	refused    []approvals.Event // deploy jobs that were told not to deploy
	verified   time.Time         // when a deploy job was told first in this round that it may deploy; zero = never
	stopped    bool              // in this round a deploy job was told not to deploy
	unasked    bool              // CircleCI ran the deploy, and no job had asked in this round
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
		s.retries++
		s.mfa, s.reason = "", ""
		s.verified, s.stopped, s.unasked = time.Time{}, false, false
	case approvals.EventVerified:
		s.verified = e.At()
	case approvals.EventVerifyRefused:
		s.refused = append(s.refused, e)
		s.stopped = true
	case approvals.EventDeployed, approvals.EventDeployFailed:
		s.unasked = s.verified.IsZero() && !s.stopped && ran(e)
	case approvals.EventBreakGlass:
		s.breakGlass = true
		s.approved(e)
	case approvals.EventApproved:
		s.approved(e)
	case approvals.EventRejected:
		s.decision, s.at, s.mfa, s.reason, s.people, s.self = "rejected", e.At(), e.MFA, e.Reason, []string{e.Actor.ID}, ""
		if s.mfa == "" {
			s.mfa = "none"
		}
	}
}

// ran reports whether a deploy that ended may have done something. One that was skipped,
// or did not get its context, never began.
func ran(e approvals.Event) bool {
	return e.Outcome != "skipped" && e.Outcome != string(approvals.JobUnauthorized)
}

// refusals is how often a deploy job was told not to deploy. Repeated ones are only
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
	s.decision, s.at, s.people = "approved", e.At(), e.People
	if len(e.People) == 0 && e.Actor.Kind == approvals.ActorPerson {
		s.people = []string{e.Actor.ID}
	}
	if e.MFA != "" {
		s.mfa = e.MFA
	}
	if e.Reason != "" {
		s.reason = e.Reason
	}
	if s.self = approvals.SelfApproval(e.Data["self_approval"]); selfApprovals[s.self] == "" {
		s.self = approvals.SelfUnknown
	}
}
