package circleci

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// Facts reads a workflow, its pipeline and who set it off. A login that cannot be read, for whatever reason, is left
// empty and is no error: StartedByID still says who it was. Nor is a configuration that cannot be read.
func (c *Client) Facts(ctx context.Context, workflowID string) (approvals.Facts, error) {
	const doing = "read workflow"
	var w wireWorkflow
	if err := c.object(ctx, get("workflow", doing, "/workflow/%s", id{"workflow id", workflowID}), &w, workflowID); err != nil {
		return approvals.Facts{}, err
	}
	slug, err := NormalizeSlug(w.ProjectSlug)
	if err != nil {
		return approvals.Facts{}, unusable(doing, c.clean(err.Error()))
	}
	f := approvals.Facts{WorkflowID: w.ID, WorkflowName: w.Name, WorkflowStatus: w.Status, Project: slug, StartedByID: w.StartedBy}
	if err := c.addPipeline(ctx, &f, w.PipelineID); err != nil {
		return approvals.Facts{}, err
	}
	if f.StartedBy, err = c.Login(ctx, w.StartedBy); err != nil {
		f.StartedBy = ""
	}
	if f.CanceledBy, err = c.Login(ctx, w.CanceledBy); err != nil {
		f.CanceledBy = w.CanceledBy
	}
	if text, err := json.Marshal(f); err != nil || len(text) > maxFacts {
		return approvals.Facts{}, unusable(doing, "the facts are larger than 8 KiB")
	}
	if ctx.Err() != nil {
		// The caller gave up, so that nothing is known of the logins.
		return approvals.Facts{}, c.noAnswer(doing, ctx.Err())
	}
	return f, nil
}

// Jobs lists all jobs of a workflow, gates included. A list that does not end within the cap on pages is an error,
// never cut.
func (c *Client) Jobs(ctx context.Context, workflowID string) ([]approvals.Job, error) {
	items, err := readAll[wireJob](ctx, c, get("jobs", "list jobs", "/workflow/%s/job", id{"workflow id", workflowID}))
	if err != nil {
		return nil, err
	}
	jobs := make([]approvals.Job, len(items))
	for i, j := range items {
		jobs[i] = j.job()
	}
	return jobs, nil
}

// Workflows lists the workflows of a pipeline, reruns included and setup workflows left out, oldest first.
func (c *Client) Workflows(ctx context.Context, pipelineID string) ([]approvals.WorkflowRef, error) {
	k := get("pipeline-workflows", "list workflows", "/pipeline/%s/workflow", id{"pipeline id", pipelineID})
	items, err := readAll[wireWorkflow](ctx, c, k)
	if err != nil {
		return nil, err
	}
	var workflows []approvals.WorkflowRef
	for _, w := range items {
		switch {
		case !strings.EqualFold(w.PipelineID, pipelineID):
			return nil, unusable(k.doing, "workflow "+w.ID+" is of another pipeline")
		case w.Tag != "setup":
			workflows = append(workflows, approvals.WorkflowRef{ID: w.ID, Name: w.Name, CreatedAt: w.CreatedAt.Time, StoppedAt: w.StoppedAt.Time})
		}
	}
	slices.SortStableFunc(workflows, func(a, b approvals.WorkflowRef) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return workflows, nil
}

// Pipelines lists the pipelines of a project from the newest back to those made at since; the zero time means all.
// A page of older ones only ends the list, which CircleCI sorts newest first. With an error it returns those that
// could be read.
func (c *Client) Pipelines(ctx context.Context, project string, since time.Time) ([]approvals.PipelineRef, error) {
	refs, err := c.pipelines(ctx, project, func(page []wirePipeline) bool {
		return len(page) > 0 && !slices.ContainsFunc(page, func(p wirePipeline) bool { return !p.CreatedAt.Before(since) })
	})
	return slices.DeleteFunc(refs, func(p approvals.PipelineRef) bool { return p.CreatedAt.Before(since) }), err
}

// Recent lists the newest pipelines of a project: one page of them, which has 20.
func (c *Client) Recent(ctx context.Context, project string) ([]approvals.PipelineRef, error) {
	return c.pipelines(ctx, project, func([]wirePipeline) bool { return true })
}

func (c *Client) pipelines(ctx context.Context, project string, enough func([]wirePipeline) bool) (refs []approvals.PipelineRef, err error) {
	const doing = "list pipelines"
	slug, err := NormalizeSlug(project)
	if err != nil {
		return nil, invalid(doing, err.Error())
	}
	items, err := readUntil(ctx, c, get("project-pipelines", doing, "/project/"+slug+"/pipeline"), maxPipelinePages, enough)
	for _, p := range items {
		refs = append(refs, approvals.PipelineRef{ID: p.ID, Number: p.Number, CreatedAt: p.CreatedAt.Time})
	}
	return refs, err
}
