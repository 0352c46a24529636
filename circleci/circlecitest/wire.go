package circlecitest

import (
	"strings"
	"time"
)

type wirePage struct {
	Items         []any   `json:"items"`
	NextPageToken *string `json:"next_page_token"`
}

type wireWorkflow struct {
	ID             string     `json:"id"`
	Name           string     `json:"name"`
	Status         string     `json:"status"`
	CreatedAt      time.Time  `json:"created_at"`
	StoppedAt      *time.Time `json:"stopped_at"`
	PipelineID     string     `json:"pipeline_id"`
	PipelineNumber int64      `json:"pipeline_number"`
	ProjectSlug    string     `json:"project_slug"`
	StartedBy      string     `json:"started_by"`
	CanceledBy     string     `json:"canceled_by,omitempty"`
	Tag            string     `json:"tag,omitempty"`
}

// wireJob has a null started_at for gates, as real lists have and the official document does not foresee.
type wireJob struct {
	ID                string              `json:"id"`
	Name              string              `json:"name"`
	Type              string              `json:"type"`
	Status            string              `json:"status"`
	ProjectSlug       string              `json:"project_slug"`
	StartedAt         *time.Time          `json:"started_at"`
	StoppedAt         *time.Time          `json:"stopped_at,omitempty"`
	Dependencies      []string            `json:"dependencies"`
	Requires          map[string][]string `json:"requires"`
	JobNumber         int64               `json:"job_number,omitempty"`
	ApprovalRequestID string              `json:"approval_request_id,omitempty"`
	ApprovedBy        string              `json:"approved_by,omitempty"`
	CanceledBy        string              `json:"canceled_by,omitempty"`
}

func seconds(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

func secondsOf(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	at := seconds(*t)
	return &at
}

func workflowBody(wf *workflow) wireWorkflow {
	return wireWorkflow{
		ID: wf.id, Name: wf.name, Status: wf.state(), CreatedAt: seconds(wf.createdAt), StoppedAt: secondsOf(wf.stoppedAt),
		PipelineID: wf.pipeline.ID, PipelineNumber: wf.pipeline.Number, ProjectSlug: wf.pipeline.project.Slug,
		StartedBy: wf.startedBy.ID, CanceledBy: wf.canceledBy, Tag: wf.tag,
	}
}

// currentJobs is the job list as it truly is.
func (s *Server) currentJobs(wf *workflow) []wireJob {
	out := make([]wireJob, 0, len(wf.jobs))
	for _, j := range wf.jobs {
		w := wireJob{
			ID: j.ID, Name: j.Name, Type: j.Type, Status: j.status, ProjectSlug: wf.pipeline.project.Slug,
			StartedAt: secondsOf(j.startedAt), StoppedAt: secondsOf(j.stoppedAt), JobNumber: j.number,
			ApprovalRequestID: j.ApprovalRequestID, ApprovedBy: j.approvedBy, CanceledBy: j.canceledBy,
			Dependencies: []string{}, Requires: map[string][]string{},
		}
		if s.opts.HideBlockedRequestID && j.status == "blocked" {
			w.ApprovalRequestID = ""
		}
		for _, r := range j.Requires {
			dep := wf.find(r.Job)
			if dep == nil {
				continue
			}
			w.Dependencies = append(w.Dependencies, dep.ID)
			w.Requires[dep.ID] = r.wire()
		}
		out = append(out, w)
	}
	return out
}

// wire spells terminal out: the official document knows three statuses here.
func (r Require) wire() []string {
	var out []string
	for _, status := range r.Statuses {
		if status == "terminal" {
			return []string{"success", "failed", "canceled"}
		}
		out = append(out, status)
	}
	if out == nil {
		return []string{"success"}
	}
	return out
}

func userBody(u *User) any {
	return map[string]any{"id": u.ID, "login": u.Login, "name": u.Name}
}

func projectBody(p *Project) any {
	parts := strings.Split(p.Slug, "/")
	return map[string]any{
		"slug": p.Slug, "name": p.Name, "id": p.ID,
		"organization_name": parts[1], "organization_slug": parts[0] + "/" + parts[1],
		"organization_id": p.ID, // a UUID as good as any: the simulator has no organisations
		"vcs_info":        map[string]any{"vcs_url": p.VCSURL, "provider": p.Provider, "default_branch": p.DefaultBranch},
	}
}

func pipelineBody(p *pipeline) any {
	at := seconds(p.CreatedAt)
	out := map[string]any{
		"id": p.ID, "number": p.Number, "project_slug": p.project.Slug, "state": "created", "errors": []any{},
		"created_at": at, "updated_at": at,
		"trigger": map[string]any{
			"type": p.TriggerType, "received_at": at,
			"actor": map[string]any{"login": p.ActorLogin, "avatar_url": nil},
		},
	}
	if len(p.Parameters) > 0 && !p.NoVCS {
		out["trigger_parameters"] = p.Parameters
	}
	if p.NoVCS {
		out["trigger_parameters"] = map[string]any{"circleci": map[string]any{"event_type": p.Event, "provider_login": p.ActorLogin}}
		return out
	}
	vcs := map[string]any{
		"provider_name": p.project.Provider, "origin_repository_url": p.OriginURL, "target_repository_url": p.project.VCSURL,
		"revision": p.Revision, "commit": map[string]any{"subject": p.Subject, "body": ""},
	}
	if p.Tag != "" {
		vcs["tag"] = p.Tag
	} else {
		vcs["branch"] = p.Branch
	}
	out["vcs"] = vcs
	return out
}

// valuesBody names the commit for every kind of project; numbers are numbers.
func (s *Server) valuesBody(p *pipeline) any {
	out := map[string]any{
		"pipeline.id": p.ID, "pipeline.number": p.Number, "pipeline.project.git_url": p.project.VCSURL,
		"pipeline.project.type": strings.ToLower(p.project.Provider), "pipeline.git.revision": p.Revision,
		"pipeline.trigger_source": p.TriggerType,
	}
	if p.Tag != "" {
		out["pipeline.git.tag"] = p.Tag
	} else {
		out["pipeline.git.branch"] = p.Branch
	}
	given := map[string]string{
		"config_source": p.ConfigSource, "config.sha": p.ConfigRevision, "config.repository.url": p.ConfigRepository,
	}
	if p.NoVCS {
		given["git.commit.subject"], given["event.name"], given["event.context.github.pr_url"] = p.Subject, p.Event, p.PullRequest
		given["git.repo_url"] = p.RepoURL
	}
	for name, value := range given {
		if value != "" {
			out["pipeline."+name] = value
		}
	}
	if s.opts.ListDefaults {
		for name, value := range p.Defaults {
			out["pipeline.parameters."+name] = value
		}
	}
	for name, value := range p.Parameters {
		out["pipeline.parameters."+name] = value
	}
	return out
}

func configBody(p *pipeline) any {
	// What CircleCI makes of a configuration is of no use here.
	out := map[string]any{"source": p.Config, "compiled": p.Config}
	if p.SetupConfig != "" {
		out["setup-config"], out["compiled-setup-config"] = p.SetupConfig, p.SetupConfig
	}
	return out
}
