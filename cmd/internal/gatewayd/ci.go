package gatewayd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/circleci"
)

// CI meets the core's port with a CircleCI client.
type CI struct {
	client *circleci.Client

	mu       sync.Mutex
	self     string
	logins   map[string]string
	projects map[string]string // slug → project id
}

// NewCI makes the port of a client.
func NewCI(client *circleci.Client) *CI {
	return &CI{client: client, logins: map[string]string{}, projects: map[string]string{}}
}

// ciError hands a failed call over in the core's words.
func ciError(err error) error {
	var c *circleci.Error
	if !errors.As(err, &c) {
		return err
	}
	message := c.Message
	if c.Status >= 400 {
		message = fmt.Sprintf("%d %s", c.Status, statusText(c.Status))
		if c.Message != "" && !strings.EqualFold(c.Message, statusText(c.Status)) {
			message += ": " + c.Message
		}
	}
	if message == "" {
		message = "no answer"
	}
	return &approvals.CIError{Status: c.Status, Message: message, RetryAfter: c.RetryAfter}
}

func statusText(status int) string {
	switch status {
	case 401:
		return "Unauthorized"
	case 403:
		return "Forbidden (token lacks permissions or expired)"
	case 404:
		return "Not Found"
	case 429:
		return "Too Many Requests"
	}
	if status >= 500 {
		return "from CircleCI"
	}
	return "refused"
}

// Facts implements approvals.CI: the workflow, its pipeline and who set it off.
func (c *CI) Facts(ctx context.Context, workflowID string) (approvals.Facts, error) {
	w, err := c.client.Workflow(ctx, workflowID)
	if err != nil {
		return approvals.Facts{}, ciError(err)
	}
	p, err := c.client.Pipeline(ctx, w.PipelineID)
	if err != nil {
		return approvals.Facts{}, ciError(err)
	}
	slug, err := circleci.NormalizeSlug(w.ProjectSlug)
	if err != nil {
		return approvals.Facts{}, &approvals.CIError{Status: 502, Message: "the workflow has a project slug that cannot be read"}
	}
	f := approvals.Facts{
		WorkflowID: w.ID, WorkflowName: w.Name, WorkflowStatus: approvals.WorkflowStatus(w.Status),
		PipelineID: p.ID, PipelineNumber: p.Number, Project: slug,
		Trigger: p.TriggerType, Actor: p.ActorLogin, StartedByID: w.StartedBy,
	}
	// The values hold the commit for every kind of VCS; the pipeline's own part
	// is there for some only, and then tells of forks too.
	if p.VCS != nil && p.VCS.Revision != "" {
		f.Revision, f.Branch, f.Tag = p.VCS.Revision, p.VCS.Branch, p.VCS.Tag
		f.Origin, f.Target = p.VCS.OriginURL, p.VCS.TargetURL
	} else {
		values, err := c.client.PipelineValues(ctx, p.ID)
		if err != nil {
			return approvals.Facts{}, ciError(err)
		}
		f.Revision, f.Branch, f.Tag = values["pipeline.git.revision"], values["pipeline.git.branch"], values["pipeline.git.tag"]
	}
	if f.StartedBy, err = c.Login(ctx, w.StartedBy); err != nil {
		f.StartedBy = ""
	}
	if w.CanceledBy != "" {
		if f.CanceledBy, err = c.Login(ctx, w.CanceledBy); err != nil {
			f.CanceledBy = w.CanceledBy
		}
	}
	return f, nil
}

// Jobs implements approvals.CI.
func (c *CI) Jobs(ctx context.Context, workflowID string) ([]approvals.Job, error) {
	jobs, err := c.client.Jobs(ctx, workflowID)
	if err != nil {
		return nil, ciError(err)
	}
	out := make([]approvals.Job, len(jobs))
	for i, j := range jobs {
		needs := make(map[string][]string, len(j.Dependencies))
		for _, id := range j.Dependencies {
			needs[id] = nil
		}
		for id, statuses := range j.Requires {
			needs[id] = statuses
		}
		slug, err := circleci.NormalizeSlug(j.ProjectSlug)
		if err != nil {
			slug = j.ProjectSlug
		}
		out[i] = approvals.Job{
			ID: j.ID, Name: j.Name, Type: j.Type, Status: approvals.JobStatus(j.Status), Project: slug, Needs: needs,
			ApprovalRequestID: j.ApprovalRequestID, ApprovedBy: j.ApprovedBy, CanceledBy: j.CanceledBy,
		}
		if j.StoppedAt != nil {
			out[i].StoppedAt = *j.StoppedAt
		}
	}
	return out, nil
}

// Approve implements approvals.CI.
func (c *CI) Approve(ctx context.Context, workflowID, approvalRequestID string) error {
	return ciError(c.client.Approve(ctx, workflowID, approvalRequestID))
}

// CancelJob implements approvals.CI.
func (c *CI) CancelJob(ctx context.Context, jobID string) error {
	return ciError(c.client.CancelJob(ctx, jobID))
}

// CancelWorkflow implements approvals.CI.
func (c *CI) CancelWorkflow(ctx context.Context, workflowID string) error {
	return ciError(c.client.CancelWorkflow(ctx, workflowID))
}

// Self implements approvals.CI: our own user id, asked once.
func (c *CI) Self(ctx context.Context) (string, error) {
	c.mu.Lock()
	self := c.self
	c.mu.Unlock()
	if self != "" {
		return self, nil
	}
	me, err := c.client.Me(ctx)
	if err != nil {
		return "", ciError(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.self = me.ID
	c.logins[me.ID] = me.Login
	return me.ID, nil
}

// maxLogins bounds the memory of who is who.
const maxLogins = 10_000

// Login implements approvals.CI: a user's login, asked once. An empty id has none.
func (c *CI) Login(ctx context.Context, userID string) (string, error) {
	if userID == "" {
		return "", nil
	}
	c.mu.Lock()
	login, ok := c.logins[userID]
	c.mu.Unlock()
	if ok {
		return login, nil
	}
	u, err := c.client.User(ctx, userID)
	if err != nil {
		return "", ciError(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.logins) >= maxLogins {
		clear(c.logins)
	}
	c.logins[userID] = u.Login
	return u.Login, nil
}

// SameProject implements approvals.CI. Slugs with opaque ids have several
// spellings, so that only the project's id tells.
func (c *CI) SameProject(ctx context.Context, a, b string) (bool, error) {
	if circleci.SameSlug(a, b) {
		return true, nil
	}
	if !strings.HasPrefix(a, "circleci/") && !strings.HasPrefix(b, "circleci/") {
		return false, nil
	}
	first, err := c.project(ctx, a)
	if err != nil {
		return false, err
	}
	second, err := c.project(ctx, b)
	if err != nil {
		return false, err
	}
	return first == second, nil
}

func (c *CI) project(ctx context.Context, slug string) (string, error) {
	c.mu.Lock()
	id, ok := c.projects[slug]
	c.mu.Unlock()
	if ok {
		return id, nil
	}
	p, err := c.client.Project(ctx, slug)
	if err != nil {
		return "", ciError(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.projects) >= maxLogins {
		clear(c.projects)
	}
	c.projects[slug] = p.ID
	return p.ID, nil
}
