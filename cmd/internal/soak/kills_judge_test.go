package soak_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/proof"
)

// evidence gathers all that can be seen of the story's request from outside.
func (s *story) evidence(ctx context.Context) (proof.Case, error) {
	known := proof.Case{ID: s.id, Required: s.required, Auto: s.auto, OnClose: s.onClose, Self: s.self}
	return gather(ctx, s.Stage, s.quick, known, s.channel, s.workflow, tortureGate)
}

// settle waits until nothing more is to come, and judges.
func (s *story) settle(ctx context.Context) error {
	var last []string
	for {
		c, err := s.evidence(ctx)
		if err == nil {
			if found := c.Broken(); len(found) > 0 {
				return fmt.Errorf("%s", strings.Join(found, "\n"))
			}
			if last = c.Unsettled(); len(last) == 0 {
				if s.want != "" && c.Status != s.want {
					return fmt.Errorf("I1: it was acknowledged as %s but is %s", s.want, c.Status)
				}
				return nil
			}
		}
		if err := pause(ctx, 300*time.Millisecond); err != nil {
			return fmt.Errorf("%w: %s", err, strings.Join(last, "; "))
		}
	}
}

// tell renders everything about a story for the report.
func (s *story) tell(ctx context.Context) string {
	c, err := s.evidence(ctx)
	text := strings.Join(s.trace, "\n") + "\n"
	if err != nil {
		text += fmt.Sprintf("(the daemon does not answer: %v)\n", err)
	}
	text += c.Story()
	for _, call := range s.Circle.Calls() {
		if slices.Contains(call.IDs, s.workflow) && call.Op != "jobs" {
			text += fmt.Sprintf("  circleci %s %s %d\n", call.At.UTC().Format("15:04:05.000"), call.Op, call.Status)
		}
	}
	return text
}

// verdict judges every story once more, now that nothing moves, then the log
// and the database behind a stopped daemon.
func (c *chamber) verdict(ctx context.Context) {
	approves := map[string][]time.Time{}
	for _, call := range c.Circle.Calls() {
		if call.Op == "approve" && len(call.IDs) > 0 {
			approves[call.IDs[0]] = append(approves[call.IDs[0]], call.At)
		}
	}
	for _, s := range c.stories {
		if s.id == "" {
			continue
		}
		e, err := s.evidence(ctx)
		if err != nil {
			c.violation(fmt.Sprintf("I1: acknowledged request %s: %v\n%s", s.id, err, s.tell(ctx)))
			continue
		}
		e.Released = approves[s.workflow]
		if found := append(e.Broken(), e.Unsettled()...); len(found) > 0 {
			c.violation(strings.Join(found, "\n") + "\n" + s.tell(ctx))
		}
	}
}

// last judges the codes against the whole log.
func (c *chamber) last(events []approvals.Event) {
	for _, f := range c.codes.Broken(events) {
		c.violation(f)
	}
	seen := map[string]bool{}
	for _, l := range c.lanes {
		for _, m := range c.Slack.Messages(l.channel) {
			if m.Metadata == nil || m.ThreadTS != "" || len(slacktest.Buttons(m)) == 0 {
				continue
			}
			id, _ := m.Metadata.EventPayload["request_id"].(string)
			if id != "" && seen[id] {
				c.violation("I5: two cards of request " + id)
			}
			seen[id] = true
		}
	}
}
