package gateway

import (
	"context"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
)

// verifyFlags name what is about to be deployed.
type verifyFlags struct {
	app, environment, commit, workflow string
}

func (v *verifyFlags) add(f *pflag.FlagSet) {
	f.StringVarP(&v.app, "app", "a", "", "name of the app (required)")
	f.StringVarP(&v.environment, "environment", "e", "", "environment to deploy to (RACK_GATEWAY_ENV)")
	f.StringVar(&v.commit, "git-commit", "", "commit to deploy (CIRCLE_SHA1)")
	f.StringVar(&v.workflow, "workflow-id", "", "workflow that deploys (CIRCLE_WORKFLOW_ID)")
}

// verify fails unless this workflow and commit is approved.
func (c *cli) verify(ctx context.Context, v verifyFlags) (*webhook.Client, webhook.Verified, error) {
	none := webhook.Verified{}
	body := webhook.VerifyBody{
		App: v.app, Environment: c.given(v.environment, envEnvironment),
		GitCommit: c.given(v.commit, ciCommit), WorkflowID: c.given(v.workflow, ciWorkflow),
	}
	switch {
	case body.App == "":
		return nil, none, usage("--app is missing")
	case body.GitCommit == "":
		return nil, none, usage("the commit is not known: give --git-commit, or run in a CircleCI job")
	case body.WorkflowID == "":
		return nil, none, usage("the workflow is not known: give --workflow-id, or run in a CircleCI job")
	}
	client, err := c.connect()
	if err != nil {
		return nil, none, err
	}
	verified, err := client.Verify(ctx, body)
	if err != nil {
		return nil, none, failed(err)
	}
	r := verified.Request
	c.say("Deploy approval request %s: %s may be deployed to %s (status: %s, until %s)", r.ID, r.GitCommit, r.Environment, r.Status, clock(r.ApprovalExpiresAt))
	return client, verified, nil
}

func (c *cli) verifyCommand() *cobra.Command {
	var flags verifyFlags
	out := outputFlag()
	cmd := &cobra.Command{
		Use:   "verify --app APP",
		Short: "Fail unless this workflow and commit is approved; print the receipt",
		Long: `Fail unless this workflow and commit is approved and inside its window, and
print the receipt as JSON: the decision's entry in the audit log, the proof that
it is in there, and a signed checkpoint. With -o json the request comes along.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, verified, err := c.verify(cmd.Context(), flags)
			if err != nil {
				return err
			}
			if out.value == outputJSON {
				return c.printJSON(verified)
			}
			return c.printJSON(verified.Receipt)
		},
	}
	flags.add(cmd.Flags())
	out.add(cmd.Flags())
	return cmd
}
