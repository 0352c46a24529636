package approvals_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

const botUser = "user-bot"

// fault breaks the next calls of one kind.
type fault struct {
	status int           // HTTP status to answer with; 0 = no answer
	done   bool          // the call takes effect all the same
	slow   time.Duration // before anything else
	times  int           // -1 = always
	retry  time.Duration // Retry-After
	cause  error         // what the error wraps
}

// post is one approve call that arrived.
type post struct{ workflow, id string }

// fakeCI is a CI provider with state.
type fakeCI struct {
	mu      sync.Mutex
	flows   map[string]*flow
	faults  map[string]*fault // by call: facts, jobs, approve, cancel, self, login
	posts   []post
	cancels []string // jobs and workflows, as "job:<name>" and "workflow"
	lag     time.Duration
	onPost  func(workflow, id string)
	looked  int // job lists that were asked for
}

type flow struct {
	facts   approvals.Facts
	jobs    []approvals.Job
	pending map[string]time.Time // gates that become success at a time, by us
	// odd changes the jobs that Jobs returns, for the next oddLists calls; with -1 for
	// all calls.
	odd      func([]approvals.Job) []approvals.Job
	oddLists int
	blocked  bool // a blocked gate stays so when the workflow is cancelled
}

func workflowID(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", n) }

// newFlow starts a workflow: ask, then the gate hold, then deploy.
func (c *fakeCI) newFlow(n int, pipeline int64, gate approvals.JobStatus) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := workflowID(n)
	success := func(need string) map[string][]string { return map[string][]string{need: {"success"}} }
	c.flows[id] = &flow{
		facts: approvals.Facts{WorkflowID: id, WorkflowName: "deploy", PipelineID: fmt.Sprintf("pipe-%d", pipeline), PipelineNumber: pipeline, Project: "gh/acme/shop",
			Revision: fmt.Sprintf("%039x%x", pipeline, n%16), Branch: "main", Actor: "dev", StartedBy: "dev", WorkflowStatus: "running"},
		jobs: []approvals.Job{
			{ID: id + "-ask", Name: "ask", Type: "build", Status: "running"},
			{ID: id + "-g", Name: "hold", Type: "approval", Status: gate, Needs: success(id + "-ask"), ApprovalRequestID: id + "-ar"},
			{ID: id + "-d", Name: "deploy", Type: "build", Status: "blocked", Needs: success(id + "-g")},
		},
		pending: map[string]time.Time{},
	}
	return id
}

