package approvals

import (
	"context"
	"errors"
	"time"
)

// CI is what the core needs of the CI provider. Failures are *[CIError].
type CI interface {
	// Facts reads a workflow, its pipeline and who started it. A login that
	// cannot be read is left empty.
	Facts(ctx context.Context, workflowID string) (Facts, error)
	// Jobs lists all jobs of a workflow.
	Jobs(ctx context.Context, workflowID string) ([]Job, error)
	// Workflows lists all workflows of a pipeline but set-up ones, oldest first.
	Workflows(ctx context.Context, pipelineID string) ([]WorkflowRef, error)
	// Approve asks to approve a gate. nil means accepted, not done: only Jobs tells.
	Approve(ctx context.Context, workflowID, approvalRequestID string) error
	// CancelJob and CancelWorkflow stop what waits. nil means accepted.
	CancelJob(ctx context.Context, jobID string) error
	CancelWorkflow(ctx context.Context, workflowID string) error
	// Self is our own user id.
	Self(ctx context.Context) (string, error)
	// Login is the login of a user id.
	Login(ctx context.Context, userID string) (string, error)
	// SameProject reports whether two slugs mean one project.
	SameProject(ctx context.Context, a, b string) (bool, error)
}

// Identity tells which CI job holds an OIDC token. Refusals are *[Error]: the code
// unauthorized with a Reason that names the check that failed, or unavailable
// while the keys of the issuer cannot be read. With [ReasonKey], unavailable says
// that the issuer may have a new one.
type Identity interface {
	Job(ctx context.Context, token string) (CIJob, error)
}

// CIJob is what the CI provider signed of one of its jobs. Texts that the token
// does not have are empty, but it always has the project and the workflow.
type CIJob struct {
	ProjectID  string
	WorkflowID string
	PipelineID string
	JobID      string
	Origin     string // host and path of the repository of the commit, such as github.com/org/repo
}

// ErrNotConnected says that a [Directory] does not know its workspace yet, as at a
// start.
var ErrNotConnected = errors.New("not connected yet")

// Directory tells who people and groups are in the workspace.
type Directory interface {
	// User returns the display name, and why the person is not a full, active
	// member of the workspace ("" when they are). [ErrNotConnected].
	User(ctx context.Context, id string) (name, problem string, err error)
	// Groups returns groups with their members, and why one cannot be used. An error
	// says why some or all of them are missing.
	Groups(ctx context.Context, ids []string) ([]Group, error)
}

// WorkflowRef is a workflow in a list.
type WorkflowRef struct {
	ID        string
	Name      string
	CreatedAt time.Time
	StoppedAt time.Time // zero = goes on
}

// PipelineRef is a pipeline in a list.
type PipelineRef struct {
	ID        string
	Number    int64
	CreatedAt time.Time
}
