package circleci

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// wireTime takes what the API sends where a time may be missing: RFC 3339, null or nothing.
type wireTime struct{ *time.Time }

func (t *wireTime) UnmarshalJSON(data []byte) error {
	if string(data) == "null" || string(data) == `""` {
		t.Time = nil
		return nil
	}
	var at time.Time
	if err := json.Unmarshal(data, &at); err != nil {
		return fmt.Errorf("read time: %w", err)
	}
	t.Time = &at
	return nil
}

type wireWorkflow struct {
	ID             string   `json:"id"`
	Name           string   `json:"name"`
	Status         string   `json:"status"`
	PipelineID     string   `json:"pipeline_id"`
	PipelineNumber int64    `json:"pipeline_number"`
	ProjectSlug    string   `json:"project_slug"`
	StartedBy      string   `json:"started_by"`
	CanceledBy     string   `json:"canceled_by"`
	Tag            string   `json:"tag"`
	CreatedAt      wireTime `json:"created_at"`
	StoppedAt      wireTime `json:"stopped_at"`
}

func (w wireWorkflow) workflow() Workflow {
	out := Workflow{
		ID: w.ID, Name: w.Name, Status: w.Status, PipelineID: w.PipelineID, PipelineNumber: w.PipelineNumber,
		ProjectSlug: w.ProjectSlug, StartedBy: w.StartedBy, CanceledBy: w.CanceledBy, Tag: w.Tag,
		StoppedAt: w.StoppedAt.Time,
	}
	if w.CreatedAt.Time != nil {
		out.CreatedAt = *w.CreatedAt.Time
	}
	return out
}

type wireJob struct {
	ID                string              `json:"id"`
	Name              string              `json:"name"`
	Type              string              `json:"type"`
	Status            string              `json:"status"`
	ProjectSlug       string              `json:"project_slug"`
	Number            int64               `json:"job_number"`
	Dependencies      []string            `json:"dependencies"`
	Requires          map[string][]string `json:"requires"`
	ApprovalRequestID string              `json:"approval_request_id"`
	ApprovedBy        string              `json:"approved_by"`
	CanceledBy        string              `json:"canceled_by"`
	StartedAt         wireTime            `json:"started_at"`
	StoppedAt         wireTime            `json:"stopped_at"`
}

func (j wireJob) job() Job {
	return Job{
		ID: j.ID, Name: j.Name, Type: j.Type, Status: j.Status, ProjectSlug: j.ProjectSlug, Number: j.Number,
		Dependencies: j.Dependencies, Requires: j.Requires, ApprovalRequestID: j.ApprovalRequestID,
		ApprovedBy: j.ApprovedBy, CanceledBy: j.CanceledBy, StartedAt: j.StartedAt.Time, StoppedAt: j.StoppedAt.Time,
	}
}

type wirePipeline struct {
	ID          string   `json:"id"`
	Number      int64    `json:"number"`
	ProjectSlug string   `json:"project_slug"`
	CreatedAt   wireTime `json:"created_at"`
	Trigger     struct {
		Type  string `json:"type"`
		Actor struct {
			Login string `json:"login"`
		} `json:"actor"`
	} `json:"trigger"`
	VCS *struct {
		Provider  string `json:"provider_name"`
		OriginURL string `json:"origin_repository_url"`
		TargetURL string `json:"target_repository_url"`
		Revision  string `json:"revision"`
		Branch    string `json:"branch"`
		Tag       string `json:"tag"`
		Commit    struct {
			Subject string `json:"subject"`
		} `json:"commit"`
	} `json:"vcs"`
}

func (p wirePipeline) pipeline() Pipeline {
	out := Pipeline{
		ID: p.ID, Number: p.Number, ProjectSlug: p.ProjectSlug, TriggerType: p.Trigger.Type, ActorLogin: p.Trigger.Actor.Login,
	}
	if p.CreatedAt.Time != nil {
		out.CreatedAt = *p.CreatedAt.Time
	}
	if v := p.VCS; v != nil {
		out.VCS = &VCS{
			Provider: v.Provider, OriginURL: v.OriginURL, TargetURL: v.TargetURL, Revision: v.Revision,
			Branch: v.Branch, Tag: v.Tag, Subject: v.Commit.Subject,
		}
	}
	return out
}

type wireProject struct {
	ID   string `json:"id"`
	Slug string `json:"slug"`
	Name string `json:"name"`
	VCS  struct {
		URL           string `json:"vcs_url"`
		Provider      string `json:"provider"`
		DefaultBranch string `json:"default_branch"`
	} `json:"vcs_info"`
}

func (p wireProject) project() Project {
	return Project{
		ID: p.ID, Slug: p.Slug, Name: p.Name, VCSURL: p.VCS.URL, Provider: p.VCS.Provider, DefaultBranch: p.VCS.DefaultBranch,
	}
}

// wireValues renders scalars as text, numbers digit by digit as they were sent.
type wireValues map[string]string

func (m *wireValues) UnmarshalJSON(data []byte) error {
	var raw map[string]any
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(&raw); err != nil {
		return fmt.Errorf("read values: %w", err)
	}
	*m = make(wireValues, len(raw))
	for name, v := range raw {
		switch v := v.(type) {
		case string:
			(*m)[name] = v
		case json.Number:
			(*m)[name] = v.String()
		case bool:
			(*m)[name] = fmt.Sprint(v)
		}
	}
	return nil
}
