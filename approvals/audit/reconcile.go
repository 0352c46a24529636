package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// CIHistory is what a reconciliation reads of the CI provider. Failures are *[CIError].
type CIHistory interface {
	// Pipelines lists a project's pipelines that were made at or after since, the
	// newest first; a few older ones do not matter. With an error it returns those
	// that it could read.
	Pipelines(ctx context.Context, project string, since time.Time) ([]approvals.PipelineRef, error)
	// Workflows lists the workflows of a pipeline as [CIPeople] does.
	Workflows(ctx context.Context, pipelineID string) ([]approvals.WorkflowRef, error)
	Jobs(ctx context.Context, workflowID string) ([]approvals.Job, error)
	Login(ctx context.Context, userID string) (string, error)
}

// Finding is what is wrong with a gate.
type Finding string

// What a reconciliation finds.
const (
	FindingNone       Finding = ""                  // it is as the log says
	FindingNoRequest  Finding = "no_request"        // nobody asked here for it
	FindingNotOurs    Finding = "not_approved_here" // it was approved, and the log has no approval that it follows from
	FindingNotOpen    Finding = "not_open"          // the log says that it was released, CircleCI does not
	FindingUnreadable Finding = "unreadable"        // which gates there are, or who opened one, is not known; see [Hole]
)

// Hole is a part of what was asked for that could not be read. Gates may be
// missing from it.
type Hole struct {
	Project        string
	PipelineNumber int64  // 0 = pipelines of the project are missing
	WorkflowID     string // empty = workflows of the pipeline are missing
	Why            string
}

// ReconciledGate is one approval job as the CI provider lists it, together with what
// the log says of the same job.
type ReconciledGate struct {
	App            string
	Environment    string
	Project        string
	PipelineNumber int64
	WorkflowID     string
	Gate           string
	Status         string // of the job
	ApprovedBy     string // login, or the user id when the login cannot be read
	CreatedAt      time.Time
	Request        int64 // number; 0 = none
	RequestStatus  approvals.Status
	Finding        Finding
}

// Reconciliation compares the approval jobs that the settings name with the log.
type Reconciliation struct {
	Store    approvals.Store
	CI       CIHistory
	Settings approvals.Settings
	App      string // empty = all
	// From and To are the period: every workflow that ran in it counts.
	From, To time.Time
	// Lookback is how long before From a pipeline may have been made. Its gate
	// may wait, and its workflow be run again, long after.
	Lookback time.Duration
	// Told is called before a project's pipelines are read; nil = nobody.
	Told func(project string, pipelines int)
}

// Comparison is what a [Reconciliation] found: all gates, by app, environment and age,
// and the holes in that list.
type Comparison struct {
	Gates []ReconciledGate
	Holes []Hole
}

// Run asks the CI provider for every pipeline, so it takes a while. What the provider
// does not tell of one pipeline does not end it; what the store does not tell does.
func (c Reconciliation) Run(ctx context.Context) (*Comparison, error) {
	r := reconciler{Reconciliation: c, policies: c.Settings.Policies()}
	r.policies = slices.DeleteFunc(r.policies, func(p approvals.Policy) bool { return c.App != "" && p.App != c.App })
	if c.App != "" && len(r.policies) == 0 {
		return nil, refuse(approvals.CodeAppUnknown, "there is no app %q in the settings", c.App)
	}
	for _, slug := range c.Settings.Projects() {
		if !slices.ContainsFunc(r.policies, func(p approvals.Policy) bool { return p.Project == slug }) {
			continue
		}
		if err := r.project(ctx, slug); err != nil {
			return nil, fmt.Errorf("project %s: %w", slug, err)
		}
	}
	slices.SortStableFunc(r.Gates, func(a, b ReconciledGate) int {
		return cmp.Or(strings.Compare(a.App, b.App), strings.Compare(a.Environment, b.Environment), a.CreatedAt.Compare(b.CreatedAt))
	})
	return &r.Comparison, nil
}

// reconciler is one run.
type reconciler struct {
	Reconciliation
	Comparison
	policies []approvals.Policy
	failed   int // readings in a row that failed
}

// hole notes what could not be read. It returns the error if that ends the run:
// the caller went away, or the provider takes our token for nothing.
func (r *reconciler) hole(ctx context.Context, h Hole, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if ci, ok := errors.AsType[*approvals.CIError](err); ok && ci.Status == 401 {
		return err
	}
	h.Why = err.Error()
	r.Holes = append(r.Holes, h)
	return nil
}

func (r *reconciler) project(ctx context.Context, slug string) error {
	pipelines, err := patiently(ctx, r, func() ([]approvals.PipelineRef, error) { return r.CI.Pipelines(ctx, slug, r.From.Add(-r.Lookback)) })
	if err != nil {
		if err := r.hole(ctx, Hole{Project: slug}, err); err != nil {
			return err
		}
	}
	if r.Told != nil {
		r.Told(slug, len(pipelines))
	}
	for _, p := range pipelines {
		if p.CreatedAt.After(r.To) {
			continue
		}
		if err := r.pipeline(ctx, slug, p); err != nil {
			return err
		}
	}
	return nil
}

