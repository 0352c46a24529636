package gateway

import (
	"context"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
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
		select {
		case <-ctx.Done():
			return r
		case <-time.After(pause):
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

func (c *program) requestCommand() *cobra.Command {
	var body webhook.CreateBody
	var metadata string
	var wait bool
	var waiting waitFlags
	var out cli.Format
	cmd := &cobra.Command{
		Use:   "request --app APP",
		Short: "File a deploy approval request and print its id",
		Long: `File a deploy approval request for this workflow and print its id.

In a CircleCI job the commit, branch, tag, workflow id and job id come from the
CIRCLE_* variables when they are not given. Elsewhere give --git-commit and
--ci-metadata '{"workflow_id":"…"}'. Filing the same request again is safe: it
prints the id of the one that stands.

The link to the card in Slack follows on stderr.

` + untilHelp + "\n\n" + exitHelp,
		Example: `  rack-gateway deploy-approval request --app myapp --message "Deploy main"
  rack-gateway deploy-approval request --app myapp --environment production --wait
  rack-gateway deploy-approval request --app myapp --git-commit 1a2b3c4 --ci-metadata '{"workflow_id":"…"}'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			body.Environment = c.given(body.Environment, envEnvironment)
			if body.GitCommit = c.given(body.GitCommit, ciCommit); body.GitCommit == "" {
				return cli.Usage("the commit is not known: give --git-commit, or run in a CircleCI job")
			}
			body.Branch, body.Tag = c.ref(body.Branch, body.Tag)
			body.Message = present(body.Message)
			if n := utf8.RuneCountInString(body.Message); n > maxMessage {
				body.Message = cli.Cut(body.Message, maxMessage)
				c.Say("The message has %d characters; it is cut to %d.", n, maxMessage)
			}
			var err error
			if body.Metadata, err = c.metadata(metadata); err != nil {
				return err
			}
			client, err := c.connect()
			if err != nil {
				return err
			}
			r, created, err := client.Create(cmd.Context(), body)
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
			if out == cli.Text {
				if err := c.Println(r.ID); err != nil {
					return err
				}
			}
			var ended error
			if wait {
				r, ended = c.await(cmd.Context(), client, r, waiting)
			} else {
				r = c.awaitCard(cmd.Context(), client, r)
			}
			if out == cli.JSON {
				if err := c.JSON(r); err != nil {
					return err
				}
			}
			return ended
		},
	}
	f := cmd.Flags()
	f.StringVarP(&body.App, "app", "a", "", "name of the app")
	cli.Required(cmd, "app")
	f.StringVarP(&body.Environment, "environment", "e", "", "environment to deploy to (RACK_GATEWAY_ENV)")
	f.StringVar(&body.GitCommit, "git-commit", "", "commit to deploy, 7 to 40 hex digits (CIRCLE_SHA1)")
	f.StringVar(&body.Branch, "branch", "", "branch of the pipeline (CIRCLE_BRANCH)")
	f.StringVar(&body.Tag, "tag", "", "tag of the pipeline (CIRCLE_TAG)")
	f.StringVarP(&body.Message, "message", "m", "", "what is deployed, for the approvers, up to 2,000 characters (more is cut)")
	f.StringVar(&metadata, "ci-metadata", "", `JSON object with "workflow_id" (CIRCLE_WORKFLOW_ID), "pipeline_number" and anything else`)
	f.BoolVar(&wait, "wait", false, "wait for the decision")
	waiting.add(cmd)
	cli.FormatFlag(cmd, &out)
	return cmd
}
