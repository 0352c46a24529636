package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// storyTime is far more than the story takes.
const storyTime = 3 * time.Minute

// play runs the story of one daemon. It fails unless every step of it was seen.
func play(ctx context.Context, out io.Writer, http bool) error {
	return onStage(ctx, out, http, func(ctx context.Context, p *player) (string, error) {
		if err := p.story(ctx); err != nil {
			return "", err
		}
		if code := p.Stop(); code != 0 {
			return "", fmt.Errorf("the daemon ended with exit code %d", code)
		}
		return "one gate opened by the bot, once, for the one deploy that was approved", nil
	})
}

// onStage has a story played on a stage of its own, and tells what it showed.
func onStage(ctx context.Context, out io.Writer, http bool, story func(context.Context, *player) (showed string, err error)) error {
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
	p := &player{runner: &runner{Stage: s, pace: jobPace, bell: &bell{}}, out: out, cards: map[string]bool{}, silence: 1500 * time.Millisecond}
	began := time.Now()
	showed, err := story(ctx, p)
	if err != nil {
		return err
	}
	p.say("All of it happened as told: %s. Took %s.", showed, time.Since(began).Round(100*time.Millisecond))
	return nil
}

// player tells what it does.
type player struct {
	*runner
	out   io.Writer
	cards map[string]bool // those that were seen
	// silence is how long nothing is added to a thread that is complete.
	silence time.Duration
}

func (p *player) say(format string, args ...any) {
	fmt.Fprintf(p.out, "\n== "+format+"\n", args...)
}

// show prints a message of Slack, indented.
func (p *player) show(m slacktest.Message) {
	text := slacktest.Text(m.Blocks)
	if text == "" {
		text = slacktest.PlainText(m.Text)
	}
	p.indent("   | ", plain(text))
}

func (p *player) indent(with, text string) {
	for line := range strings.Lines(strings.TrimRight(text, "\n")) {
		fmt.Fprintf(p.out, "%s%s\n", with, strings.TrimRight(line, "\n"))
	}
}

func (p *player) story(ctx context.Context) error {
	p.say("The operator starts the daemon and makes Ana and Bea admins with authenticators.")
	if err := p.Start(ctx); err != nil {
		return err
	}
	if err := p.People(ctx); err != nil {
		return err
	}
	return p.chapters(ctx, p.approved, p.rejected, p.bypassed)
}

// chapters plays what happens once the daemon works, while the machines of CircleCI
// run its jobs.
func (p *player) chapters(ctx context.Context, all ...func(context.Context) error) error {
	p.url, p.key = p.URL, p.Token
	ctx, cancel := context.WithCancel(ctx)
	var following sync.WaitGroup
	following.Go(func() { p.follow(ctx) })
	defer func() {
		cancel()
		following.Wait()
	}()
	for _, chapter := range all {
		if err := chapter(ctx); err != nil {
			return err
		}
	}
	return nil
}

// ask pushes a commit, whose job asks for approval, and returns the card once the
// gate is on hold.
func (p *player) ask(ctx context.Context) (workflow string, card slacktest.Message, err error) {
	workflow = p.push(stage.Starter)
	if _, err := p.job(ctx, workflow, askingJob, 0); err != nil {
		return "", card, err
	}
	card, err = p.Slack.WaitMessage(ctx, stage.Channel, func(m slacktest.Message) bool {
		return m.Metadata != nil && m.Metadata.EventType == bot.MetadataCard && !p.cards[m.TS]
	})
	if err != nil {
		return "", card, fmt.Errorf("there is no card: %w", err)
	}
	p.cards[card.TS] = true
	p.say("The card in #deploys:")
	p.show(card)
	return workflow, card, p.gate(ctx, workflow, "on_hold")
}

