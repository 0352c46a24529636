package story

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/proof"
)

// Do does an act, and judges.
func (l *Lane) Do(ctx context.Context, a Act) {
	l.perform(ctx, a)
	l.Judge(ctx, false)
}

// Nudge does what waits for people or CI: then only the product can be in the way.
func (l *Lane) Nudge(ctx context.Context) {
	for _, s := range l.Stories {
		if s.ID == "" {
			continue
		}
		l.End(s, "request_approval", "deploy")
		if l.Script.Auto {
			continue
		}
		if c, _, err := l.Gateway.Cases(ctx, s.ID); err == nil && c[0].Status == approvals.Approved {
			_ = l.Circle.ApproveAs("alice", s.Workflow, Gate) // the card asks for it
		}
	}
}

// Evidence is all that is known of a story.
func (l *Lane) Evidence(ctx context.Context, s *Story) (proof.Case, error) {
	messages := l.Slack.AllMessages(l.Channel)
	tries := l.Circle.Approvals(s.Workflow)
	gate, _ := l.Circle.Job(s.Workflow, Gate)
	ids := []string{s.ID}
	for _, o := range l.Stories {
		if o.Workflow == s.Workflow && o.ID != s.ID && o.ID != "" {
			ids = append(ids, o.ID)
		}
	}
	cases, cards, err := l.Gateway.Cases(ctx, ids...)
	if err != nil {
		return proof.Case{ID: s.ID}, err
	}
	c, others := cases[0], cases[1:]
	c.ID, c.Required, c.Auto, c.OnClose, c.Self, c.Blind = s.ID, l.Script.Required, l.Script.Auto, l.Script.OnClose, l.Self, l.Blind
	c.Emergency = []string{Admin(l.Number, 0)}
	c.Gate, c.GateBy = gate.Status, gate.ApprovedBy
	c.AskedAgain = slices.IndexFunc(l.Stories, func(o *Story) bool { return o.ID == s.ID }) < lastOf(l.Stories, s.Workflow)
	c.Tries = slices.DeleteFunc(tries, func(try circlecitest.Approval) bool {
		return try.UserID == l.Self && slices.ContainsFunc(others, func(o proof.Case) bool { return o.Attempted(try.At).After(c.Attempted(try.At)) })
	})
	for _, try := range c.Tries {
		if try.UserID == l.Self {
			c.Released = append(c.Released, try.At)
		}
	}
	c.Read(messages, cards[0])
	c.ReadDMs(l.Slack)
	return c, nil
}

// lastOf is the index of the newest acknowledged story of a workflow.
func lastOf(stories []*Story, workflow string) int {
	last := -1
	for i, s := range stories {
		if s.Workflow == workflow && s.ID != "" {
			last = i
		}
	}
	return last
}

// outOfOrder reports whether cards stand in another order than that in which they
// were asked for.
func outOfOrder(stories []*Story, messages []slacktest.Message) bool {
	last := ""
	for _, s := range stories {
		for _, m := range messages {
			if s.ID == "" || !proof.IsCard(m, s.ID) {
				continue
			}
			if m.TS < last {
				return true
			}
			last = m.TS
			break // a second one, where it is tolerated, is late
		}
	}
	return false
}

// approveCalls are the times of the approve calls that arrived, by workflow.
func (w *World) approveCalls() map[string][]time.Time {
	calls := map[string][]time.Time{}
	for _, c := range w.Circle.Calls() {
		if c.Op == "approve" && len(c.IDs) > 0 {
			calls[c.IDs[0]] = append(calls[c.IDs[0]], c.At)
		}
	}
	return calls
}

// Judge checks what must hold at any moment, or with final that nothing is still
// to come. It returns what is. With final, every approve call that arrived counts
// where it can belong to one request only, and not just those that were answered.
func (l *Lane) Judge(ctx context.Context, final bool) (open []string) {
	if l.Orderly && outOfOrder(l.Stories, l.Slack.Messages(l.Channel)) {
		l.Violation("I5: the cards stand in another order than the requests\n" + l.Told())
	}
	asked, calls := map[string]int{}, map[string][]time.Time{}
	if final {
		calls = l.approveCalls()
	}
	for _, s := range l.Stories {
		asked[s.Workflow]++
	}
	for _, s := range l.Stories {
		if s.ID == "" {
			continue
		}
		c, err := l.Evidence(ctx, s)
		if err != nil {
			if final {
				l.Violation(fmt.Sprintf("I1: acknowledged request %s: %v", s.ID, err))
			}
			open = append(open, err.Error())
			continue
		}
		if final && asked[s.Workflow] == 1 {
			c.Released = calls[s.Workflow]
		}
		found, left := s.judge(c)
		if final {
			found = append(found, left...)
		}
		if len(found) > 0 {
			l.Violation(strings.Join(found, "\n") + "\n" + c.Story() + l.Told())
		}
		open = append(open, left...)
	}
	return open
}

// judge says what is wrong with a story for good, and what is still to come.
func (s *Story) judge(c proof.Case) (found, open []string) {
	s.Status = c.Status
	found, open = c.Broken(), c.Unsettled()
	if s.Want != "" && len(open) == 0 && c.Status != s.Want {
		found = append(found, fmt.Sprintf("I1: acknowledged as %s but it is %s", s.Want, c.Status))
	}
	return found, open
}

// Told is what was done in the lane, and what Slack saw of it, for people.
func (l *Lane) Told() string {
	var b strings.Builder
	for _, line := range l.Trace {
		fmt.Fprintln(&b, line)
	}
	for _, c := range l.Slack.Calls() {
		if c.Args["channel"] == l.Channel || c.Args["channel"] == "" {
			fmt.Fprintf(&b, "  slack %s %s %s\n", c.At.UTC().Format("15:04:05.000"), c.Method, c.Error)
		}
	}
	for _, m := range l.Slack.Thread(l.Channel, "") {
		fmt.Fprintf(&b, "  message %s %s\n", m.TS, strings.ReplaceAll(slacktest.Text(m.Blocks), "\n", " / "))
	}
	return b.String()
}