// call runs fn unless a fault of the kind says otherwise.
func (c *fakeCI) call(ctx context.Context, kind, workflow string, fn func(*flow) error) error {
	c.mu.Lock()
	f := c.faults[kind]
	var broken fault
	if f != nil && f.times != 0 {
		broken = *f
		f.times--
	} else {
		f = nil
	}
	c.mu.Unlock()
	if broken.slow > 0 {
		select {
		case <-time.After(broken.slow):
		case <-ctx.Done():
			return &approvals.CIError{Message: "no answer"}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.flows[workflow]
	if w == nil && workflow != "" {
		return &approvals.CIError{Status: 404, Message: "workflow not found"}
	}
	if w != nil {
		w.settle()
	}
	failed := f != nil && (broken.status != 0 || broken.slow == 0)
	if failed && !broken.done {
		return &approvals.CIError{Status: broken.status, Message: fmt.Sprintf("answered %d", broken.status), RetryAfter: broken.retry, Err: broken.cause}
	}
	if err := fn(w); err != nil {
		return err
	}
	if failed {
		return &approvals.CIError{Status: broken.status, Message: fmt.Sprintf("answered %d", broken.status), RetryAfter: broken.retry, Err: broken.cause}
	}
	return nil
}

// settle lets what was accepted take effect.
func (w *flow) settle() {
	for id, at := range w.pending {
		if j := w.job(id); !time.Now().Before(at) && j.Status == "on_hold" {
			w.open(j, botUser)
			delete(w.pending, id)
		}
	}
}

func (w *flow) job(idOrName string) *approvals.Job {
	i := slices.IndexFunc(w.jobs, func(j approvals.Job) bool {
		return j.ID == idOrName || j.Name == idOrName || j.ApprovalRequestID == idOrName
	})
	return &w.jobs[i]
}

func (w *flow) open(gate *approvals.Job, by string) {
	gate.Status, gate.ApprovedBy, gate.StoppedAt = approvals.JobSuccess, by, time.Now()
	for i, j := range w.jobs {
		if _, ok := j.Needs[gate.ID]; ok && j.Status == "blocked" {
			w.jobs[i].Status = "running"
		}
	}
}

func (c *fakeCI) Facts(ctx context.Context, workflow string) (f approvals.Facts, err error) {
	err = c.call(ctx, "facts", workflow, func(w *flow) error { f = w.facts; return nil })
	return f, err
}

func (c *fakeCI) Jobs(ctx context.Context, workflow string) (jobs []approvals.Job, err error) {
	c.mu.Lock()
	c.looked++
	c.mu.Unlock()
	err = c.call(ctx, "jobs", workflow, func(w *flow) error {
		jobs = slices.Clone(w.jobs)
		if w.oddLists != 0 {
			w.oddLists--
			jobs = w.odd(jobs)
		}
		return nil
	})
	return jobs, err
}

// odd makes the next lists of a workflow odd; -1 = all of them.
func (c *fakeCI) odd(workflow string, change func([]approvals.Job) []approvals.Job, times int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flows[workflow].odd, c.flows[workflow].oddLists = change, times
}

func (c *fakeCI) Approve(ctx context.Context, workflow, id string) error {
	c.mu.Lock()
	c.posts = append(c.posts, post{workflow, id})
	c.mu.Unlock()
	if c.onPost != nil {
		c.onPost(workflow, id)
	}
	return c.call(ctx, "approve", workflow, func(w *flow) error {
		if w.job(id).Status != "on_hold" {
			return &approvals.CIError{Status: 400, Message: "Invalid approval job state"}
		}
		if _, accepted := w.pending[id]; !accepted {
			w.pending[id] = time.Now().Add(c.lag)
		}
		w.settle()
		return nil
	})
}

func (c *fakeCI) CancelJob(ctx context.Context, id string) error {
	return c.call(ctx, "cancel", id[:36], func(w *flow) error {
		c.cancels = append(c.cancels, "job:"+w.job(id).Name)
		if !w.job(id).Status.Final() {
			w.job(id).Status = "canceled"
		}
		return nil
	})
}

func (c *fakeCI) CancelWorkflow(ctx context.Context, id string) error {
	return c.call(ctx, "cancel", id, func(w *flow) error {
		c.cancels = append(c.cancels, "workflow")
		for i, j := range w.jobs {
			if !j.Status.Final() && !(w.blocked && j.Status == "blocked") {
				w.jobs[i].Status = "canceled"
			}
		}
		w.facts.WorkflowStatus = "canceled"
		return nil
	})
}

func (c *fakeCI) Self(ctx context.Context) (string, error) {
	return botUser, c.call(ctx, "self", "", func(*flow) error { return nil })
}

func (c *fakeCI) Login(ctx context.Context, id string) (string, error) {
	return strings.TrimPrefix(id, "user-"), c.call(ctx, "login", "", func(*flow) error { return nil })
}

func (c *fakeCI) SameProject(_ context.Context, a, b string) (bool, error) { return a == b, nil }

func (c *fakeCI) Workflows(_ context.Context, pipeline string) (all []approvals.WorkflowRef, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(c.flows)) {
		if f := c.flows[id].facts; f.PipelineID == pipeline {
			all = append(all, approvals.WorkflowRef{ID: id, Name: f.WorkflowName})
		}
	}
	return all, nil
}

// do changes a workflow from outside.
func (c *fakeCI) do(workflow string, fn func(*flow)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flows[workflow].settle()
	fn(c.flows[workflow])
}

// breaks sets a fault; nil ends it.
func (c *fakeCI) breaks(kind string, f *fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults[kind] = f
}

func (c *fakeCI) hold(workflow string) {
	c.do(workflow, func(w *flow) {
		w.job("ask").Status = "success"
		if g := w.job("hold"); !g.Status.Final() {
			g.Status = "on_hold"
		}
	})
}

func (c *fakeCI) humanApproves(workflow string) {
	c.do(workflow, func(w *flow) {
		if g := w.job("hold"); g.Status == "on_hold" {
			w.open(g, "user-eve")
		}
	})
}

func (c *fakeCI) set(workflow, job string, status approvals.JobStatus) {
	c.do(workflow, func(w *flow) { w.job(job).Status = status })
}

func (c *fakeCI) status(workflow, job string) (status approvals.JobStatus) {
	c.do(workflow, func(w *flow) { status = w.job(job).Status })
	return status
}

func (c *fakeCI) looks() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.looked
}

func (c *fakeCI) posted() []post {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.posts)
}

func (c *fakeCI) canceled() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.cancels)
}
