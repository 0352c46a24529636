package circleci

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"
	"unicode"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// The longest texts that are taken over from an answer, in bytes. The bound on the facts as a whole is measured as JSON,
// where one character can take six bytes: it leaves half of an event, which takes 16 KiB, to everything else.
const (
	maxName  = 300   // of a job or a workflow
	maxRef   = 1_024 // a branch or a tag
	maxURL   = 2_048
	maxLogin = 100
	maxWord  = 100 // a status, a type, a revision and the like
	maxFacts = 8 << 10

	maxSubject = 120       // characters of a commit's subject; what is longer is cut
	maxConfig  = 8 << 20   // bytes of a configuration, with what CircleCI made of it
	maxParsed  = 256 << 10 // bytes of a configuration that is read for its defaults
)

// bounded says what is wrong with a text of an answer; it is empty when the text can be used.
func bounded(what, text string, most int) string {
	switch {
	case len(text) > most:
		return fmt.Sprintf("%s is longer than %d bytes", what, most)
	case strings.ContainsFunc(text, unicode.IsControl):
		return what + " holds control characters"
	}
	return ""
}

// wireTime takes what the API sends where a time may be missing: RFC 3339, null, an empty text or nothing.
type wireTime struct{ time.Time }

func (t *wireTime) UnmarshalJSON(data []byte) error {
	if string(data) == `""` {
		return nil
	}
	return t.Time.UnmarshalJSON(data)
}

// wireObject is what all objects of the API have.
type wireObject struct {
	ID string `json:"id"`
}

func (o wireObject) id() string    { return o.ID }
func (o wireObject) fault() string { return "" }

type wireUser struct {
	wireObject
	Login string `json:"login"`
}

func (u wireUser) fault() string { return bounded("the login", u.Login, maxLogin) }

type wireWorkflow struct {
	wireObject
	Name        string                   `json:"name"`
	Status      approvals.WorkflowStatus `json:"status"`
	PipelineID  string                   `json:"pipeline_id"`
	ProjectSlug string                   `json:"project_slug"`
	StartedBy   string                   `json:"started_by"`
	CanceledBy  string                   `json:"canceled_by"`
	Tag         string                   `json:"tag"` // "setup" for a setup workflow
	CreatedAt   wireTime                 `json:"created_at"`
	StoppedAt   wireTime                 `json:"stopped_at"`
}

func (w wireWorkflow) fault() string {
	if !approvals.IsUUID(w.PipelineID) || w.Status == "" {
		return "the workflow has no status or no pipeline id"
	}
	return cmp.Or(
		bounded("the name of the workflow", w.Name, maxName), bounded("the status of the workflow", string(w.Status), maxWord),
		bounded("the user id of the starter", w.StartedBy, maxWord), bounded("the user id of the canceller", w.CanceledBy, maxWord),
	)
}

type wireJob struct {
	wireObject
	Name              string              `json:"name"`
	Type              string              `json:"type"`
	Status            approvals.JobStatus `json:"status"`
	ProjectSlug       string              `json:"project_slug"`
	Dependencies      []string            `json:"dependencies"`
	Requires          map[string][]string `json:"requires"`
	ApprovalRequestID string              `json:"approval_request_id"` // may be missing while a gate is blocked
	ApprovedBy        string              `json:"approved_by"`
	CanceledBy        string              `json:"canceled_by"`
	StoppedAt         wireTime            `json:"stopped_at"`
}

func (j wireJob) fault() string {
	switch {
	case j.Name == "" || j.Type == "" || j.Status == "":
		return "the job has no name, type or status"
	case j.ApprovalRequestID != "" && !approvals.IsUUID(j.ApprovalRequestID):
		return "the approval request id of the job is not a UUID"
	}
	return cmp.Or(
		bounded("the name of the job", j.Name, maxName), bounded("the type of the job", j.Type, maxWord),
		bounded("the status of the job", string(j.Status), maxWord), bounded("the project of the job", j.ProjectSlug, maxName),
		bounded("the user id of the approver", j.ApprovedBy, maxWord), bounded("the user id of the canceller", j.CanceledBy, maxWord),
	)
}

func (j wireJob) job() approvals.Job {
	needs := make(map[string][]string, len(j.Dependencies))
	for _, id := range j.Dependencies {
		needs[id] = nil
	}
	maps.Copy(needs, j.Requires)
	slug, err := NormalizeSlug(j.ProjectSlug)
	if err != nil {
		slug = j.ProjectSlug // the job is of no project that we know
	}
	return approvals.Job{
		ID: j.ID, Name: j.Name, Type: j.Type, Status: j.Status, Project: slug, Needs: needs,
		ApprovalRequestID: j.ApprovalRequestID, ApprovedBy: j.ApprovedBy, CanceledBy: j.CanceledBy, StoppedAt: j.StoppedAt.Time,
	}
}

type wirePipeline struct {
	wireObject
	Number    int64    `json:"number"`
	CreatedAt wireTime `json:"created_at"`
	Trigger   struct {
		Type  string `json:"type"`
		Actor struct {
			Login string `json:"login"`
		} `json:"actor"`
	} `json:"trigger"`
	VCS struct {
		OriginURL string `json:"origin_repository_url"` // differs from TargetURL for a fork
		TargetURL string `json:"target_repository_url"`
		Revision  string `json:"revision"`
		Branch    string `json:"branch"`
		Tag       string `json:"tag"`
		ReviewID  string `json:"review_id"`
		Commit    struct {
			Subject string `json:"subject"`
		} `json:"commit"`
	} `json:"vcs"`
	// TriggerParameters are those that were given when the pipeline was started. Objects among them are what the
	// provider says of the event.
	TriggerParameters wireValues `json:"trigger_parameters"`
}

func (p wirePipeline) fault() string {
	if p.CreatedAt.IsZero() {
		return "the pipeline has no time"
	}
	return ""
}

// wireValues are the values of a pipeline by name, such as pipeline.git.revision, or its parameters: as text, numbers and
// booleans as they were sent, because a branch may be called 2026. Objects, lists and null are left out.
// Source: https://github.com/CircleCI-Public/expr, domains/resources/…/pipeline-values.yml
type wireValues map[string]string

// of is a value, empty when there is none.
func (v wireValues) of(name string) string { return v["pipeline."+name] }

func (v *wireValues) UnmarshalJSON(data []byte) error {
	var all map[string]json.RawMessage
	err := json.Unmarshal(data, &all)
	*v = wireValues{}
	for name, raw := range all {
		text := string(raw)
		if raw[0] == '"' {
			err = errors.Join(err, json.Unmarshal(raw, &text))
		}
		if !strings.ContainsRune("{[n", rune(raw[0])) {
			(*v)[name] = text
		}
	}
	return err
}

// wireConfig is the configuration of a pipeline.
type wireConfig struct {
	Source string `json:"source"`
	// Setup is the configuration of a setup workflow, which the pipeline began with; Source is then what it went on with.
	Setup string `json:"setup-config"`
}
