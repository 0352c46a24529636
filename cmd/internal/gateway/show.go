package gateway

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
)

// The forms of a result.
const (
	outputText = "text"
	outputJSON = "json"
)

type output struct{ choiceFlag }

func outputFlag() *output {
	return &output{choiceFlag{value: outputText, choices: []string{outputText, outputJSON}}}
}

func (o *output) add(f *pflag.FlagSet) { f.VarP(o, "output", "o", "form of the result") }

// show prints a request as text or as JSON. The text is lines of our own.
func (c *cli) show(r webhook.Request, out *output, text string) error {
	if out.value == outputJSON {
		return c.printJSON(r)
	}
	return c.print(text)
}

func (c *cli) showCommand() *cobra.Command {
	var which target
	out := outputFlag()
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
			return c.show(r, out, describe(r))
		},
	}
	which.add(cmd.Flags())
	out.add(cmd.Flags())
	return cmd
}

// describe lists what people want to know of a request, one line each.
func describe(r webhook.Request) string {
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-13s%s\n", name+":", clean(value))
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

func (c *cli) listCommand() *cobra.Command {
	var query webhook.ListQuery
	out := outputFlag()
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List requests, newest first",
		Long:  "List requests, newest first: of all apps of the token and all environments\nunless told otherwise.",
		Example: `  rack-gateway deploy-approval list --app myapp --status open
  rack-gateway deploy-approval list --limit 200 -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if query.Limit < 1 || query.Limit > 200 {
				return usage("--limit must be from 1 to 200")
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
				c.say("There are older requests: see --limit.")
			}
			if out.value == outputJSON {
				return c.printJSON(page)
			}
			return c.print(table(page.Requests))
		},
	}
	f := cmd.Flags()
	f.StringVarP(&query.App, "app", "a", "", "only this app")
	f.StringVarP(&query.Environment, "environment", "e", "", "only this environment")
	f.StringVarP(&query.Status, "status", "s", "", "only this status; also open, closed")
	f.IntVarP(&query.Limit, "limit", "l", 50, "how many, 1 to 200")
	out.add(f)
	statuses := []string{"open", "closed"}
	for _, s := range approvals.Statuses() {
		statuses = append(statuses, string(s))
	}
	// It fails only for a flag that does not exist.
	_ = cmd.RegisterFlagCompletionFunc("status", cobra.FixedCompletions(statuses, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func table(requests []webhook.Request) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NUMBER\tSTATUS\tAPP\tENVIRONMENT\tCOMMIT\tREF\tCREATED\tID")
	for _, r := range requests {
		ref := string(r.Branch)
		if r.Tag != "" {
			ref = "tag " + string(r.Tag)
		}
		commit := r.GitCommit[:min(7, len(r.GitCommit))]
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Number, clean(string(r.Status)), clean(r.App), clean(r.Environment),
			clean(commit), clean(cut(ref, 40)), clock(r.CreatedAt), clean(r.ID))
	}
	w.Flush() // into memory
	return b.String()
}

func (c *cli) cancelCommand() *cobra.Command {
	var reason string
	out := outputFlag()
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
			if strings.TrimSpace(reason) == "" {
				return usage("--reason is missing")
			}
			client, err := c.connect()
			if err != nil {
				return err
			}
			r, err := client.Cancel(cmd.Context(), id, reason)
			if err != nil {
				return failed(err)
			}
			c.say("Deploy approval request %s withdrawn (status: %s)", r.ID, r.Status)
			return c.show(r, out, clean(string(r.Status))+"\n")
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the approvers, up to 500 characters (required)")
	out.add(cmd.Flags())
	return cmd
}
