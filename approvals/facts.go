package approvals

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/plain"
)

// Facts is what the CI provider itself says of a workflow. Nothing in it comes
// from the request.
type Facts struct {
	WorkflowID     string `json:"workflow_id"`
	WorkflowName   string `json:"workflow_name"`
	PipelineID     string `json:"pipeline_id"`
	PipelineNumber int64  `json:"pipeline_number"`
	Project        string `json:"project"`  // slug, normalised
	Revision       string `json:"revision"` // full, 40 hex digits
	Branch         string `json:"branch,omitempty"`
	Tag            string `json:"tag,omitempty"`
	Origin         string `json:"origin,omitempty"` // repository URLs; empty where the provider gives none
	Target         string `json:"target,omitempty"`
	Actor          string `json:"actor,omitempty"`         // VCS login of who triggered the pipeline
	ActorID        string `json:"actor_id,omitempty"`      // the same person's user id at the provider, where it names one
	StartedBy      string `json:"started_by,omitempty"`    // login of who started the workflow; empty when it cannot be read
	StartedByID    string `json:"started_by_id,omitempty"` // the same person's user id at the provider

	Trigger    string      `json:"trigger,omitempty"` // how the pipeline came to run: webhook, api, scheduled_pipeline, …
	Event      string      `json:"event,omitempty"`   // what was behind it, where the provider says so: push, custom_webhook, …
	Parameters *Parameters `json:"parameters,omitempty"`

	Subject     string `json:"subject,omitempty"`      // of the commit, cut
	PullRequest string `json:"pull_request,omitempty"` // its number

	Config           Digest `json:"config_sha256"`                 // of the pipeline's configuration
	SetupConfig      Digest `json:"setup_config_sha256,omitempty"` // of that of its setup workflow, if it had one
	ConfigSource     string `json:"config_source,omitempty"`       // where the provider says the configuration comes from; begins with api when it was sent through the API
	ConfigRevision   string `json:"config_revision,omitempty"`     // the commit that it was read from, where the provider says so
	ConfigRepository string `json:"config_repository,omitempty"`   // likewise the URL of the repository
	ConfigPath       string `json:"config_path,omitempty"`         // likewise the file

	// WorkflowStatus and CanceledBy change with time and are not part of the hash.
	WorkflowStatus WorkflowStatus `json:"-"`
	CanceledBy     string         `json:"-"` // login of who cancelled the workflow, or the user id when the login cannot be read
}

// Digest is a SHA-256 in hex. It is null in JSON while it is not known.
type Digest string

// DigestOf is the digest of a text; an empty one is not known.
func DigestOf(text string) Digest { return Digest(hashOf([]byte(text))) }

// MarshalJSON gives null for the empty digest.
func (d Digest) MarshalJSON() ([]byte, error) {
	if d == "" {
		return []byte("null"), nil
	}
	return json.Marshal(string(d))
}

// Parameters are those of a pipeline.
type Parameters struct {
	List []string `json:"list,omitempty"` // those other than the defaults as name=value, sorted, each cut
	More int      `json:"more,omitempty"` // how many others are not in the list
	Hash Digest   `json:"sha256"`         // of all, the defaults included
}

// Bounds of [Parameters].
const (
	maxParameter  = 80    // characters of one
	maxParameters = 1_000 // bytes of all in the list
)

// NewParameters bounds what a pipeline was given; nil for nothing. usual says
// whether a value is the default.
func NewParameters(given map[string]string, usual func(name, value string) bool) *Parameters {
	if len(given) == 0 {
		return nil
	}
	all, err := json.Marshal(given) // sorted by name
	if err != nil {
		panic(err) // strings always marshal
	}
	p := &Parameters{Hash: Digest(hashOf(all))}
	room := maxParameters
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if usual(name, given[name]) {
			continue
		}
		text := plain.Line(name+"="+given[name], maxParameter)
		quoted, err := json.Marshal(text)
		if room -= len(quoted); err != nil || room < 0 {
			p.More++
			continue
		}
		p.List = append(p.List, text)
	}
	return p
}

// hash is that of all parameters, "" of none.
func (p *Parameters) hash() Digest {
	if p == nil {
		return ""
	}
	return p.Hash
}