func (r *reconciler) pipeline(ctx context.Context, slug string, p approvals.PipelineRef) error {
	at := Hole{Project: slug, PipelineNumber: p.Number}
	workflows, err := patiently(ctx, r, func() ([]approvals.WorkflowRef, error) { return r.CI.Workflows(ctx, p.ID) })
	if err != nil {
		return r.hole(ctx, at, err)
	}
	for _, w := range workflows {
		if w.CreatedAt.After(r.To) || !w.StoppedAt.IsZero() && w.StoppedAt.Before(r.From) {
			continue
		}
		at.WorkflowID = w.ID
		if err := r.workflow(ctx, at, w); err != nil {
			return err
		}
	}
	return nil
}

// workflow compares the gates of a workflow with the log.
func (r *reconciler) workflow(ctx context.Context, at Hole, w approvals.WorkflowRef) error {
	jobs, err := patiently(ctx, r, func() ([]approvals.Job, error) { return r.CI.Jobs(ctx, w.ID) })
	if err != nil {
		return r.hole(ctx, at, err)
	}
	for _, j := range jobs {
		i := slices.IndexFunc(r.policies, func(p approvals.Policy) bool { return j.IsGate() && p.Project == at.Project && p.Gate == j.Name })
		if i < 0 {
			continue
		}
		g := ReconciledGate{
			App: r.policies[i].App, Environment: r.policies[i].Environment, Project: at.Project, PipelineNumber: at.PipelineNumber, WorkflowID: w.ID,
			Gate: j.Name, Status: string(j.Status), ApprovedBy: j.ApprovedBy, CreatedAt: w.CreatedAt,
		}
		nameless := errors.New("the job list does not say who opened the gate")
		if j.ApprovedBy != "" {
			var login string
			login, nameless = patiently(ctx, r, func() (string, error) { return r.CI.Login(ctx, j.ApprovedBy) })
			g.ApprovedBy = cmp.Or(login, j.ApprovedBy) // the id says who it was, too
		}
		if err := r.Store.View(ctx, func(tx approvals.Tx) error { return g.compare(tx, j, nameless == nil) }); err != nil {
			return fmt.Errorf("workflow %s: %w", w.ID, err)
		}
		if g.Finding != FindingUnreadable {
			r.Gates = append(r.Gates, g)
		} else if err := r.hole(ctx, at, nameless); err != nil {
			return err
		}
	}
	return nil
}

// compare finds the request behind a gate: the one that accounts for it, else
// the newest. named: the login of who opened it is known.
func (g *ReconciledGate) compare(tx approvals.Tx, j approvals.Job, named bool) error {
	found, err := tx.Requests(approvals.Filter{Apps: []string{g.App}, WorkflowID: strings.ToLower(g.WorkflowID)})
	if err != nil {
		return err
	}
	g.Finding = FindingNoRequest
	for _, r := range found { // newest first
		if r.GateName != j.Name {
			continue
		}
		events, err := approvals.EventsOf(tx, r.ID)
		if err != nil {
			return err
		}
		finding := g.account(r, j, events, named)
		if g.Request == 0 || finding == FindingNone {
			g.Request, g.RequestStatus, g.Finding = r.Number, r.Status, finding
		}
		if finding == FindingNone {
			return nil
		}
	}
	return nil
}

// account says whether a request and its history account for the gate as it is.
// The row alone does not: whoever can write it could make it say anything.
//
// Who opened it is compared by the user id. A login may have changed since, or cannot be
// read any more.
func (g *ReconciledGate) account(r approvals.Request, j approvals.Job, history []approvals.Event, named bool) Finding {
	approved, released, by := false, false, ""
	for _, e := range history {
		approved = approved || e.Type.Approves()
		released = approved && (released || e.Type == approvals.EventReleased)
		if e.Type == approvals.EventReleased {
			by = e.Data["circleci_id"]
		}
	}
	switch {
	case j.Status != "success" && released:
		return FindingNotOpen
	case j.Status != "success":
		return FindingNone
	case r.Status == approvals.Approved && approved && (!r.AutoApprove || slices.Contains(r.Attempt.IDs, cmp.Or(j.ApprovalRequestID, j.ID))):
		return FindingNone // the look-up that notices is still to come
	case !r.Status.Passed() || !released:
		return FindingNotOurs
	case by != "" && by == j.ApprovedBy, by == "" && (r.Gate.ApprovedBy == g.ApprovedBy || r.Gate.ApprovedBy == j.ApprovedBy):
		return FindingNone
	case !named && (by == "" || j.ApprovedBy == ""):
		return FindingUnreadable
	}
	return FindingNotOurs
}

// patience is how often a call that got no answer is made, and the longest
// pause between two. After patienceOver failures in a row it is made once: the
// provider is down for longer.
const (
	patienceTries = 6
	patiencePause = time.Minute
	patienceOver  = 3
)

// patiently repeats a reading while the provider is busy or down.
func patiently[T any](ctx context.Context, r *reconciler, read func() (T, error)) (got T, err error) {
	for try := 1; ; try++ {
		if got, err = read(); err == nil {
			r.failed = 0
			return got, nil
		}
		ci, ok := errors.AsType[*approvals.CIError](err)
		if !ok || !ci.Temporary() || errors.Is(err, approvals.ErrCIUnusable) {
			return got, err
		}
		if try == patienceTries || r.failed >= patienceOver {
			r.failed++
			return got, err
		}
		if !approvals.Pause(ctx, min(max(ci.RetryAfter, approvals.Backoff(try, time.Second, patiencePause)), patiencePause)) {
			return got, ctx.Err()
		}
	}
}
