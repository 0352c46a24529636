package soak_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
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

const (
	// answerTime is how long a person looks at a window that does not react.
	answerTime = 1500 * time.Millisecond
	// patience is how long a story may take to come to its end: longer than every
	// back-off of the daemon that a story can meet.
	patience = 4 * time.Minute
	glance   = 100 * time.Millisecond
)

// story is one pipeline and what people do about it.
type story struct {
	*lane
	kind     string
	workflow string
	id       string // of the request, once its creation was acknowledged
	card     slacktest.Message
	trace    []string
	want     approvals.Status // acknowledged to a caller; "" = the end is open
}

func (s *story) note(format string, args ...any) {
	s.trace = append(s.trace, time.Now().UTC().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

// start pushes a commit; the gate is on hold or still blocked.
func (l *lane) start(kind string, onHold bool) *story {
	l.pipeline++
	p := l.Circle.AddPipeline(circlecitest.Pipeline{
		Number: l.pipeline, Project: l.project, Revision: fmt.Sprintf("%040x", l.rng.Uint64()), Branch: stage.Branch, ActorLogin: stage.Starter,
	})
	s := &story{lane: l, kind: kind}
	s.workflow = l.Circle.AddWorkflow(circlecitest.Workflow{Pipeline: p.ID, Name: "deploy", Jobs: circlecitest.DeployJobs(tortureGate)})
	s.finish("test", "build")
	if onHold {
		s.finish("request_approval")
	}
	s.note("%s: workflow %s of %s, on hold %t", kind, s.workflow, l.app, onHold)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stories = append(l.stories, s)
	return s
}

// finish lets jobs succeed; what has ended meanwhile stays as it is.
func (s *story) finish(jobs ...string) {
	for _, job := range jobs {
		if status := s.Circle.JobStatus(s.workflow, job); status == "running" || status == "blocked" {
			_ = s.Circle.Succeed(s.workflow, job) // the job exists
		}
	}
}

// pause waits; the error is ctx's.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// again repeats a step until it is done or the story's time is over.
func again(ctx context.Context, step func() bool) error {
	for !step() {
		if err := pause(ctx, glance); err != nil {
			return err
		}
	}
	return nil
}

// create files the request as the CI job does, and now and then twice.
func (s *story) create(ctx context.Context) error {
	jobs, _ := s.Circle.Job(s.workflow, "request_approval")
	metadata, err := json.Marshal(map[string]string{"workflow_id": s.workflow, "job_id": jobs.ID})
	if err != nil {
		return err
	}
	p := s.commit()
	body := webhook.CreateBody{App: s.app, GitCommit: p[:12], Branch: stage.Branch, Metadata: metadata}
	var r webhook.Request
	if err := again(ctx, func() bool { r, _, err = s.client.Create(ctx, body); return err == nil }); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	s.id = r.ID
	s.note("request %s #%d is acknowledged", r.ID, r.Number)
	if s.rng.IntN(5) == 0 {
		twice, created, err := s.quick.Create(ctx, body)
		if err == nil && (created || twice.ID != r.ID) && twice.Status != approvals.Expired {
			return fmt.Errorf("I1: a second create for the same workflow made request %s beside %s", twice.ID, r.ID)
		}
	}
	return nil
}

func (s *story) commit() string {
	for _, p := range s.Circle.Snapshot().Pipelines {
		if p.Project == s.project && p.Number == s.pipeline {
			return p.Revision
		}
	}
	return ""
}

// look finds the card, and follows it.
func (s *story) look(ctx context.Context) error {
	if s.card.TS != "" {
		s.card, _ = s.Slack.Message(s.channel, s.card.TS)
		return nil
	}
	return again(ctx, func() bool {
		for _, m := range s.Slack.Messages(s.channel) {
			if proof.IsCard(m, s.id) {
				s.card = m
				return true
			}
		}
		return false
	})
}

// get reads the request; it is repeated until the daemon answers.
func (s *story) get(ctx context.Context) (r webhook.Request, err error) {
	err = again(ctx, func() bool {
		var err error
		r, err = s.quick.Get(ctx, s.id)
		return err == nil
	})
	return r, err
}

// decide is one admin who presses a button until it is settled, and says whether
// the decision was accepted.
func (s *story) decide(ctx context.Context, user string, reject bool) (accepted bool, err error) {
	codeless := reject && !s.codeOnReject
	began := time.Now().Truncate(time.Millisecond) // as the gateway's times are
	for {
		if err := s.look(ctx); err != nil {
			return false, err
		}
		button := s.button(reject)
		if button == "" {
			s.note("%s finds nothing to press", user)
			return false, nil
		}
		view := s.press(ctx, user, button)
		if view == nil {
			if err := pause(ctx, glance); err != nil {
				return false, err
			}
			r, err := s.get(ctx)
			if err != nil || r.Status != approvals.Pending && r.Status != approvals.Undeliverable && r.Status != approvals.Expired {
				return false, err
			}
			// A request whose release failed still lists the votes before that.
			if slices.ContainsFunc(r.Decisions, func(d webhook.Decision) bool { return d.SlackUser == user && !d.At.Before(began) }) {
				return true, nil
			}
			continue
		}
		values := slacktest.Values{}
		var step int64
		if reject {
			values[bot.BlockReason] = map[string]string{bot.InputReason: "not today"}
		}
		if !codeless {
			var code string
			if code, step, err = s.code(ctx, user); err != nil {
				return false, err
			}
			values[bot.BlockCode] = map[string]string{bot.InputCode: code}
		}
		if accepted, done := s.submit(ctx, user, view, values, step); done {
			return accepted, nil
		}
	}
}

// button is what the card offers for a decision.
func (s *story) button(reject bool) string {
	offered := slacktest.Buttons(s.card)
	for _, b := range []string{bot.ActionApprove, bot.ActionRetry, bot.ActionReject} {
		if (b == bot.ActionReject) == reject && slices.Contains(offered, b) {
			return b
		}
	}
	return ""
}

// press presses a button and returns the modal, if one opens.
func (s *story) press(ctx context.Context, user, button string) *slacktest.View {
	for s.Slack.View(user) != nil {
		_ = s.Slack.CloseView(ctx, user)
	}
	told := len(s.Slack.Ephemerals(user))
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	if _, err := s.Slack.Click(ctx, user, s.channel, s.card.TS, button); err != nil {
		return nil
	}
	err := again(ctx, func() bool { return s.Slack.View(user) != nil || len(s.Slack.Ephemerals(user)) > told })
	if err != nil {
		return nil
	}
	if said := s.Slack.Ephemerals(user); len(said) > told {
		s.note("%s is told: %s", user, said[len(said)-1].Text)
	}
	return s.Slack.View(user)
}

// code waits for a code that the person has not sent yet. Early ones and late
// ones are used as well, as the clocks of phones are.
func (s *story) code(ctx context.Context, user string) (code string, step int64, err error) {
	err = again(ctx, func() bool {
		now := totp.Step(time.Now())
		step = max(s.lastStep[user]+1, now-1)
		return step <= now+1
	})
	s.lastStep[user] = step
	at := time.Unix(step*30, 0)
	if s.rng.IntN(12) == 0 {
		s.lastStep[user]--
		return s.WrongCode(user, at), 0, err
	}
	return s.Code(user, at), step, err
}

// submit sends a modal. done: nothing more is to be pressed.
func (s *story) submit(ctx context.Context, user string, view *slacktest.View, values slacktest.Values, step int64) (accepted, done bool) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	answered := func(proof.Answer) {}
	if values[bot.BlockCode] != nil {
		answered = s.codes.Send(proof.Submission{User: user, Request: s.id, Step: step, Sent: time.Now()})
	}
	got, err := s.Slack.Submit(ctx, user, view.ID, values)
	switch {
	case err != nil:
		s.note("%s gets no answer: %v", user, err)
		return false, false
	case got.Closed:
		answered(proof.Accepted)
		s.note("%s is accepted with step %d", user, step)
		if step != 0 {
			s.spent[user] = values[bot.BlockCode][bot.InputCode]
		}
		return true, true
	case got.Updated != nil:
		text := slacktest.Text(got.Updated.Blocks)
		s.note("%s sees: %s", user, text)
		// Of the answer "could not record" nobody knows.
		if !strings.Contains(text, "could not record") {
			answered(proof.Refused)
		}
		return false, false
	}
	answered(proof.Refused)
	s.note("%s is refused: %v", user, got.Errors)
	return false, false
}

// replay sends an accepted code once more, which must never pass.
func (s *story) replay(ctx context.Context, user string) error {
	code := s.spent[user]
	delete(s.spent, user)
	if code == "" || s.button(false) == "" {
		return nil
	}
	view := s.press(ctx, user, s.button(false))
	if view == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	got, err := s.Slack.Submit(ctx, user, view.ID, slacktest.Values{bot.BlockCode: {bot.InputCode: code}})
	if err == nil && got.Closed {
		return errors.New("I6: a code was accepted a second time")
	}
	s.note("%s replays a code: %v", user, got.Errors)
	return nil
}

// vote brings as many different people to approve as the app needs.
func (s *story) vote(ctx context.Context) error {
	people := slices.Clone(s.admins)
	s.rng.Shuffle(len(people), func(i, j int) { people[i], people[j] = people[j], people[i] })
	if s.rng.IntN(4) == 0 {
		if err := s.look(ctx); err != nil {
			return err
		}
		if err := s.replay(ctx, people[0]); err != nil {
			return err
		}
	}
	for _, user := range people[:s.required] {
		if _, err := s.decide(ctx, user, false); err != nil {
			return fmt.Errorf("vote: %w", err)
		}
	}
	return nil
}
