package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// storyTime is far more than the story takes.
const storyTime = 90 * time.Second

// play runs the story. It fails unless every step of it was seen.
func play(ctx context.Context, out io.Writer, http bool) error {
	ctx, cancel := context.WithTimeout(ctx, storyTime)
	defer cancel()
	dir, err := os.MkdirTemp("", "rack-gateway-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s, err := stage.New(dir, stage.Options{HTTP: http})
	if err != nil {
		return err
	}
	defer s.Close()
	p := &player{Stage: s, out: out, started: time.Now()}
	if err := p.story(ctx); err != nil {
		return err
	}
	if code := s.Stop(); code != 0 {
		return fmt.Errorf("the daemon ended with exit code %d", code)
	}
	p.say("The gate was approved exactly once. Took %s.", time.Since(p.started).Round(100*time.Millisecond))
	return nil
}

// player tells what it does.
type player struct {
	*stage.Stage
	out     io.Writer
	started time.Time
}

func (p *player) say(format string, args ...any) {
	fmt.Fprintf(p.out, "\n== "+format+"\n", args...)
}

// show prints a message of the channel, indented.
func (p *player) show(m slacktest.Message) {
	text := slacktest.Text(m.Blocks)
	if text == "" {
		text = m.Text
	}
	for line := range strings.Lines(text) {
		fmt.Fprintf(p.out, "   | %s\n", strings.TrimRight(line, "\n"))
	}
}

func (p *player) story(ctx context.Context) error {
	p.say("The operator starts the daemon and makes Ana an admin with an authenticator.")
	if err := p.Start(ctx); err != nil {
		return err
	}
	if err := p.People(ctx); err != nil {
		return err
	}

	p.say("CircleCI runs pipeline %d of %s. Its job request_approval calls:", stage.Number, stage.Project)
	workflow := p.Pipeline(stage.Number)
	fmt.Fprintf(p.out, "   $ rack-gateway %s\n", strings.Join(stage.RequestArgs(workflow), " "))
	id, err := p.Request(ctx, workflow)
	if err != nil {
		return err
	}
	card, err := p.Card(ctx, id)
	if err != nil {
		return err
	}
	p.show(card)

	if err := p.decide(ctx, workflow, card); err != nil {
		return err
	}
	if err := p.deploy(ctx, workflow, card); err != nil {
		return err
	}

	p.say("The card and its thread, as an auditor reads them:")
	last, _ := p.Slack.Message(card.Channel, card.TS)
	p.show(last)
	for _, reply := range p.Slack.Thread(card.Channel, card.TS) {
		fmt.Fprintln(p.out, "   |")
		p.show(reply)
	}
	return p.judge(workflow, last)
}

// decide presses Approve, with a wrong code first.
func (p *player) decide(ctx context.Context, workflow string, card slacktest.Message) error {
	p.say("Ana presses Approve. The gate %s is still %s.", stage.Gate, p.Circle.JobStatus(workflow, stage.Gate))
	view, err := p.Press(ctx, stage.Ana, card, "approve")
	if err != nil {
		return err
	}
	got, err := p.Submit(ctx, stage.Ana, view, p.WrongCode(stage.Ana, time.Now()))
	if err != nil {
		return err
	}
	if got.Closed || got.Errors["totp"] == "" {
		return fmt.Errorf("a wrong code was not refused under the field: %+v", got)
	}
	p.say("She mistypes the code: %q", got.Errors["totp"])
	if got, err = p.Submit(ctx, stage.Ana, view, p.Code(stage.Ana, time.Now())); err != nil {
		return err
	}
	if !got.Closed {
		return fmt.Errorf("the right code was refused: %+v", got)
	}
	if _, err := p.Replied(ctx, card, "Decided: approved"); err != nil {
		return err
	}
	p.say("With the right code the window closes; the decision is recorded.")
	if n := len(p.Circle.Approvals(workflow)); n != 0 {
		return fmt.Errorf("%d approve calls were made while the gate was blocked", n)
	}
	return nil
}

// deploy lets the pipeline reach the gate, and the deploy behind it succeed.
func (p *player) deploy(ctx context.Context, workflow string, card slacktest.Message) error {
	p.say("request_approval ends, CircleCI reaches the gate, and the bot approves it.")
	if err := p.Circle.Succeed(workflow, "request_approval"); err != nil {
		return err
	}
	if err := p.Circle.Wait(ctx, func() bool { return p.Circle.JobStatus(workflow, "deploy") == "running" }); err != nil {
		return fmt.Errorf("the gate was not opened: %w", err)
	}
	if _, err := p.Replied(ctx, card, "Released"); err != nil {
		return err
	}
	p.say("The deploy job runs and succeeds.")
	if err := p.Circle.Succeed(workflow, "deploy"); err != nil {
		return err
	}
	if r := p.Client(ctx, workflow, "deploy-approval", "wait", "--app", stage.App, "--until", "finished"); r.Code != 0 {
		return fmt.Errorf("rack-gateway deploy-approval wait: exit %d: %s", r.Code, r.Stderr)
	}
	if _, err := p.Replied(ctx, card, "Deployed"); err != nil {
		return err
	}
	return p.Slack.Wait(ctx, func() bool {
		m, _ := p.Slack.Message(card.Channel, card.TS)
		return strings.HasPrefix(m.Text, "Deployed")
	})
}

// judge believes only what the simulated services show.
func (p *player) judge(workflow string, card slacktest.Message) error {
	gate, ok := p.Circle.Job(workflow, stage.Gate)
	if !ok || gate.Status != "success" || gate.ApprovedBy != stage.MachineUser {
		return fmt.Errorf("the gate is %q, approved by %q", gate.Status, gate.ApprovedBy)
	}
	if tries := p.Circle.Approvals(workflow); len(tries) != 1 || !tries[0].Took || tries[0].ApprovalRequestID != gate.ApprovalRequestID {
		return fmt.Errorf("the gate was approved %d times; want once", len(tries))
	}
	for _, action := range slacktest.Buttons(card) {
		if action != "view_pipeline" {
			return fmt.Errorf("the card still has the button %s", action)
		}
	}
	return nil
}
