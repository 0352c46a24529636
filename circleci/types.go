package circleci

import "time"

// User is a person or machine user.
type User struct{ ID, Login, Name string }

// Workflow is one run of a workflow. A rerun is another Workflow of the same pipeline.
type Workflow struct {
	ID, Name       string
	Status         string // open set: success, running, on_hold, failing, …; unknown ones are not terminal
	PipelineID     string
	PipelineNumber int64
	ProjectSlug    string
	StartedBy      string // user id
	CanceledBy     string // user id; empty unless cancelled
	Tag            string // "setup" for a setup workflow
	CreatedAt      time.Time
	StoppedAt      *time.Time
}

// Job is one job of a workflow; a gate is a job of type "approval".
type Job struct {
	ID, Name          string
	Type              string // open set: build, approval, …
	Status            string // open set: success, running, blocked, on_hold, canceled, …
	ProjectSlug       string
	Number            int64 // 0 for jobs without one, such as gates
	Dependencies      []string
	Requires          map[string][]string // by job id: the statuses that satisfy the dependency
	ApprovalRequestID string              // may be missing while a gate is blocked
	ApprovedBy        string              // user id
	CanceledBy        string              // user id
	StartedAt         *time.Time          // nil for gates, and before the start
	StoppedAt         *time.Time
}

// Pipeline is one trigger of a project's configuration.
type Pipeline struct {
	ID          string
	Number      int64
	ProjectSlug string
	TriggerType string // webhook, api, explicit, scheduled_pipeline, …
	ActorLogin  string
	CreatedAt   time.Time
	VCS         *VCS // nil for GitHub App, GitLab and Bitbucket Data Center projects: see Client.PipelineValues
}

// VCS is the commit that a pipeline runs. Branch and Tag exclude each other.
type VCS struct {
	Provider  string
	OriginURL string // where the trigger came from; differs from TargetURL for a fork
	TargetURL string
	Revision  string
	Branch    string
	Tag       string
	Subject   string // first line of the commit message
}

// Project is a project and its repository.
type Project struct{ ID, Slug, Name, VCSURL, Provider, DefaultBranch string }
