package gateway

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/plain"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli"
)

func (c *program) showCommand() *cobra.Command {
	var which target
	var out cli.Format
	cmd := &cobra.Command{
		Use:   "show [ID | --app APP]",
		Short: "Show a request",
		Long:  "Show a request, by id or number, or this workflow's request for an app.",
		Example: `  rack-gateway deploy-approval show '#12'
  rack-gateway deploy-approval show --app myapp -o json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, r, err := c.find(cmd.Context(), which, args)
			if err != nil {
				return err
			}
			return c.Show(out, cli.Result{JSON: r, Text: describe(r)})
		},
	}
	which.add(cmd.Flags())
	cli.FormatFlag(cmd, &out)
	return cmd
}

// describe lists what people want to know of a request, one line each.
func describe(r webhook.Request) string {
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-13s%s\n", name+":", cli.Clean(value))
		}
	}
	line("Request", fmt.Sprintf("%s (#%d)", r.ID, r.Number))
	line("Status", string(r.Status))
	line("App", r.App)
	line("Environment", r.Environment)
	line("Commit", r.GitCommit)
	line("Branch", string(r.Branch))
	line("Tag", string(r.Tag))
	line("Message", string(r.Message))
	line("Asked by", strings.TrimSpace(r.Requester.Token+" "+parenthesised(string(r.Requester.Actor))))
	line("Pipeline", strings.TrimSpace(fmt.Sprintf("%d %s", r.Pipeline.Number, r.Pipeline.WorkflowURL)))
	line("Gate", strings.TrimSpace(r.Gate.JobName+" "+parenthesised(string(r.Gate.Status))))
	line("Card", string(r.Slack.Permalink))
	for _, d := range r.Decisions {
		line("Decision", strings.TrimSpace(fmt.Sprintf("%s by %s at %s %s", d.Action, d.Name, clock(d.At), d.Reason)))
	}
	line("Created", clock(r.CreatedAt))
	line("Expires", clock(r.ExpiresAt))
	if r.ApprovedAt != nil {
		line("Approved", clock(r.ApprovedAt)+", usable until "+clock(r.ApprovalExpiresAt))
	}
	if r.ReleasedAt != nil {
		line("Released", clock(r.ReleasedAt))
	}
	if r.ClosedAt != nil {
		line("Closed", clock(r.ClosedAt))
	}
	line("Deploy", strings.TrimSpace(string(r.Deploy.Phase)+" "+string(r.Deploy.Detail)))
	line("Failure", strings.TrimSpace(string(r.Failure.Code)+" "+string(r.Failure.Detail)))
	return b.String()
}

func parenthesised(s string) string {
	if s == "" {
		return ""
	}
	return "(" + s + ")"
}

func (c *program) listCommand() *cobra.Command {
	var query webhook.ListQuery
	var out cli.Format
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List requests, newest first",
		Long:  "List requests, newest first: of all apps of the token and all environments\nunless told otherwise.",
		Example: `  rack-gateway deploy-approval list --app myapp --status open
  rack-gateway deploy-approval list --limit 200 -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if query.Limit < 1 || query.Limit > 200 {
				return cli.Usage("--limit must be from 1 to 200")
			}
			client, err := c.connect()
			if err != nil {
				return err
			}
			page, err := client.List(cmd.Context(), query)
			if err != nil {
				return failed(err)
			}
			if page.NextCursor != "" {
				c.Say("There are older requests: see --limit.")
			}
			return c.Show(out, cli.Result{JSON: page, Tables: [][][]string{table(page.Requests)}})
		},
	}
	f := cmd.Flags()
	f.StringVarP(&query.App, "app", "a", "", "only this app")
	f.StringVarP(&query.Environment, "environment", "e", "", "only this environment")
	statuses := []string{"open", "closed"}
	for _, s := range approvals.Statuses() {
		statuses = append(statuses, string(s))
	}
	cli.Choice(cmd, &query.Status, "status", "s", "only this status", statuses...)
	f.IntVarP(&query.Limit, "limit", "l", 50, "how many, 1 to 200")
	cli.FormatFlag(cmd, &out)
	return cmd
}

func table(requests []webhook.Request) [][]string {
	rows := [][]string{{"NUMBER", "STATUS", "APP", "ENVIRONMENT", "COMMIT", "REF", "CREATED", "ID"}}
	for _, r := range requests {
		ref := string(r.Branch)
		if r.Tag != "" {
			ref = "tag " + string(r.Tag)
		}
		rows = append(rows, []string{
			strconv.FormatInt(r.Number, 10), string(r.Status), r.App, r.Environment, r.GitCommit[:min(7, len(r.GitCommit))], plain.Cut(ref, 40), clock(r.CreatedAt), r.ID,
		})
	}
	return rows
}

func clock(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

func (c *program) cancelCommand() *cobra.Command {
	var reason string
	var out cli.Format
	cmd := &cobra.Command{
		Use:     "cancel ID --reason REASON",
		Short:   "Withdraw a request",
		Long:    "Withdraw a request, by id or number, that is pending or approved.",
		Example: `  rack-gateway deploy-approval cancel '#12' --reason "wrong branch"`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := identifier(args[0])
			if err != nil {
				return err
			}
			client, err := c.connect()
			if err != nil {
				return err
			}
			r, err := client.Cancel(cmd.Context(), id, reason)
			if err != nil {
				return failed(err)
			}
			c.Say("Deploy approval request %s withdrawn (status: %s)", r.ID, r.Status)
			return c.Show(out, cli.Result{JSON: r, Text: cli.Clean(string(r.Status)) + "\n"})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the approvers, up to 500 characters")
	cli.Required(cmd, "reason")
	cli.FormatFlag(cmd, &out)
	return cmd
}