// job waits for the end of a job and prints its log.
func (p *player) job(ctx context.Context, workflow, name string, code int) (jobRun, error) {
	var run jobRun
	err := p.Circle.Wait(ctx, func() bool {
		run, _ = p.log(workflow, name)
		return run.Ended && p.Circle.JobStatus(workflow, name) != "running"
	})
	if err != nil {
		return run, fmt.Errorf("the job %s did not end: %w", name, err)
	}
	p.indent("   $ ", run.Line)
	p.indent("   > ", run.Output)
	if run.Code != code {
		return run, fmt.Errorf("the job %s ended with exit code %d; want %d", name, run.Code, code)
	}
	return run, nil
}

func (p *player) gate(ctx context.Context, workflow, status string) error {
	if err := p.Circle.Wait(ctx, func() bool { return p.Circle.JobStatus(workflow, stage.Gate) == status }); err != nil {
		return fmt.Errorf("the gate is %s; want %s: %w", p.Circle.JobStatus(workflow, stage.Gate), status, err)
	}
	return nil
}

// ended waits until the card begins with a word, has no button to decide with any
// more, and its thread has told the newest; then it prints both.
func (p *player) ended(ctx context.Context, card slacktest.Message, word string) error {
	err := p.Slack.Wait(ctx, func() bool {
		m, _ := p.Slack.Message(card.Channel, card.TS)
		return strings.HasPrefix(m.Text, word) && !slices.ContainsFunc(slacktest.Buttons(m), func(b string) bool { return b != "view_pipeline" })
	})
	if err != nil {
		now, _ := p.Slack.Message(card.Channel, card.TS)
		return fmt.Errorf("the card says %q; want %q and no buttons: %w", now.Text, word, err)
	}
	if err := p.quiet(ctx, card); err != nil {
		return err
	}
	now, _ := p.Slack.Message(card.Channel, card.TS) // the endings of the thread may have changed it
	p.say("The card and its thread, as an auditor reads them:")
	p.show(now)
	for _, reply := range p.Slack.Thread(card.Channel, card.TS) {
		fmt.Fprintln(p.out, "   |")
		p.show(reply)
	}
	return nil
}

// quiet waits until nothing more is added to the thread.
func (p *player) quiet(ctx context.Context, card slacktest.Message) error {
	for replies := -1; replies != len(p.Slack.Thread(card.Channel, card.TS)); {
		replies = len(p.Slack.Thread(card.Channel, card.TS))
		if !approvals.Pause(ctx, p.silence) {
			return ctx.Err()
		}
	}
	return nil
}

// approved is the deploy that goes well.
func (p *player) approved(ctx context.Context) error {
	p.say("Alice pushes a commit. CircleCI runs pipeline %d of %s, whose job %s calls:", stage.Number, stage.Project, askingJob)
	workflow, card, err := p.ask(ctx)
	if err != nil {
		return err
	}
	if err := p.vote(ctx, card); err != nil {
		return err
	}
	if err := p.gate(ctx, workflow, "success"); err != nil {
		return err
	}
	p.say("The bot opened the gate in CircleCI. The deploy job asks whether it may, and deploys:")
	run, err := p.job(ctx, workflow, deployJob, 0)
	if err != nil {
		return err
	}
	if err := p.receipt(ctx, run); err != nil {
		return err
	}
	if err := p.ended(ctx, card, "Deployed"); err != nil {
		return err
	}
	return p.gateBy(workflow, stage.MachineUser, 1)
}

// vote presses Approve deploy, with a wrong code first.
func (p *player) vote(ctx context.Context, card slacktest.Message) error {
	p.say("Ana presses Approve deploy. A window asks for a code from her authenticator, and she mistypes it:")
	view, err := p.Press(ctx, stage.Ana, card, "approve")
	if err != nil {
		return err
	}
	got, err := p.Submit(ctx, stage.Ana, view, p.WrongCode(stage.Ana, time.Now()))
	if err != nil {
		return err
	}
	if got.Closed || got.Errors["totp"] == "" {
		return fmt.Errorf("a wrong code was not refused below the field: %+v", got)
	}
	p.indent("   | ", got.Errors["totp"])
	if got, err = p.Submit(ctx, stage.Ana, view, p.Code(stage.Ana, time.Now())); err != nil {
		return err
	}
	if !got.Closed {
		return fmt.Errorf("the right code was refused: %+v", got)
	}
	p.say("With the right code the window closes.")
	return nil
}

