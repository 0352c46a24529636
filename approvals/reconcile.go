package approvals

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// CIHistory is what a reconciliation reads of the CI provider. Failures are *[CIError].
type CIHistory interface {
	// Pipelines lists a project's pipelines that were made at or after since; a
	// few older ones do not matter.
	Pipelines(ctx context.Context, project string, since time.Time) ([]PipelineRef, error)
	// Workflows lists the workflows of a pipeline as [CIPeople] does.
	Workflows(ctx context.Context, pipelineID string) ([]WorkflowRef, error)
	Jobs(ctx context.Context, workflowID string) ([]Job, error)
	Login(ctx context.Context, userID string) (string, error)
}

// PipelineRef is a pipeline in a list.
type PipelineRef struct {
	ID        string
	Number    int64
	CreatedAt time.Time
}

// Finding is what is wrong with a gate.
type Finding string

// What a reconciliation finds.
const (
	// FindingNone: it is as the log says.
	FindingNone Finding = ""
	// FindingNoRequest: nobody asked here for it.
	FindingNoRequest Finding = "no_request"
	// FindingNotOurs: it was approved, and the log has no approval that it follows from.
	FindingNotOurs Finding = "not_approved_here"
	// FindingNotOpen: the log says that it was released, CircleCI does not.
	FindingNotOpen Finding = "not_open"
)

// ReconciledGate is one approval job at the CI provider beside what is known of it here.
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
	RequestStatus  Status
	Finding        Finding
}

// Reconciliation compares the approval jobs that the settings name with the log.
type Reconciliation struct {
	Store    Store
	CI       CIHistory
	Settings Settings
	App      string // empty = all
	// From and To are the period: every workflow that ran in it counts.
	From, To time.Time
	// Lookback is how long before From a pipeline may have been made. Its gate
	// may wait, and its workflow be run again, long after.
	Lookback time.Duration
	// Told is called before a project's pipelines are read; nil = nobody.
	Told func(project string, pipelines int)
}

// Run lists all gates, by app, environment and age. It asks the CI provider
// for every pipeline, so it takes a while. Whatever cannot be read ends it: a
// list with holes proves nothing.
func (c Reconciliation) Run(ctx context.Context) ([]ReconciledGate, error) {
	projects := map[string][]Policy{}
	for _, app := range c.Settings.Apps() {
		if c.App != "" && app != c.App {
			continue
		}
		for _, env := range c.Settings.Environments(app) {
			p, err := c.Settings.Lookup(app, env)
			if err != nil {
				return nil, err
			}
			projects[p.Project] = append(projects[p.Project], p)
		}
	}
	if c.App != "" && len(projects) == 0 {
		return nil, refuse(CodeAppUnknown, "no app %q in the settings", c.App)
	}
	var all []ReconciledGate
	for _, slug := range c.Settings.Projects() {
		if projects[slug] == nil {
			continue
		}
		found, err := c.project(ctx, slug, projects[slug])
		if err != nil {
			return nil, fmt.Errorf("project %s: %w", slug, err)
		}
		all = append(all, found...)
	}
	slices.SortStableFunc(all, func(a, b ReconciledGate) int {
		return cmp.Or(strings.Compare(a.App, b.App), strings.Compare(a.Environment, b.Environment), a.CreatedAt.Compare(b.CreatedAt))
	})
	return all, nil
}

