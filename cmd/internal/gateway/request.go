package gateway

import (
	"context"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/plain"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli"
)

// maxMessage is how many characters the gateway takes as a message.
const maxMessage = 2000

// cardPauses are the pauses between looks for the card of a new request. The
// gateway posts it at once after it has stored the request.
var cardPauses = [...]time.Duration{250 * time.Millisecond, 500 * time.Millisecond, time.Second}

// sayCard prints the link to a request's card once, as soon as it is known.
func (c *program) sayCard(r webhook.Request) {
	if r.Slack.Permalink != "" && !c.carded {
		c.carded = true
		c.Say("Card: %s", r.Slack.Permalink)
	}
}

// awaitCard prints the link to the card of a new request. Whoever reads the
// job's log wants it, but no request fails because Slack is slow: it is left out
// after a short time, and when the request cannot be read.
func (c *program) awaitCard(ctx context.Context, client *webhook.Client, r webhook.Request) webhook.Request {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	for _, pause := range cardPauses {
		if r.Slack.Permalink != "" || r.Status != approvals.Pending {
			break
		}
		if !approvals.Pause(ctx, pause) {
			return r
		}
		now, err := client.Get(ctx, r.ID)
		if err != nil {
			return r
		}
		r = now
	}
	c.sayCard(r)
	return r
}

// requestFlags are the flags of a new request.
type requestFlags struct {
	body     webhook.CreateBody
	metadata string
	wait     bool
	waiting  waitFlags
	out      cli.Format
}

func (c *program) requestCommand() *cobra.Command {
	var flags requestFlags
	cmd := &cobra.Command{
		Use:   "request --app APP",
		Short: "File a deploy approval request and print its id",
		Long: `File a deploy approval request for this workflow and print its id.

In a CircleCI job the commit, branch, tag, workflow id and job id come from the
CIRCLE_* variables when they are not given. Elsewhere give --git-commit and
--ci-metadata '{"workflow_id":"…"}'. Filing the same request again is safe: it
prints the id of the existing one.

The link to the card in Slack follows on stderr.

` + untilHelp + "\n\n" + exitHelp,
		Example: `  rack-gateway deploy-approval request --app myapp --message "Deploy main"
  rack-gateway deploy-approval request --app myapp --environment production --wait
  rack-gateway deploy-approval request --app myapp --git-commit 1a2b3c4 --ci-metadata '{"workflow_id":"…"}'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.request(cmd.Context(), flags) },
	}
	flags.add(cmd)
	return cmd
}

func (r *requestFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&r.body.App, "app", "a", "", "name of the app")
	f.StringVarP(&r.body.Environment, "environment", "e", "", "environment to deploy to (RACK_GATEWAY_ENV)")
	f.StringVar(&r.body.GitCommit, "git-commit", "", "commit to deploy, 7 to 40 hex digits (CIRCLE_SHA1)")
	f.StringVar(&r.body.Branch, "branch", "", "branch of the pipeline (CIRCLE_BRANCH)")
	f.StringVar(&r.body.Tag, "tag", "", "tag of the pipeline (CIRCLE_TAG)")
	f.StringVarP(&r.body.Message, "message", "m", "", "what is deployed, for the approvers, up to 2,000 characters (more is cut)")
	f.StringVar(&r.metadata, "ci-metadata", "", `JSON object with "workflow_id" (CIRCLE_WORKFLOW_ID), "pipeline_number" and anything else`)
	f.BoolVar(&r.wait, "wait", false, "wait for the decision")
	r.waiting.add(cmd)
	cli.FormatFlag(cmd, &r.out)
	cli.Required(cmd, "app")
}

// request files a request, prints its id at once, and then waits for what was asked
// for.
func (c *program) request(ctx context.Context, flags requestFlags) error {
	body, err := c.createBody(flags)
	if err != nil {
		return err
	}
	client, err := c.connect()
	if err != nil {
		return err
	}
	r, created, err := client.Create(ctx, body)
	if err != nil {
		return failed(err)
	}
	if created {
		c.Say("Deploy approval request %s created (status: %s)", r.ID, r.Status)
	} else {
		c.Say("Deploy approval request %s already exists for this workflow (status: %s)", r.ID, r.Status)
	}
	if r.Pipeline.URL != "" {
		c.Say("Pipeline: %s", r.Pipeline.URL)
	}
	if flags.out == cli.Text {
		if err := c.Println(r.ID); err != nil {
			return err
		}
	}
	var ended error
	if flags.wait {
		r, ended = c.await(ctx, client, r, flags.waiting)
	} else {
		r = c.awaitCard(ctx, client, r)
	}
	if flags.out == cli.JSON {
		if err := c.JSON(r); err != nil {
			return err
		}
	}
	return ended
}

// createBody completes the flags from the variables of the job.
func (c *program) createBody(flags requestFlags) (body webhook.CreateBody, err error) {
	body = flags.body
	if body.Environment, err = c.environment(body.Environment); err != nil {
		return body, err
	}
	if body.GitCommit = c.given(body.GitCommit, ciCommit); body.GitCommit == "" {
		return body, cli.Usage("the commit is not known: give --git-commit, or run in a CircleCI job")
	}
	body.Branch, body.Tag = c.ref(body.Branch, body.Tag)
	body.Message = present(body.Message)
	if n := utf8.RuneCountInString(body.Message); n > maxMessage {
		body.Message = plain.Cut(body.Message, maxMessage)
		c.Say("The message has %d characters; it is cut to %d.", n, maxMessage)
	}
	body.Metadata, err = c.metadata(flags.metadata)
	return body, err
}
