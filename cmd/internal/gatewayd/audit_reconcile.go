package gatewayd

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/audit"
	"github.com/rack-gateway/rack-gateway-approvals/circleci"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli"
	"github.com/rack-gateway/rack-gateway-approvals/store"
)

func (c *program) auditReconcile() *cobra.Command {
	var x reconcileFlags
	cmd := &cobra.Command{
		Use: "reconcile --from T [--to T] [--app A]", Short: "List the gates in CircleCI that were not approved here or have no request", Args: cobra.NoArgs,
		Example: `  rack-gatewayd audit reconcile --from 2026-07-01 --to 2026-09-30
  rack-gatewayd audit reconcile --from 2026-07-01 --app myapp -o csv > gates.csv`,
		Long: `Ask CircleCI for every workflow that ran in the period and compare each approval
job that the settings name with the log. Listed are:

  no_request         no request was made here for it, approved or not
  not_approved_here  it was approved, and the log has no approval for that
  not_open           the log says that it was released; in CircleCI it is not open
  unreadable         CircleCI did not tell who opened a gate, or which gates there
                     are: of a workflow, of all workflows of a pipeline, or of
                     pipelines of a project

Needs the settings and CIRCLECI_TOKEN besides database and keys. Times are dates
(UTC; as --to the whole day) or RFC 3339. A workflow may be run again, and a gate
wait, long after its pipeline was made: --lookback says how far back to look.
Findings are no fault: the exit code is 0. It is 1 when the list is not complete,
that is, when it has a line unreadable.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.reconcile(cmd.Context(), x) },
	}
	f := cmd.Flags()
	f.StringVar(&x.from, "from", "", "start of the period")
	f.StringVar(&x.to, "to", "", "end of the period (default: now)")
	c.appFlag(cmd, &x.app, "only this app")
	f.StringVar(&x.lookback, "lookback", defaultLookback, "how long before the period to look for pipelines, too; 0 = only in it")
	f.BoolVar(&x.all, "all", false, "list the gates that are as they should be, too")
	cli.FormatFlag(cmd, &x.output, cli.CSV)
	cli.Required(cmd, "from")
	return cmd
}

// reconcileFlags are the flags of audit reconcile.
type reconcileFlags struct {
	from, to, app, lookback string
	output                  cli.Format
	all                     bool
}

func (c *program) reconcile(ctx context.Context, x reconcileFlags) error {
	start, end, err := audit.ParsePeriod(x.from, x.to)
	if err != nil {
		return ofFlag(err)
	}
	if end.IsZero() {
		end = time.Now()
	}
	var back time.Duration
	if x.lookback != "0" {
		if back, err = approvals.ParseLife(x.lookback); err != nil {
			return cli.Usage("--lookback %w", err)
		}
	}
	run, links, err := c.reconciliation()
	if err != nil {
		return err
	}
	run.App, run.From, run.To, run.Lookback = x.app, start, end, back
	return c.withStore(ctx, func(db *store.DB) error {
		run.Store = db
		found, err := run.Run(ctx)
		if err != nil {
			return err
		}
		return c.printGates(x.output, found, x.all, links)
	})
}

// defaultLookback is the most that a gate can wait in CircleCI.
const defaultLookback = "90d"

// reconciliation is a comparison with CircleCI that lacks a store and a period.
func (c *program) reconciliation() (audit.Reconciliation, circleci.Links, error) {
	cfg, err := reconcileConfig(c.env)
	if err != nil {
		return audit.Reconciliation{}, circleci.Links{}, err
	}
	client, err := circleci.New(cfg.circle())
	if err != nil {
		return audit.Reconciliation{}, circleci.Links{}, err
	}
	return audit.Reconciliation{
		CI: client, Settings: cfg.settings,
		Told: func(project string, n int) { c.Say("%s: reading %d pipelines …", project, n) },
	}, client.Links(), nil
}

// reconcileConfig reads what it takes to ask CircleCI for the gates of the
// settings.
func reconcileConfig(env []string, more ...string) (config, error) {
	var f faults
	c := config{variables: readVariables(env, &f)}
	c.checkStore(&f)
	c.checkCI(&f)
	f = onlyAbout(f, append(more, "RGW_DATABASE_URL", "RGW_SECRET_KEYS", "CIRCLECI_TOKEN", "CIRCLECI_URL", "CIRCLECI_APP_URL")...)
	var bad []string
	c.settings, bad = approvals.ParseSettings(env, c.SlackChannel)
	f = append(f, bad...)
	if len(bad) == 0 && len(c.settings.Apps()) == 0 {
		f.add("RGW_APP_<APP>_SETTING_<KEY>", "no app is configured: an app needs at least VCS_REPO and CIRCLECI_APPROVAL_JOB_NAME")
	}
	return c, f.err()
}

// gateView is a gate as it is shown.
type gateView struct {
	Finding       audit.Finding    `json:"finding"` // empty = as it should be
	App           string           `json:"app"`
	Environment   string           `json:"environment"`
	Gate          string           `json:"gate"`
	GateStatus    string           `json:"gate_status"`
	ApprovedBy    string           `json:"circleci_approver"`
	Request       int64            `json:"request,omitempty"`
	RequestStatus approvals.Status `json:"request_status,omitempty"`
	Project       string           `json:"project"`
	Pipeline      int64            `json:"pipeline"`
	WorkflowID    string           `json:"workflow_id"`
	CreatedAt     *time.Time       `json:"created_at"` // of the workflow; null of what is unreadable
	URL           string           `json:"url"`
	Detail        string           `json:"detail,omitempty"` // why it is unreadable
}

// printGates lists the holes first: nobody takes what follows for complete.
func (c *program) printGates(output cli.Format, found *audit.Comparison, all bool, links circleci.Links) error {
	views, wrong := []gateView{}, 0
	for _, h := range found.Holes {
		v := gateView{Finding: audit.FindingUnreadable, Project: h.Project, Pipeline: h.PipelineNumber, WorkflowID: h.WorkflowID, Detail: h.Why}
		switch {
		case v.WorkflowID != "":
			v.URL = links.WorkflowURL(v.Project, v.Pipeline, v.WorkflowID)
		case v.Pipeline > 0:
			v.URL = links.PipelineURL(v.Project, v.Pipeline)
		}
		views = append(views, v)
	}
	for _, g := range found.Gates {
		if g.Finding != audit.FindingNone {
			wrong++
		} else if !all {
			continue
		}
		v := gateView{
			Finding: g.Finding, App: g.App, Environment: g.Environment, Gate: g.Gate, GateStatus: g.Status, ApprovedBy: g.ApprovedBy,
			Request: g.Request, RequestStatus: g.RequestStatus, Project: g.Project, Pipeline: g.PipelineNumber, WorkflowID: g.WorkflowID,
			CreatedAt: &g.CreatedAt, URL: links.WorkflowURL(g.Project, g.PipelineNumber, g.WorkflowID),
		}
		views = append(views, v)
	}
	c.Say("%d gates in the period, %d of them with a finding.", len(found.Gates), wrong)
	if err := c.Show(output, gateResult(views)); err != nil {
		return err
	}
	for _, h := range found.Holes {
		c.Say("%s", holeText(h))
	}
	return incomplete("list", found)
}

// incomplete says that something rests on a comparison that has holes.
func incomplete(what string, found *audit.Comparison) error {
	if len(found.Holes) == 0 {
		return nil
	}
	return fmt.Errorf("the %s is not complete: %d parts of it could not be read from CircleCI", what, len(found.Holes))
}

// holeText names what could not be read, and why.
func holeText(h audit.Hole) string {
	switch {
	case h.WorkflowID != "":
		return fmt.Sprintf("%s, pipeline %d, workflow %s: %s", h.Project, h.PipelineNumber, h.WorkflowID, h.Why)
	case h.PipelineNumber > 0:
		return fmt.Sprintf("%s, pipeline %d: %s", h.Project, h.PipelineNumber, h.Why)
	}
	return h.Project + ": " + h.Why
}

func gateResult(views []gateView) cli.Result {
	table := [][]string{{"FINDING", "APP", "ENVIRONMENT", "GATE", "GATE STATUS", "APPROVED IN CIRCLECI BY", "REQUEST", "REQUEST STATUS", "WORKFLOW"}}
	sheet := [][]string{{
		"finding", "app", "environment", "gate", "gate_status", "circleci_approver", "request", "request_status", "project", "pipeline", "workflow_id",
		"created_at_utc", "url", "detail",
	}}
	some := func(n int64) string {
		if n == 0 {
			return ""
		}
		return strconv.FormatInt(n, 10)
	}
	for _, v := range views {
		where := v.URL
		if where == "" {
			where = v.Project
		}
		table = append(table, []string{string(v.Finding), v.App, v.Environment, v.Gate, v.GateStatus, v.ApprovedBy, some(v.Request), string(v.RequestStatus), where})
		sheet = append(sheet, []string{
			string(v.Finding), v.App, v.Environment, v.Gate, v.GateStatus, v.ApprovedBy, some(v.Request), string(v.RequestStatus),
			v.Project, some(v.Pipeline), v.WorkflowID, full(v.CreatedAt), v.URL, v.Detail,
		})
	}
	return cli.Result{JSON: views, Tables: [][][]string{table}, Sheet: sheet}
}