func (c Reconciliation) project(ctx context.Context, slug string, policies []Policy) ([]ReconciledGate, error) {
	pipelines, err := patiently(ctx, func() ([]PipelineRef, error) { return c.CI.Pipelines(ctx, slug, c.From.Add(-c.Lookback)) })
	if err != nil {
		return nil, fmt.Errorf("list pipelines: %w", err)
	}
	if c.Told != nil {
		c.Told(slug, len(pipelines))
	}
	var all []ReconciledGate
	for _, p := range pipelines {
		if p.CreatedAt.After(c.To) {
			continue
		}
		workflows, err := patiently(ctx, func() ([]WorkflowRef, error) { return c.CI.Workflows(ctx, p.ID) })
		if err != nil {
			return nil, fmt.Errorf("list workflows of pipeline %d: %w", p.Number, err)
		}
		for _, w := range workflows {
			if w.CreatedAt.After(c.To) || !w.StoppedAt.IsZero() && w.StoppedAt.Before(c.From) {
				continue
			}
			found, err := c.workflow(ctx, w, policies)
			if err != nil {
				return nil, fmt.Errorf("workflow %s: %w", w.ID, err)
			}
			for i := range found {
				found[i].Project, found[i].PipelineNumber = slug, p.Number
			}
			all = append(all, found...)
		}
	}
	return all, nil
}

func (c Reconciliation) workflow(ctx context.Context, w WorkflowRef, policies []Policy) ([]ReconciledGate, error) {
	jobs, err := patiently(ctx, func() ([]Job, error) { return c.CI.Jobs(ctx, w.ID) })
	if err != nil {
		return nil, fmt.Errorf("list jobs: %w", err)
	}
	var all []ReconciledGate
	for _, j := range jobs {
		at := slices.IndexFunc(policies, func(p Policy) bool { return j.IsGate() && p.Gate == j.Name })
		if at < 0 {
			continue
		}
		g := ReconciledGate{
			App: policies[at].App, Environment: policies[at].Environment, WorkflowID: w.ID, Gate: j.Name, Status: string(j.Status),
			ApprovedBy: j.ApprovedBy, CreatedAt: w.CreatedAt,
		}
		if j.ApprovedBy != "" {
			// Without the login the id says who it was.
			if login, err := c.CI.Login(ctx, j.ApprovedBy); err == nil && login != "" {
				g.ApprovedBy = login
			}
		}
		err := c.Store.View(ctx, func(tx Tx) error { return g.compare(tx, j) })
		if err != nil {
			return nil, err
		}
		all = append(all, g)
	}
	return all, nil
}

// compare finds the request behind a gate: the one that accounts for it, else
// the newest.
func (g *ReconciledGate) compare(tx Tx, j Job) error {
	found, err := tx.Requests(Filter{Apps: []string{g.App}, WorkflowID: strings.ToLower(g.WorkflowID)})
	if err != nil {
		return err
	}
	g.Finding = FindingNoRequest
	for _, r := range found { // newest first
		if r.GateName != j.Name {
			continue
		}
		events, err := eventsOf(tx, r.ID)
		if err != nil {
			return err
		}
		finding := g.account(r, j, events)
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
func (g *ReconciledGate) account(r Request, j Job, history []Event) Finding {
	approved, released := false, false
	for _, e := range history {
		approved = approved || e.Type == EventApproved
		released = approved && (released || e.Type == EventReleased)
	}
	switch {
	case j.Status != "success" && released:
		return FindingNotOpen
	case j.Status != "success":
		return FindingNone
	case r.Status == Approved && approved && (!r.AutoApprove || slices.Contains(r.Attempt.IDs, j.approvalID())):
		return FindingNone // the look-up that notices is still to come
	case r.Status.Passed() && released && (r.Gate.ApprovedBy == g.ApprovedBy || r.Gate.ApprovedBy == j.ApprovedBy):
		return FindingNone
	}
	return FindingNotOurs
}

// patience is how often a call that got no answer is made, and the longest
// pause between two.
const (
	patienceTries = 6
	patiencePause = time.Minute
)

// patiently repeats a reading while the provider is busy or down.
func patiently[T any](ctx context.Context, read func() (T, error)) (T, error) {
	for try := 1; ; try++ {
		got, err := read()
		var ci *CIError
		if err == nil || try == patienceTries || !errors.As(err, &ci) || ci.Status != 0 && ci.Status != 429 && ci.Status < 500 {
			return got, err
		}
		pause := time.NewTimer(min(max(ci.RetryAfter, Backoff(try, time.Second, patiencePause)), patiencePause))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return got, ctx.Err()
		}
	}
}
