package gateway

import (
	"context"
	"regexp"

	"github.com/spf13/cobra"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli"
)

var commitPattern = regexp.MustCompile(`^[0-9a-fA-F]{7,40}$`)

// verifyFlags name what is about to be deployed.
type verifyFlags struct {
	app, environment, commit, workflow string
	receipt                            string // a file; "" = none
}

func (v *verifyFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&v.app, "app", "a", "", "name of the app")
	cli.Required(cmd, "app")
	f.StringVarP(&v.environment, "environment", "e", "", "environment to deploy to (RACK_GATEWAY_ENV)")
	f.StringVar(&v.commit, "git-commit", "", "commit to deploy (CIRCLE_SHA1)")
	f.StringVar(&v.workflow, "workflow-id", "", "workflow that deploys (CIRCLE_WORKFLOW_ID)")
	f.StringVar(&v.receipt, "receipt", "", "file to keep the receipt in (mode 0600)")
}

// verify fails unless this workflow and commit is approved. It keeps the receipt
// where that was asked for.
func (c *program) verify(ctx context.Context, v verifyFlags) (*webhook.Client, webhook.Verified, error) {
	none := webhook.Verified{}
	environment, err := c.environment(v.environment)
	if err != nil {
		return nil, none, err
	}
	body := webhook.VerifyBody{
		App: v.app, Environment: environment,
		GitCommit: c.given(v.commit, ciCommit), WorkflowID: c.given(v.workflow, ciWorkflow),
	}
	switch {
	case body.GitCommit == "":
		return nil, none, cli.Usage("the commit is not known: give --git-commit, or run in a CircleCI job")
	case !commitPattern.MatchString(body.GitCommit):
		return nil, none, cli.Usage("the commit must be 7 to 40 hex digits")
	case body.WorkflowID == "":
		return nil, none, cli.Usage("the workflow is not known: give --workflow-id, or run in a CircleCI job")
	}
	client, err := c.connect()
	if err != nil {
		return nil, none, err
	}
	verified, err := client.Verify(ctx, body)
	if err != nil {
		return nil, none, c.refused(ctx, client, body, err)
	}
	r := verified.Request
	place := ""
	if r.Environment != approvals.DefaultEnvironment {
		place = " to " + r.Environment
	}
	c.Say("Deploy approval request %s: %s may be deployed%s (status: %s, until %s)", r.ID, r.GitCommit, place, r.Status, clock(r.ApprovalExpiresAt))
	if v.receipt != "" {
		if err := keepReceipt(v.receipt, verified.Receipt); err != nil {
			return nil, none, err
		}
	}
	return client, verified, nil
}

func (c *program) verifyCommand() *cobra.Command {
	var flags verifyFlags
	var out cli.Format
	cmd := &cobra.Command{
		Use:   "verify --app APP",
		Short: "Fail unless this workflow and commit is approved; print the receipt",
		Long: `Fail unless this workflow and commit is approved and inside its window, and
print the receipt as JSON: the decision's entry in the audit log, the proof that
it is in there, and a signed checkpoint. With -o json the request comes along.

The answer counts only if it is the gateway's and names this app, environment,
workflow and commit, a passing status, a window that is not over, and a receipt.`,
		Example: `  rack-gateway deploy-approval verify --app myapp
  rack-gateway deploy-approval verify --app myapp --environment production --receipt receipt.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, verified, err := c.verify(cmd.Context(), flags)
			if err != nil {
				return err
			}
			if out == cli.JSON {
				return c.JSON(verified)
			}
			return c.JSON(verified.Receipt)
		},
	}
	flags.add(cmd)
	cli.FormatFlag(cmd, &out)
	return cmd
}
