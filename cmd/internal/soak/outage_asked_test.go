package soak_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/totp"
	"github.com/rack-gateway/rack-gateway-approvals/bot"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/proof"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// asked is a pipeline, and its request once that is filed.
type asked struct {
	place
	workflow, revision string
	id                 string
	number             int64
	votes              int              // codes that were accepted
	want               approvals.Status // its end; "" = any
	unposted           bool             // it was seen to say that its card is not posted
}

// push starts a pipeline whose gate is on hold or still blocked.
func (s *scene) push(at place, onHold bool) *asked {
	s.mu.Lock()
	s.pipeline++
	number := s.pipeline
	a := &asked{place: at, revision: fmt.Sprintf("%016x%024x", s.rng.Uint64(), number)}
	s.mu.Unlock()
	p := s.Circle.AddPipeline(circlecitest.Pipeline{Number: number, Project: at.project, Revision: a.revision, Branch: stage.Branch, ActorLogin: stage.Starter})
	a.workflow = s.Circle.AddWorkflow(circlecitest.Workflow{Pipeline: p.ID, Name: "deploy", Jobs: circlecitest.DeployJobs(stage.Gate)})
	jobs := []string{"test", "build"}
	if onHold {
		jobs = append(jobs, "request_approval")
	}
	s.finish(a, jobs...)
	return a
}

// finish lets jobs of a pipeline succeed.
func (s *scene) finish(a *asked, jobs ...string) {
	for _, job := range jobs {
		_ = s.Circle.Succeed(a.workflow, job) // the job exists
	}
}

// request runs the CI job's call.
func (s *scene) request(ctx context.Context, a *asked, retryFor time.Duration) stage.Result {
	return s.Client(ctx, "", "deploy-approval", "request", "--app", a.app, "--git-commit", a.revision[:12], "--branch", stage.Branch,
		"--ci-metadata", fmt.Sprintf(`{"workflow_id":%q}`, a.workflow), "--retry-for", retryFor.String())
}

// file files the request at the first try; it must be new.
func (s *scene) file(ctx context.Context, a *asked) error {
	return s.filed(ctx, a, s.request(ctx, a, 0))
}

// filed keeps what the call's answer promised.
func (s *scene) filed(ctx context.Context, a *asked, r stage.Result) error {
	if r.Code != 0 || !strings.Contains(r.Stderr, "created") {
		return fmt.Errorf("I1: a request was not accepted: exit %d: %s", r.Code, r.Stderr)
	}
	a.id = strings.TrimSpace(r.Stdout)
	known, err := s.quick.Get(ctx, a.id)
	if err != nil {
		return fmt.Errorf("I1: read request %s, which was acknowledged: %w", a.id, err)
	}
	a.number = known.Number
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, a)
	return nil
}

// ask does all of it, and waits for the card.
func (s *scene) ask(ctx context.Context, at place, onHold bool) (*asked, error) {
	a := s.push(at, onHold)
	if err := s.file(ctx, a); err != nil {
		return nil, err
	}
	_, err := s.card(ctx, a)
	return a, err
}

// card waits for the card of a request.
func (s *scene) card(ctx context.Context, a *asked) (slacktest.Message, error) {
	m, err := s.Slack.WaitMessage(ctx, a.channel, func(m slacktest.Message) bool { return proof.IsCard(m, a.id) })
	if err != nil {
		return m, fmt.Errorf("request #%d has no card: %w", a.number, err)
	}
	return m, nil
}

// vote lets somebody who has not decided anything yet press a button of the card
// and send a code.
func (s *scene) vote(ctx context.Context, a *asked, button string) error {
	if len(s.idle) == 0 {
		return errors.New("nobody is left who could approve")
	}
	var user string
	user, s.idle = s.idle[0], s.idle[1:]
	if _, err := s.card(ctx, a); err != nil {
		return err
	}
	if err := s.Slack.WaitSockets(ctx, 1); err != nil {
		return err
	}
	var card slacktest.Message
	err := s.Slack.Wait(ctx, func() bool {
		card, _ = s.card(ctx, a)
		return slices.Contains(slacktest.Buttons(card), button)
	})
	if err != nil {
		return fmt.Errorf("the card of #%d does not offer %s: %w", a.number, button, err)
	}
	view, err := s.Press(ctx, user, card, button)
	if err != nil {
		return fmt.Errorf("#%d: %w", a.number, err)
	}
	now := time.Now()
	answered := s.codes.Send(proof.Submission{User: user, Request: a.id, Step: totp.Step(now), Sent: now})
	got, err := s.Submit(ctx, user, view, s.Code(user, now))
	switch {
	case err != nil:
		return fmt.Errorf("send a code for #%d: %w", a.number, err)
	case !got.Closed:
		answered(proof.Refused)
		return fmt.Errorf("the right code for #%d was refused: %+v", a.number, got)
	}
	answered(proof.Accepted)
	a.votes++
	return nil
}

// status waits until a request is in one of some states.
func (s *scene) status(ctx context.Context, a *asked, want ...approvals.Status) error {
	var r webhook.Request
	err := again(ctx, func() bool {
		now, err := s.quick.Get(ctx, a.id)
		if err != nil {
			return false
		}
		r = now
		return slices.Contains(want, r.Status)
	})
	if err != nil {
		return fmt.Errorf("request #%d is %s; want %v: %w", a.number, r.Status, want, err)
	}
	return nil
}

// withdraw is the CLI's cancel.
func (s *scene) withdraw(ctx context.Context, a *asked) error {
	r := s.Client(ctx, "", "deploy-approval", "cancel", a.id, "--reason", "the drill is over")
	if r.Code != 0 {
		return fmt.Errorf("withdraw #%d: exit %d: %s", a.number, r.Code, r.Stderr)
	}
	a.want = approvals.Canceled
	return nil
}

// deployed waits for the gate and lets the deploy behind it succeed.
func (s *scene) deployed(ctx context.Context, a *asked) error {
	if err := s.status(ctx, a, approvals.Released); err != nil {
		return err
	}
	s.finish(a, "deploy")
	a.want = approvals.Deployed
	return nil
}

// event waits for the newest event of a type in the history of a request.
func (s *scene) event(ctx context.Context, a *asked, t approvals.EventType) (found approvals.Event, err error) {
	err = again(ctx, func() bool {
		events, err := s.quick.Events(ctx, a.id)
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
		return found, fmt.Errorf("request #%d has no event %s: %w", a.number, t, err)
	}
	return found, nil
}

// told waits for the reply that tells an event.
func (s *scene) told(ctx context.Context, a *asked, e approvals.Event) (slacktest.Message, error) {
	m, err := s.Slack.WaitMessage(ctx, a.channel, func(m slacktest.Message) bool { return m.ThreadTS != "" && tells(m, e) })
	if err != nil {
		return m, fmt.Errorf("the thread of #%d does not tell event %d %s: %w", a.number, e.Seq, e.Type, err)
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
