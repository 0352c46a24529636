package webhook

import (
	"encoding/json"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
)

// Base is the path that all routes of the API begin with.
const Base = "/api/v1"

const requestsPath = Base + "/deploy-approval-requests"

// Text is a string that is null in JSON when it is empty.
type Text string

// MarshalJSON gives null for the empty text.
func (t Text) MarshalJSON() ([]byte, error) {
	if t == "" {
		return []byte("null"), nil
	}
	return json.Marshal(string(t))
}

// Request is the request object of the API. Absent times and texts are null,
// times are RFC 3339 in UTC, lists are never null.
type Request struct {
	ID                string           `json:"id"`
	Number            int64            `json:"number"`
	App               string           `json:"app"`
	Environment       string           `json:"environment"`
	Status            approvals.Status `json:"status"`
	GitCommit         string           `json:"git_commit"` // the full revision, from CircleCI
	Branch            Text             `json:"branch"`
	Tag               Text             `json:"tag"`
	Message           Text             `json:"message"`
	Metadata          json.RawMessage  `json:"ci_metadata"` // as CI sent it
	Requester         Requester        `json:"requester"`
	Pipeline          Pipeline         `json:"pipeline"`
	Gate              Gate             `json:"gate"`
	Slack             Slack            `json:"slack"`
	RequiredApprovals int              `json:"required_approvals"`
	Decisions         []Decision       `json:"decisions"` // of the current round
	CreatedAt         *time.Time       `json:"created_at"`
	ExpiresAt         *time.Time       `json:"expires_at"`
	ApprovedAt        *time.Time       `json:"approved_at"`
	ApprovalExpiresAt *time.Time       `json:"approval_expires_at"`
	ReleasedAt        *time.Time       `json:"released_at"`
	ClosedAt          *time.Time       `json:"closed_at"`
	Deploy            Deploy           `json:"deploy"`
	Failure           Failure          `json:"failure"`
}

// Requester is the name of the token that asked, and the VCS login of who
// started the pipeline.
type Requester struct {
	Token string `json:"token"`
	Actor Text   `json:"actor"`
}

// Pipeline is what CircleCI runs. The links are built here, never taken over.
type Pipeline struct {
	Number      int64  `json:"number"`
	URL         Text   `json:"url"`
	WorkflowID  string `json:"workflow_id"`
	WorkflowURL Text   `json:"workflow_url"`
}

// Gate is the approval job as it was last seen.
type Gate struct {
	JobName    string `json:"job_name"`
	Status     Text   `json:"status"`
	ApprovedBy Text   `json:"approved_by"`
}

// Slack is where the card stands; all null while it is not posted.
type Slack struct {
	Channel   Text `json:"channel"`
	TS        Text `json:"ts"`
	Permalink Text `json:"permalink"`
}

// Decision is one accepted vote, or the reject.
type Decision struct {
	Action    string     `json:"action"` // approve, reject or break_glass
	SlackUser string     `json:"slack_user"`
	Name      Text       `json:"name"`
	At        *time.Time `json:"at"`
	MFA       Text       `json:"mfa"`
	Reason    Text       `json:"reason"`
}

// Deploy is what became of the deploy behind the gate.
type Deploy struct {
	Phase      Text       `json:"phase"`
	StartedAt  *time.Time `json:"started_at"`
	FinishedAt *time.Time `json:"finished_at"`
	Detail     Text       `json:"detail"`
}

// Failure says why a request did not get through; all null when nothing failed.
type Failure struct {
	Code   Text `json:"code"`
	Detail Text `json:"detail"`
}

// Page is one page of a list, newest first.
type Page struct {
	Requests   []Request `json:"requests"`
	NextCursor Text      `json:"next_cursor"` // null on the last page
}

// History is all that happened to a request, oldest first.
type History struct {
	Events []approvals.Event `json:"events"`
}

// Verified is the answer that a workflow may deploy, with the proof that its
// approval is in the log.
type Verified struct {
	Request Request        `json:"request"`
	Receipt ledger.Receipt `json:"receipt"`
}

// CreateBody asks for an approval.
type CreateBody struct {
	App         string          `json:"app"`
	Environment string          `json:"environment,omitempty"`
	GitCommit   string          `json:"git_commit"` // 7 to 40 hex digits
	Branch      string          `json:"branch,omitempty"`
	Tag         string          `json:"tag,omitempty"`
	Message     string          `json:"message,omitempty"`
	Metadata    json.RawMessage `json:"ci_metadata"` // an object; workflow_id is required in it
}

// VerifyBody names what is about to be deployed.
type VerifyBody struct {
	App         string `json:"app"`
	Environment string `json:"environment,omitempty"`
	GitCommit   string `json:"git_commit"`
	WorkflowID  string `json:"workflow_id"`
}

// DeployBody reports what the deploy job does. It never decides the outcome.
type DeployBody struct {
	Phase  string `json:"phase"` // started, succeeded or failed
	Detail string `json:"detail,omitempty"`
	JobID  string `json:"job_id,omitempty"`
}

// CancelBody says why a request is withdrawn.
type CancelBody struct {
	Reason string `json:"reason,omitempty"`
}