// ConfigElsewhere says where the pipeline's configuration is known to come from,
// if that is not its commit; "" when nothing says so.
func (f Facts) ConfigElsewhere() string {
	switch {
	case strings.HasPrefix(f.ConfigSource, "api"):
		return "it was sent through the API"
	case f.ConfigRepository != "" && f.Target != "" && !sameRepository(f.ConfigRepository, f.Target):
		return "it comes from the repository " + f.ConfigRepository
	case f.ConfigRevision != "" && !strings.EqualFold(f.ConfigRevision, f.Revision):
		return "it comes from the commit " + f.ConfigRevision
	}
	return ""
}

// Hash names the facts in the log: SHA-256 over their JSON, hex.
func (f Facts) Hash() string {
	b, err := json.Marshal(f)
	if err != nil {
		panic(err) // strings and numbers always marshal
	}
	return hashOf(b)
}

// Starters lists the known VCS logins of those who set the workflow off.
func (f Facts) Starters() []string {
	named := only([]string{f.Actor, f.StartedBy}, func(login string) bool { return login != "" })
	return slices.CompactFunc(named, strings.EqualFold)
}

// starter names whoever set the workflow off, "" when nobody is named.
func (f Facts) starter() string { return cmp.Or(f.Actor, f.StartedBy) }

// Push reports whether a push or a pull request at the code host set the pipeline off.
func (f Facts) Push() bool {
	if f.Event == "" {
		return slices.Contains([]string{"webhook", "github_app", "github", "gitlab", "bitbucket", "bitbucket_dc"}, f.Trigger)
	}
	return f.Event == "push" || f.Event == "pull_request"
}

// triggers are the words that allowed_triggers must have, all of them. The provider
// calls a custom webhook a webhook, like a push, so that its event counts as well.
func (f Facts) triggers() []string {
	if f.Event == "" || f.Event == "push" || f.Event == "pull_request" || f.Event == f.Trigger || f.Scheduled() && f.Event == "schedule" {
		return []string{f.Trigger}
	}
	return []string{f.Trigger, f.Event}
}

// Scheduled reports whether no person set the pipeline off.
func (f Facts) Scheduled() bool { return strings.Contains(f.Trigger, "schedule") }

// StartedByLogin reports whether login set the workflow off, ignoring case.
func (f Facts) StartedByLogin(login string) bool {
	return slices.ContainsFunc(f.Starters(), func(s string) bool { return strings.EqualFold(s, login) })
}

// startedBy reports whether a person set the workflow off, by login or by user id.
func (f Facts) startedBy(p Person) bool {
	return p.VCSLogin != "" && f.StartedByLogin(p.VCSLogin) ||
		p.CircleID != "" && (p.CircleID == f.StartedByID || p.CircleID == f.ActorID)
}

// Fork reports whether the commit comes from another repository than the project's.
// Where the provider does not say from which, that of a pull request may.
func (f Facts) Fork() bool {
	if f.Origin == "" || f.Target == "" {
		return strings.HasPrefix(f.Branch, "pull/")
	}
	return !sameRepository(f.Origin, f.Target)
}

// sameRepository compares the URLs of two repositories.
func sameRepository(a, b string) bool {
	return strings.EqualFold(strings.TrimSuffix(a, ".git"), strings.TrimSuffix(b, ".git"))
}

// line is the branch or tag line in which a newer request supersedes an older one.
func (f Facts) line() string {
	if f.Tag != "" {
		return "tag"
	}
	return "branch:" + f.Branch
}

// differs says which fact changed between two readings, "" when none did.
func (f Facts) differs(now Facts) string {
	switch {
	case f.WorkflowID != now.WorkflowID:
		return "workflow"
	case f.PipelineID != now.PipelineID, f.PipelineNumber != now.PipelineNumber:
		return "pipeline"
	case !strings.EqualFold(f.Project, now.Project):
		return "project"
	case f.Revision != now.Revision:
		return "revision"
	case f.Branch != now.Branch, f.Tag != now.Tag:
		return "branch or tag"
	case f.Origin != now.Origin, f.Target != now.Target:
		return "repository"
	case changed(f.Actor, now.Actor), changed(f.StartedByID, now.StartedByID), f.StartedByID == "" && changed(f.StartedBy, now.StartedBy):
		return "starter"
	case changed(f.Trigger, now.Trigger), f.Parameters.hash() != now.Parameters.hash():
		return "trigger or parameters"
	case changed(f.Config, now.Config), changed(f.SetupConfig, now.SetupConfig), f.ConfigElsewhere() == "" && now.ConfigElsewhere() != "":
		return "configuration"
	}
	return ""
}

