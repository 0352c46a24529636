package gatewayd

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot"
	"github.com/rack-gateway/rack-gateway-approvals/circleci"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli"
	"github.com/rack-gateway/rack-gateway-approvals/store"
)

func (c *program) explainCommand() *cobra.Command {
	var app, environment, workflow string
	var output cli.Format
	cmd := &cobra.Command{
		Use: "explain --app APP [--environment ENV] --workflow ID", Short: "Show every check of a workflow, and who could approve it now", Args: cobra.NoArgs,
		Example: "  rack-gatewayd explain --app myapp --environment production --workflow 5034460f-c7c4-4c43-9457-de07e2029e7b",
		Long: `Make every check that a request for this workflow and a decision on it have to
pass, each with yes, no or unknown, and list who could approve now and what the
others would be told. Nothing is changed or posted, and Slack is not asked: what it
says about people is what the daemon read last. With GITHUB_TOKEN it also asks GitHub
for the commits, the pull request and the CI configuration in the commit, for 5 seconds
at the most.

Needs the settings and CIRCLECI_TOKEN besides database and keys.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.explainWorkflow(cmd.Context(), app, environment, workflow, output)
		},
	}
	c.placeFlags(cmd, &app, &environment)
	cmd.Flags().StringVar(&workflow, "workflow", "", "id of the workflow in CircleCI")
	cli.Required(cmd, "workflow")
	cli.FormatFlag(cmd, &output)
	return cmd
}

func (c *program) explainWorkflow(ctx context.Context, app, environment, workflow string, output cli.Format) error {
	cfg, err := reconcileConfig(c.env, "GITHUB_TOKEN", "GITHUB_API_URL")
	if err != nil {
		return err
	}
	if _, err := lookup(cfg.settings, app, environment); err != nil {
		return err
	}
	client, err := circleci.New(cfg.circle())
	if err != nil {
		return err
	}
	code, err := cfg.codeHost()
	if err != nil {
		return err
	}
	return c.withStore(ctx, func(db *store.DB) error {
		fault, err := logFault(ctx, cfg.AnchorFile, db)
		if err != nil {
			return err
		}
		s := approvals.New(approvals.Config{Store: db, CI: client, Code: code, Settings: cfg.settings, Rolled: fault, Offline: true})
		x, err := s.Explain(ctx, app, environment, workflow)
		if err != nil {
			return err
		}
		return c.Show(output, explained(x, time.Now()))
	})
}

// explained is an explanation as it is shown.
func explained(x approvals.Explanation, now time.Time) cli.Result {
	type check struct {
		Check  string           `json:"check"`
		Answer approvals.Answer `json:"answer"`
		Detail string           `json:"detail"`
	}
	type judged struct {
		SlackID    string `json:"slack_id"`
		Name       string `json:"name"`
		Approve    bool   `json:"approve"`
		Reject     bool   `json:"reject"`
		BreakGlass bool   `json:"break_glass"`
		Told       string `json:"told"` // who may not approve would be told this
	}
	checks, people := []check{}, []judged{}
	tables := [][][]string{{{"ANSWER", "CHECK", "DETAIL"}}, {{"PERSON", "NAME", "APPROVE", "REJECT", "EMERGENCY", "WOULD BE TOLD"}}}
	for _, f := range x.Findings {
		checks = append(checks, check{f.Check, f.Answer, f.Detail})
		tables[0] = append(tables[0], []string{string(f.Answer), f.Check, f.Detail})
	}
	word := map[bool]string{true: "yes", false: "no"}
	for _, p := range x.People {
		j := judged{SlackID: p.SlackID, Name: p.Name, Approve: p.Approve == nil, Reject: p.Reject == nil, BreakGlass: p.BreakGlass == nil}
		if p.Approve != nil {
			j.Told = bot.Refusal(p.Approve, p.SlackID, approvals.ActionApprove, now)
		}
		people = append(people, j)
		tables[1] = append(tables[1], []string{j.SlackID, j.Name, word[j.Approve], word[j.Reject], word[j.BreakGlass], j.Told})
	}
	if len(people) == 0 {
		tables = tables[:1]
	}
	return cli.Result{
		JSON: struct {
			Checks []check  `json:"checks"`
			People []judged `json:"people"`
		}{checks, people},
		Tables: tables,
	}
}
