package stage

import (
	"context"
	"fmt"
	"strings"

	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
)

// Request files a request for a workflow with the documentation's call and
// returns its id.
func (s *Stage) Request(ctx context.Context, workflowID string) (string, error) {
	r := s.Client(ctx, workflowID, RequestArgs(workflowID)...)
	if r.Code != 0 {
		return "", fmt.Errorf("deploy-approval request: exit %d: %s", r.Code, r.Stderr)
	}
	return strings.TrimSpace(r.Stdout), nil
}

// RequestArgs is the documentation's call, after the shell expanded it.
func RequestArgs(workflowID string) []string {
	return []string{
		"deploy-approval", "request", "--app", App, "--git-commit", Revision, "--branch", Branch,
		"--ci-metadata", fmt.Sprintf(`{"workflow_id":"%s","pipeline_number":%d}`, workflowID, Number),
		"--message", "Deploy main@1a2b3c4 to production",
	}
}

// Card waits for the card of a request.
func (s *Stage) Card(ctx context.Context, requestID string) (slacktest.Message, error) {
	return s.Slack.WaitMessage(ctx, Channel, func(m slacktest.Message) bool {
		return m.ThreadTS == "" && m.Metadata != nil && m.Metadata.EventPayload["request_id"] == requestID
	})
}

// Press clicks a button of the card and returns the modal that opens.
func (s *Stage) Press(ctx context.Context, user string, card slacktest.Message, action string) (*slacktest.View, error) {
	told := len(s.Slack.Ephemerals(user))
	if _, err := s.Slack.Click(ctx, user, card.Channel, card.TS, action); err != nil {
		return nil, fmt.Errorf("press %s: %w", action, err)
	}
	err := s.Slack.Wait(ctx, func() bool { return s.Slack.View(user) != nil || len(s.Slack.Ephemerals(user)) > told })
	if err != nil {
		return nil, fmt.Errorf("press %s: %w", action, err)
	}
	if view := s.Slack.View(user); view != nil {
		return view, nil
	}
	said := s.Slack.Ephemerals(user)
	return nil, &Refused{said[len(said)-1].Text}
}

// Refused is what a person is told instead of a modal.
type Refused struct{ Text string }

func (r *Refused) Error() string { return "refused: " + r.Text }

// Submit sends a code in a person's open modal.
func (s *Stage) Submit(ctx context.Context, user string, view *slacktest.View, code string) (slacktest.SubmitResult, error) {
	return s.Slack.Submit(ctx, user, view.ID, slacktest.Values{"totp": {"code": code}})
}

// Replied waits for a reply in the thread of a card that contains text.
func (s *Stage) Replied(ctx context.Context, card slacktest.Message, text string) (slacktest.Message, error) {
	m, err := s.Slack.WaitMessage(ctx, card.Channel, func(m slacktest.Message) bool {
		return m.ThreadTS == card.TS && strings.Contains(slacktest.Text(m.Blocks)+"\n"+m.Text, text)
	})
	if err != nil {
		return m, fmt.Errorf("no reply says %q: %w", text, err)
	}
	return m, nil
}
