package circleci

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Me tells who the token belongs to. The ID of the answer is always set.
func (c *Client) Me(ctx context.Context) (User, error) {
	k := call{op: "me", doing: "read own user", method: http.MethodGet, path: []string{"me"}}
	return c.user(ctx, k, "")
}

// User reads a user by id, such as the one who approved a gate.
func (c *Client) User(ctx context.Context, id string) (User, error) {
	k := call{op: "user", doing: "read user", method: http.MethodGet, path: []string{"user", id}}
	if !isUUID(id) {
		return User{}, invalid(k.doing, "the user id is not a UUID")
	}
	return c.user(ctx, k, id)
}

func (c *Client) user(ctx context.Context, k call, want string) (User, error) {
	var u User
	if err := c.read(ctx, k, &u); err != nil {
		return User{}, err
	}
	// An empty id would equal the empty approved_by of a gate that nobody approved.
	if err := sameObject(k.doing, u.ID, want); err != nil {
		return User{}, err
	}
	return u, nil
}

// Workflow reads one workflow. Decide about a gate on its job, not on the status of the workflow.
func (c *Client) Workflow(ctx context.Context, id string) (Workflow, error) {
	k := call{op: "workflow", doing: "read workflow", method: http.MethodGet, path: []string{"workflow", id}}
	if !isUUID(id) {
		return Workflow{}, invalid(k.doing, "the workflow id is not a UUID")
	}
	var w wireWorkflow
	if err := c.read(ctx, k, &w); err != nil {
		return Workflow{}, err
	}
	if err := sameObject(k.doing, w.ID, id); err != nil {
		return Workflow{}, err
	}
	if !isUUID(w.PipelineID) || w.Status == "" {
		return Workflow{}, unusable(k.doing, "the answer has no status or no pipeline id")
	}
	return w.workflow(), nil
}

// Jobs lists all jobs of a workflow, gates included. A list that does not end within the cap on pages is an error,
// never cut.
func (c *Client) Jobs(ctx context.Context, workflowID string) ([]Job, error) {
	k := call{op: "jobs", doing: "list jobs", method: http.MethodGet, path: []string{"workflow", workflowID, "job"}}
	if !isUUID(workflowID) {
		return nil, invalid(k.doing, "the workflow id is not a UUID")
	}
	items, err := readAll(ctx, c, k, func(j wireJob) string { return j.ID })
	if err != nil {
		return nil, err
	}
	jobs := make([]Job, len(items))
	for i, j := range items {
		if !isUUID(j.ID) || j.Name == "" || j.Type == "" || j.Status == "" {
			return nil, unusable(k.doing, "a job has no id, name, type or status")
		}
		jobs[i] = j.job()
	}
	return jobs, nil
}

// Pipeline reads one pipeline.
func (c *Client) Pipeline(ctx context.Context, id string) (Pipeline, error) {
	k := call{op: "pipeline", doing: "read pipeline", method: http.MethodGet, path: []string{"pipeline", id}}
	if !isUUID(id) {
		return Pipeline{}, invalid(k.doing, "the pipeline id is not a UUID")
	}
	var p wirePipeline
	if err := c.read(ctx, k, &p); err != nil {
		return Pipeline{}, err
	}
	if err := sameObject(k.doing, p.ID, id); err != nil {
		return Pipeline{}, err
	}
	return p.pipeline(), nil
}

// PipelineValues reads the values that a configuration can use, such as pipeline.git.revision. They name the commit for
// every kind of project. Numbers and booleans come as text; nulls, lists and objects are left out.
func (c *Client) PipelineValues(ctx context.Context, id string) (map[string]string, error) {
	k := call{op: "values", doing: "read pipeline values", method: http.MethodGet, path: []string{"pipeline", id, "values"}}
	if !isUUID(id) {
		return nil, invalid(k.doing, "the pipeline id is not a UUID")
	}
	var values wireValues
	if err := c.read(ctx, k, &values); err != nil {
		return nil, err
	}
	return values, nil
}

// PipelineWorkflows lists all workflows of a pipeline, reruns and setup workflows included, in no particular order.
func (c *Client) PipelineWorkflows(ctx context.Context, pipelineID string) ([]Workflow, error) {
	k := call{op: "pipeline-workflows", doing: "list workflows", method: http.MethodGet, path: []string{"pipeline", pipelineID, "workflow"}}
	if !isUUID(pipelineID) {
		return nil, invalid(k.doing, "the pipeline id is not a UUID")
	}
	items, err := readAll(ctx, c, k, func(w wireWorkflow) string { return w.ID })
	if err != nil {
		return nil, err
	}
	workflows := make([]Workflow, len(items))
	for i, w := range items {
		if !isUUID(w.ID) || w.Status == "" || !strings.EqualFold(w.PipelineID, pipelineID) {
			return nil, unusable(k.doing, "a workflow has no id or status, or is of another pipeline")
		}
		workflows[i] = w.workflow()
	}
	return workflows, nil
}

// ProjectPipelines lists the pipelines of a project from the newest back to those made at since; the zero time means all.
// A page of older ones only ends the list, which CircleCI sorts newest first.
func (c *Client) ProjectPipelines(ctx context.Context, slug string, since time.Time) ([]Pipeline, error) {
	k := call{op: "project-pipelines", doing: "list pipelines", method: http.MethodGet}
	slug, err := NormalizeSlug(slug)
	if err != nil {
		return nil, invalid(k.doing, err.Error())
	}
	k.path = append(append([]string{"project"}, strings.Split(slug, "/")...), "pipeline")
	older := func(p wirePipeline) bool { return p.CreatedAt.Time != nil && p.CreatedAt.Before(since) }
	items, err := readUntil(ctx, c, k, maxPipelinePages, func(p wirePipeline) string { return p.ID }, func(page []wirePipeline) bool {
		return len(page) > 0 && !slices.ContainsFunc(page, func(p wirePipeline) bool { return !older(p) })
	})
	if err != nil {
		return nil, err
	}
	var pipelines []Pipeline
	for _, p := range items {
		if !isUUID(p.ID) || p.CreatedAt.Time == nil {
			return nil, unusable(k.doing, "a pipeline has no id or no time")
		}
		if !older(p) {
			pipelines = append(pipelines, p.pipeline())
		}
	}
	return pipelines, nil
}

// Project reads a project by its slug, in any spelling that NormalizeSlug takes. The ID of the answer is always set.
func (c *Client) Project(ctx context.Context, slug string) (Project, error) {
	k := call{op: "project", doing: "read project", method: http.MethodGet}
	slug, err := NormalizeSlug(slug)
	if err != nil {
		return Project{}, invalid(k.doing, err.Error())
	}
	k.path = append([]string{"project"}, strings.Split(slug, "/")...)
	var p wireProject
	if err := c.read(ctx, k, &p); err != nil {
		return Project{}, err
	}
	if err := sameObject(k.doing, p.ID, ""); err != nil {
		return Project{}, err
	}
	return p.project(), nil
}

// sameObject refuses an answer without an id, or about another object than the one asked for.
func sameObject(doing, got, want string) error {
	switch {
	case !isUUID(got):
		return unusable(doing, "the answer has no id")
	case want != "" && !strings.EqualFold(got, want):
		return unusable(doing, "the answer is about another object")
	}
	return nil
}
