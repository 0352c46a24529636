package soak_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/proof"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/story"
)

// asked is a story with its lane.
type asked struct {
	*story.Story
	lane *story.Lane
}

// ask is what CI asks for.
func (a asked) ask() story.Ask { return a.lane.Ask(a.Story) }

// end lets running jobs succeed.
func (a asked) end(jobs ...string) { a.lane.End(a.Story, jobs...) }

// push starts a pipeline of a lane, whose gate is on hold or still blocked.
func (s *scene) push(lane int, onHold bool) asked {
	l := s.lanes[lane%len(s.lanes)]
	a := asked{l.Push(), l}
	if onHold {
		a.end("request_approval")
	}
	return a
}

// request runs the CI job's call.
func (s *scene) request(ctx context.Context, a story.Ask, retryFor time.Duration) stage.Result {
	return s.Client(ctx, "", "deploy-approval", "request", "--app", a.App, "--git-commit", a.Revision[:12], "--branch", story.Branch,
		"--ci-metadata", fmt.Sprintf(`{"workflow_id":%q}`, a.Workflow), "--retry-for", retryFor.String())
}

// File implements story.Gateway with the CI job's call, which must make a new request
// at the first try.
func (s *scene) File(ctx context.Context, a story.Ask) (id string, number int64, err error) {
	return s.filed(ctx, s.request(ctx, a, 0))
}

// filed reads what the call's answer promised.
func (s *scene) filed(ctx context.Context, r stage.Result) (id string, number int64, err error) {
	if r.Code != 0 || !strings.Contains(r.Stderr, "created") {
		return "", 0, &story.Refusal{Err: fmt.Errorf("I1: a request was not accepted: exit %d: %s", r.Code, r.Stderr)}
	}
	id = strings.TrimSpace(r.Stdout)
	known, err := s.quick.Get(ctx, id)
	if err != nil {
		return "", 0, &story.Refusal{Err: fmt.Errorf("I1: read request %s, which was acknowledged: %w", id, err)}
	}
	return id, known.Number, nil
}

// Withdraw implements story.Gateway with the CLI's cancel.
func (s *scene) Withdraw(ctx context.Context, id string) error {
	if r := s.Client(ctx, "", "deploy-approval", "cancel", id, "--reason", "the drill is over"); r.Code != 0 {
		return &story.Refusal{Err: fmt.Errorf("withdraw %s: exit %d: %s", id, r.Code, r.Stderr)}
	}
	return nil
}

// file files the request.
func (s *scene) file(ctx context.Context, a asked) error {
	if a.lane.File(ctx, a.Story); a.ID == "" {
		return errors.New("the request was not filed\n" + a.lane.Told())
	}
	return nil
}

// withdraw takes the request back.
func (s *scene) withdraw(ctx context.Context, a asked) error {
	if a.lane.Withdraw(ctx, a.Story); a.Want != approvals.Canceled {
		return fmt.Errorf("request #%d was not withdrawn", a.Number)
	}
	return nil
}

// ask does all of it, and waits for the card.
func (s *scene) ask(ctx context.Context, lane int, onHold bool) (asked, error) {
	a := s.push(lane, onHold)
	if err := s.file(ctx, a); err != nil {
		return a, err
	}
	_, err := s.card(ctx, a)
	return a, err
}

// card waits for the card of a request.
func (s *scene) card(ctx context.Context, a asked) (slacktest.Message, error) {
	m, err := s.Slack.WaitMessage(ctx, a.lane.Channel, func(m slacktest.Message) bool { return proof.IsCard(m, a.ID) })
	if err != nil {
		return m, fmt.Errorf("request #%d has no card: %w", a.Number, err)
	}
	return m, nil
}

// vote lets the next of the lane's admins approve, or press Retry where the card
// offers that, with a right code.
func (s *scene) vote(ctx context.Context, a asked) error {
	if _, err := s.card(ctx, a); err != nil {
		return err
	}
	if err := s.Slack.WaitSockets(ctx, 1); err != nil {
		return err
	}
	s.votes++
	if a.lane.Decide(ctx, a.Story, s.votes%story.Admins, story.Approve) != proof.Accepted {
		return fmt.Errorf("the right code for #%d was not accepted", a.Number)
	}
	return nil
}

// status waits until a request is in a state.
func (s *scene) status(ctx context.Context, a asked, want approvals.Status) error {
	var r webhook.Request
	err := again(ctx, func() bool {
		now, err := s.quick.Get(ctx, a.ID)
		if err == nil {
			r = now
		}
		return r.Status == want
	})
	if err != nil {
		return fmt.Errorf("request #%d is %s; want %s: %w", a.Number, r.Status, want, err)
	}
	return nil
}

// deployed waits for the gate and lets the deploy behind it succeed.
func (s *scene) deployed(ctx context.Context, all ...asked) error {
	for _, a := range all {
		if err := s.status(ctx, a, approvals.Released); err != nil {
			return err
		}
		a.end("deploy")
		a.Want = approvals.Deployed
	}
	return nil
}

// event waits for the newest event of a type in the history of a request.
func (s *scene) event(ctx context.Context, a asked, t approvals.EventType) (found approvals.Event, err error) {
	err = again(ctx, func() bool {
		events, err := stage.Events(ctx, s.URL, s.Token, a.ID)
		if err != nil {
			return false
		}
		for _, e := range events {
			if e.Type == t {
				found = e
			}
		}
		return found.Type == t
	})
	if err != nil {
		return found, fmt.Errorf("request #%d has no event %s: %w", a.Number, t, err)
	}
	return found, nil
}

// told waits for the reply that tells an event.
func (s *scene) told(ctx context.Context, a asked, e approvals.Event) (slacktest.Message, error) {
	m, err := s.Slack.WaitMessage(ctx, a.lane.Channel, func(m slacktest.Message) bool { return m.ThreadTS != "" && tells(m, e) })
	if err != nil {
		return m, fmt.Errorf("the thread of #%d does not tell event %d %s: %w", a.Number, e.Seq, e.Type, err)
	}
	return m, nil
}

// tells reports whether a message is the one of an event.
func tells(m slacktest.Message, e approvals.Event) bool {
	return m.Metadata != nil && m.Metadata.EventType == bot.MetadataReply && m.Metadata.EventPayload["seq"] == strconv.FormatInt(e.Seq, 10)
}

// posted is when a message came to stand in Slack.
func posted(m slacktest.Message) time.Time {
	whole, micro, _ := strings.Cut(m.TS, ".")
	sec, _ := strconv.ParseInt(whole, 10, 64) // the simulator's own
	usec, _ := strconv.ParseInt(micro, 10, 64)
	return time.Unix(sec, usec*1000)
}
