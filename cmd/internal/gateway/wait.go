package gateway

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli"
)

const untilHelp = `A wait ends as soon as the request is approved (--until approved). With --until
released it goes on until CircleCI's approval job is approved, with --until
finished until the deploy has ended. Do not use --until released or finished in
a job that the approval job requires: CircleCI lets nobody approve the approval
job before that job has ended, so it would wait for itself.`

// quiet is how often a wait says on a log that it goes on. CircleCI ends a step
// that prints nothing for 10 minutes.
const quiet = 4 * time.Minute

// waitFlags are the flags of a wait.
type waitFlags struct {
	until   stage
	timeout cli.Duration
}

func (w *waitFlags) add(cmd *cobra.Command) {
	w.until = untilApproved
	w.timeout = cli.Duration(20 * time.Minute)
	cli.Choice(cmd, &w.until, "until", "", "what to wait for", untilApproved, untilReleased, untilFinished)
	cmd.Flags().Var(&w.timeout, "timeout", "how long to wait; 0 = for ever")
}

func (c *program) waitCommand() *cobra.Command {
	var which target
	var waiting waitFlags
	var out cli.Format
	cmd := &cobra.Command{
		Use:   "wait [ID | --app APP]",
		Short: "Wait for the decision on a request and print its status",
		Long:  "Wait for the decision on a request, by id or number, or on this workflow's\nrequest for an app, and print its status.\n\n" + untilHelp + "\n\n" + exitHelp,
		Example: `  rack-gateway deploy-approval wait --app myapp
  rack-gateway deploy-approval wait '#12' --timeout 2h --until finished`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, r, err := c.find(cmd.Context(), which, args)
			if err != nil {
				return err
			}
			r, ended := c.await(cmd.Context(), client, r, waiting)
			if err := c.Show(out, cli.Result{JSON: r, Text: cli.Clean(string(r.Status)) + "\n"}); err != nil {
				return err
			}
			return ended
		},
	}
	which.add(cmd.Flags())
	waiting.add(cmd)
	cli.FormatFlag(cmd, &out)
	return cmd
}

// await waits for r and turns its end into an exit code.
func (c *program) await(ctx context.Context, client *webhook.Client, r webhook.Request, w waitFlags) (webhook.Request, error) {
	began := time.Now()
	over := func(r webhook.Request) bool { ended, _ := verdict(r.Status, w.until); return ended }
	c.sayCard(r)
	if !over(r) {
		c.Say("Waiting for approval (status: %s)", r.Status)
	}
	if timeout := time.Duration(w.timeout); timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	watch := progress{program: c, began: began, said: began, status: r.Status}
	r, err := client.Wait(ctx, r, over, watch.told)
	watch.end()
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("timed out after %s waiting for request %s (status: %s)", w.timeout, r.ID, r.Status)
		if watch.fault != nil {
			err = fmt.Errorf("%w; the last poll failed: %w", err, watch.fault)
		}
		return r, &cli.Exit{Code: exitTimedOut, Err: err}
	case err != nil:
		return r, failed(err)
	}
	c.Say("%s", ending(r))
	if _, code := verdict(r.Status, w.until); code != cli.ExitDone {
		return r, &cli.Exit{Code: code}
	}
	return r, nil
}

// ending says in a sentence how a request stands.
func ending(r webhook.Request) string {
	text := fmt.Sprintf("Deploy approval request %s is %s", r.ID, r.Status)
	for _, d := range r.Decisions {
		name := string(d.Name)
		if name == "" {
			name = d.SlackUser
		}
		switch {
		case r.Status == approvals.Rejected && d.Action == string(approvals.ActionReject):
			text += ", rejected by " + name
			if d.Reason != "" {
				text += ": " + string(d.Reason)
			}
		case r.Status.Passed() && d.Action == string(approvals.ActionApprove):
			text += ", approved by " + name
		case r.Status.Passed() && d.Action == string(approvals.ActionBreakGlass):
			text += ", released in an emergency by " + name
		}
	}
	if r.Failure.Detail != "" && !r.Status.Passed() {
		text += ": " + string(r.Failure.Detail)
	}
	return text
}

// progress tells of a wait: one line that is rewritten on a terminal, a line now
// and then on a log.
type progress struct {
	*program
	began, said time.Time
	status      approvals.Status
	fault       error
	drawn       bool
}

func (p *progress) told(r webhook.Request, err error) {
	changed := err == nil && r.Status != p.status
	if err == nil {
		p.status = r.Status
		if !p.carded && r.Slack.Permalink != "" {
			p.end()
			p.sayCard(r)
		}
	}
	failing := err != nil && p.fault == nil
	p.fault = err
	now := time.Now()
	took := cli.Duration(now.Sub(p.began).Round(time.Second))
	switch {
	case failing:
		p.end()
		p.Say("%s; still waiting", err)
	case changed:
		p.end()
		p.Say("Status: %s", p.status)
	case cli.IsTerminal(p.Err):
		p.drawn = true
		fmt.Fprintf(p.Err, "\r\x1b[KWaiting for approval (status: %s, %s)", cli.Clean(string(p.status)), took)
		return
	case now.Sub(p.said) >= quiet:
		p.Say("Still waiting for approval (status: %s, %s)", p.status, took)
	default:
		return
	}
	p.said = now
}

// end closes the line that is being rewritten.
func (p *progress) end() {
	if p.drawn {
		fmt.Fprint(p.Err, "\r\x1b[K")
		p.drawn = false
	}
}
