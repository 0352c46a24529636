package gatewayd

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/audit"
	"github.com/rack-gateway/rack-gateway-approvals/bot"
	"github.com/rack-gateway/rack-gateway-approvals/circleci"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/rack-gatewayd/reportpage"
)

func (c *program) auditReport() *cobra.Command {
	var from, to, app, file string
	var skip bool
	cmd := &cobra.Command{
		Use: "report [--from DAY] [--to DAY] [--app A] -o FILE.html", Short: "Write a page for people: totals, plots, exceptions, all requests", Args: cobra.NoArgs,
		Example: `  rack-gatewayd audit report --from 2026-07-01 --to 2026-09-30 -o third-quarter.html
  rack-gatewayd audit report --app myapp -o myapp.html`,
		Long: `Write one HTML page that stands alone: who approved what, when, with what factor,
whether it was their own deploy, what became of it, and what was out of the
ordinary. It has no scripts and loads nothing. It rests on a signed checkpoint,
which it shows.

--from and --to are days in UTC, both included; without them the page covers the
whole log. With the settings and CIRCLECI_TOKEN it also says what "audit reconcile"
finds in the period; --skip-circleci leaves that out, because it takes a while.
Reading is recorded. Exit 1: the page is written, but the comparison with CircleCI
failed or is not complete, as the page says.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			x, err := audit.ParseReport(from, to, app)
			if err != nil {
				return ofFlag(err)
			}
			return c.withAuditor(cmd.Context(), func(a auditor) error {
				missing, err := c.compare(cmd.Context(), a, &x, skip)
				if err != nil {
					return err
				}
				read, err := a.Report(cmd.Context(), x)
				if err != nil {
					return err
				}
				var page bytes.Buffer
				if err := reportpage.Write(&page, read); err != nil {
					return err
				}
				if err := replaceFile(file, page.Bytes()); err != nil {
					return fmt.Errorf("write the report: %w", err)
				}
				c.Say("The report of %d events is in %s.", read.Checkpoint.Size, file)
				return missing
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&from, "from", "", "first day, UTC (default: that of the first event)")
	f.StringVar(&to, "to", "", "last day, UTC (default: today)")
	c.appFlag(cmd, &app, "only this app")
	f.StringVarP(&file, "output", "o", "", "file for the page")
	f.BoolVar(&skip, "skip-circleci", false, "do not compare with CircleCI")
	cli.Required(cmd, "output")
	return cmd
}

// compare fills in what CircleCI says of the period, or why that is not known.
// missing says what is missing from it.
func (c *program) compare(ctx context.Context, a auditor, x *audit.Report, skip bool) (missing, err error) {
	var f faults
	v := readVariables(c.env, &f)
	x.PipelineURL, x.CommitURL = circleci.Links{AppURL: v.CircleAppURL}.PipelineURL, bot.CommitURL
	switch {
	case skip:
		x.NotCompared = "it was left out (--skip-circleci)."
		return nil, nil
	case v.CircleToken.reveal() == "":
		x.NotCompared = "CIRCLECI_TOKEN was not set."
		return nil, nil
	}
	run, _, err := c.reconciliation()
	if err != nil {
		return nil, err
	}
	if run.Lookback, err = approvals.ParseLife(defaultLookback); err != nil {
		return nil, err
	}
	run.Store, run.App, run.From, run.To = a.Store, x.App, x.From, x.To
	if run.From.IsZero() {
		if run.From, err = a.Begun(ctx); err != nil {
			return nil, err
		}
	}
	if run.To.IsZero() {
		run.To = time.Now()
	}
	x.Compared, err = run.Run(ctx)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		x.NotCompared = err.Error()
		return fmt.Errorf("the comparison with CircleCI failed: %w", err), nil
	}
	return incomplete("comparison", x.Compared), nil
}