// changed reports whether something is another one. What could not be read is
// unknown, which is no change.
func changed[T ~string](before, now T) bool { return before != "" && now != "" && before != now }

// Job is one job of a workflow as the provider lists it.
type Job struct {
	ID                string
	Name              string
	Type              string // "approval" for a gate
	Status            JobStatus
	Project           string
	Needs             map[string][]string // job id → statuses that satisfy the need
	ApprovalRequestID string
	ApprovedBy        string    // user id
	CanceledBy        string    // user id
	StoppedAt         time.Time // zero = the provider does not say
}

// IsGate reports whether the job waits for a person.
func (j Job) IsGate() bool { return j.Type == "approval" }

// approvalID is what the approve call takes. In real lists it equals the job's id.
func (j Job) approvalID() string { return cmp.Or(j.ApprovalRequestID, j.ID) }

func jobNames(jobs []Job) (names []string) {
	for _, j := range jobs {
		names = append(names, j.Name)
	}
	return names
}

// findGate returns the one approval job called name.
func findGate(jobs []Job, name string) (Job, *Error) {
	gates := only(jobs, Job.IsGate)
	switch found := only(gates, func(j Job) bool { return j.Name == name }); {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return Job{}, refuse(CodeGateAmbiguous, "%d approval jobs are called '%s' in the workflow: give each gate a name of its own", len(found), name)
	case len(gates) == 0:
		return Job{}, refuse(CodeGateNotFound, "approval job '%s' not found in workflow: it has no job of type approval", name)
	}
	return Job{}, refuse(CodeGateNotFound, "approval job '%s' not found in workflow; its approval jobs are: %s", name, strings.Join(jobNames(gates), ", "))
}

// JobStatus is the status of a job. The provider may answer with statuses that are not listed here.
type JobStatus string

// Statuses of a job that CircleCI documents. The others say that it is not over.
const (
	JobSuccess            JobStatus = "success"
	JobRunning            JobStatus = "running"
	JobNotRun             JobStatus = "not_run"
	JobFailed             JobStatus = "failed"
	JobInfrastructureFail JobStatus = "infrastructure_fail"
	JobTimedOut           JobStatus = "timedout"
	JobOnHold             JobStatus = "on_hold"
	JobTerminatedUnknown  JobStatus = "terminated-unknown"
	JobBlocked            JobStatus = "blocked"
	JobCanceled           JobStatus = "canceled"
	JobUnauthorized       JobStatus = "unauthorized"
)

// Final reports whether a job with this status does not change any more. An
// unknown status is never final.
func (s JobStatus) Final() bool { return s == JobSuccess || s == JobNotRun || s.Failed() }

// Failed reports whether the job ended without having done its work.
func (s JobStatus) Failed() bool {
	failed := []JobStatus{JobFailed, JobCanceled, JobTimedOut, JobInfrastructureFail, JobUnauthorized, JobTerminatedUnknown}
	return slices.Contains(failed, s)
}

// WorkflowStatus is the status of a workflow. The provider may answer with statuses that are not listed here.
type WorkflowStatus string

// Statuses of a workflow that CircleCI documents. The others say that it goes on.
const (
	WorkflowSuccess      WorkflowStatus = "success"
	WorkflowRunning      WorkflowStatus = "running"
	WorkflowNotRun       WorkflowStatus = "not_run"
	WorkflowFailed       WorkflowStatus = "failed"
	WorkflowError        WorkflowStatus = "error"
	WorkflowCanceled     WorkflowStatus = "canceled"
	WorkflowUnauthorized WorkflowStatus = "unauthorized"
)

// Final reports whether a workflow with this status does not go on any more. An
// unknown status is never final.
func (s WorkflowStatus) Final() bool {
	over := []WorkflowStatus{WorkflowSuccess, WorkflowFailed, WorkflowCanceled, WorkflowError, WorkflowUnauthorized, WorkflowNotRun}
	return slices.Contains(over, s)
}
