package gateway

import (
	"github.com/spf13/cobra"

	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
)

func (c *cli) requestCommand() *cobra.Command {
	var body webhook.CreateBody
	var metadata string
	var wait bool
	var waiting waitFlags
	out := outputFlag()
	cmd := &cobra.Command{
		Use:   "request --app APP",
		Short: "File a deploy approval request and print its id",
		Long: `File a deploy approval request for this workflow and print its id.

In a CircleCI job the commit, branch, tag, workflow id and job id come from the
CIRCLE_* variables when they are not given. Elsewhere give --git-commit and
--ci-metadata '{"workflow_id":"…"}'. Filing the same request again is safe: it
prints the id of the one that stands.

` + untilHelp,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if body.App == "" {
				return usage("--app is missing")
			}
			body.Environment = c.given(body.Environment, envEnvironment)
			if body.GitCommit = c.given(body.GitCommit, ciCommit); body.GitCommit == "" {
				return usage("the commit is not known: give --git-commit, or run in a CircleCI job")
			}
			body.Branch, body.Tag = c.ref(body.Branch, body.Tag)
			body.Message = present(body.Message)
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
				c.say("Deploy approval request %s created (status: %s)", r.ID, r.Status)
			} else {
				c.say("Deploy approval request %s already exists for this workflow (status: %s)", r.ID, r.Status)
			}
			if r.Pipeline.URL != "" {
				c.say("Pipeline: %s", r.Pipeline.URL)
			}
			if out.value == outputText {
				if err := c.print(clean(r.ID) + "\n"); err != nil {
					return err
				}
			}
			var ended error
			if wait {
				r, ended = c.await(cmd.Context(), client, r, waiting)
			}
			if out.value == outputJSON {
				if err := c.printJSON(r); err != nil {
					return err
				}
			}
			return ended
		},
	}
	f := cmd.Flags()
	f.StringVarP(&body.App, "app", "a", "", "name of the app (required)")
	f.StringVarP(&body.Environment, "environment", "e", "", "environment to deploy to (RACK_GATEWAY_ENV)")
	f.StringVar(&body.GitCommit, "git-commit", "", "commit to deploy, 7 to 40 hex digits (CIRCLE_SHA1)")
	f.StringVar(&body.Branch, "branch", "", "branch of the pipeline (CIRCLE_BRANCH)")
	f.StringVar(&body.Tag, "tag", "", "tag of the pipeline (CIRCLE_TAG)")
	f.StringVarP(&body.Message, "message", "m", "", "what is deployed, for the approvers, up to 2,000 characters")
	f.StringVar(&metadata, "ci-metadata", "", `JSON object with "workflow_id" (CIRCLE_WORKFLOW_ID), "pipeline_number" and anything else`)
	f.BoolVar(&wait, "wait", false, "wait for the decision")
	waiting.add(f)
	out.add(f)
	return cmd
}