// receipt checks what the deploy job keeps, as an auditor does who has the public
// key and nothing else.
func (p *player) receipt(ctx context.Context, run jobRun) error {
	key := strings.TrimSpace(p.Operator(ctx, "", "audit", "key").Stdout)
	p.say("The deploy job keeps a receipt. Whoever has the log's public key can check it, offline:")
	fmt.Fprintf(p.out, "   $ rack-gatewayd audit verify-receipt receipt.json --key %s\n", key)
	r := p.Operator(ctx, run.Receipt, "audit", "verify-receipt", "-", "--key", key)
	p.indent("   > ", r.Stdout)
	if r.Code != 0 {
		return fmt.Errorf("the receipt of the deploy job: exit %d: %s", r.Code, r.Stderr)
	}
	return nil
}

// rejected is a deploy that Bea stops.
func (p *player) rejected(ctx context.Context) error {
	p.say("Alice pushes another commit:")
	workflow, card, err := p.ask(ctx)
	if err != nil {
		return err
	}
	const reason = "Wait for the migration, please."
	p.say("Bea presses Reject and says why: %q", reason)
	view, err := p.Press(ctx, stage.Bea, card, "reject")
	if err != nil {
		return err
	}
	got, err := p.Slack.Submit(ctx, stage.Bea, view.ID, slacktest.Values{"reason": {"text": reason}})
	if err != nil || !got.Closed {
		return errors.Join(err, fmt.Errorf("the reject was not taken: %+v", got))
	}
	if err := p.gate(ctx, workflow, "canceled"); err != nil {
		return err
	}
	p.say("The bot cancelled the gate in CircleCI, so nobody can open it any more, and the deploy job never runs.")
	if err := p.ended(ctx, card, "Rejected"); err != nil {
		return err
	}
	return p.undeployed(workflow, "", 0, "not_run")
}

// bypassed is a gate that somebody opens in CircleCI itself.
func (p *player) bypassed(ctx context.Context) error {
	p.say("Alice pushes a third commit:")
	workflow, card, err := p.ask(ctx)
	if err != nil {
		return err
	}
	p.say("Nobody approves it. Mallory, who may push, approves the gate in CircleCI itself. The deploy job starts, and asks:")
	if err := p.Circle.ApproveAs(outsider, workflow, stage.Gate); err != nil {
		return err
	}
	run, err := p.job(ctx, workflow, deployJob, refusedCode)
	if err != nil {
		return err
	}
	if !strings.Contains(run.Output, "Not deploying") || strings.Contains(run.Output, "is up") {
		return fmt.Errorf("the deploy job does not say that it did not deploy")
	}
	p.say("The job ends red: nothing was deployed.")
	if err := p.ended(ctx, card, "Approved outside"); err != nil {
		return err
	}
	return p.undeployed(workflow, outsider, 1, "failed")
}

// refusedCode is what rack-gateway deploy ends with when the gateway says no.
const refusedCode = 9

// undeployed fails unless the bot left the gate alone, and the deploy job ended as
// it has to.
func (p *player) undeployed(workflow, by string, calls int, deploy string) error {
	if err := p.gateBy(workflow, by, calls); err != nil {
		return err
	}
	if status := p.Circle.JobStatus(workflow, deployJob); status != deploy {
		return fmt.Errorf("the deploy job is %s; want %s", status, deploy)
	}
	return nil
}

// gateBy fails unless the gate was approved by somebody, "" = nobody, in so many calls.
func (p *player) gateBy(workflow, by string, calls int) error {
	gate, _ := p.Circle.Job(workflow, stage.Gate)
	if tries := p.Circle.Approvals(workflow); len(tries) != calls || gate.ApprovedBy != by {
		return fmt.Errorf("the gate was approved by %q in %d calls; want %q, %d", gate.ApprovedBy, len(tries), by, calls)
	}
	return nil
}
