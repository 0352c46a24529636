package approvals

import (
	"encoding/json"
	"time"
)

// Request asks to deploy one commit of one app to one environment: one workflow,
// one gate.
type Request struct {
	ID          string
	Number      int64
	Version     int64 // compare-and-set counter; 0 = not stored yet
	App         string
	Environment string // "default" when CI named none
	Status      Status
	Facts       Facts
	Message     string
	Metadata    json.RawMessage // ci_metadata as CI sent it, compact
	JobID       string          // the job that filed the request, if it said so
	Requester   Requester

	// What was agreed when the request was made; later changes of the settings
	// do not change it.
	Project           string
	GateName          string
	Channel           string
	PendingTTL        time.Duration
	AutoApprove       bool
	RequiredApprovals int
	OnClose           string

	Round     int        // vote round; Retry starts another
	Retrying  bool       // a fresh round has its first vote but not its quorum
	Decisions []Decision // of the current round

	Slack   SlackRef
	Gate    Gate
	Attempt Attempt
	// Restored: approved in a backup that was restored. What happened since is for
	// the provider to say.
	Restored bool
	Deploy   Deploy
	Failure  Failure

	SupersededBy string // id of the request that took this one's place
	NewerPending int64  // number of a newer request that is open, shown on the card
	LastDeployed string // full revision last deployed to this place when the request was made
	LastDeployAt time.Time

	CreatedAt         time.Time
	ExpiresAt         time.Time
	ApprovedAt        time.Time
	ApprovalExpiresAt time.Time
	ReleasedAt        time.Time
	ClosedAt          time.Time
	DecidedBy         string // who rejected, withdrew or cancelled, for people
}

// Requester is the token that filed a request and, as far as the CI provider
// tells, the person behind it.
type Requester struct {
	TokenID   string
	TokenName string
	Actor     string
}

// Decision is one accepted vote or the reject.
type Decision struct {
	Action    string // "approve" or "reject"
	SlackUser string
	Name      string
	At        time.Time
	MFA       string // "totp", or empty when no code was asked
	Reason    string
	NewAuth   time.Time // set when this was the first approval of a new authenticator
}

// SlackRef is where the card stands.
type SlackRef struct {
	Channel   string
	TS        string
	Permalink string
}

// Gate is the approval job as it was last seen.
type Gate struct {
	Status     JobStatus
	ApprovedBy string    // login, or user id when the login cannot be read
	Bypassed   bool      // approved by somebody else after the request was closed
	WaitedAt   time.Time // newest look since the decision that showed it waiting
	// AssumedAt: since then Status is what ought to have become of it, by our cancel
	// or by the end of its workflow, and no job list has shown it. Zero = it was seen.
	AssumedAt time.Time
}

// over reports whether the gate was seen to have ended.
func (g Gate) over() bool { return g.Status.Final() && g.AssumedAt.IsZero() }

// Attempt is what is known of our approve call in the current round.
type Attempt struct {
	Count       int
	At          time.Time // of the newest call
	ApprovalID  string    // approval_request_id that it named
	Earlier     string    // the same of an earlier round: such a call may take effect late
	Open        bool      // a call was recorded and no look-up has shown the gate on hold since
	LastBlocked time.Time // newest look-up that failed or did not show the gate on hold
	ToldDelay   bool      // the thread knows that CircleCI does not answer
	Refusal     string    // what the provider said when it refused, judged by the next look-up
	RefusalCode int
}

// Deploy is what became of the deploy behind the gate.
type Deploy struct {
	Phase      string // started, succeeded, failed
	StartedAt  time.Time
	FinishedAt time.Time
	Detail     string
}

// Failure says in a code and a sentence why a request did not get through.
type Failure struct {
	Code   string
	Detail string
}

// RetryUntil is when Retry is no longer offered, and when an approval that could
// not be attempted ends.
func (r Request) RetryUntil() time.Time { return r.CreatedAt.Add(r.PendingTTL) }

// lastChance is when an approval that could not be used ends at the latest: its
// window is never cut short.
func (r Request) lastChance() time.Time {
	if r.ApprovalExpiresAt.After(r.RetryUntil()) {
		return r.ApprovalExpiresAt
	}
	return r.RetryUntil()
}

// CanRetry reports whether a fresh vote round may bring the request back.
func (r Request) CanRetry(now time.Time) bool {
	return r.retryable() && !now.After(r.RetryUntil())
}

func (r Request) retryable() bool {
	return r.Status == Undeliverable || r.Status == Expired && !r.ApprovedAt.IsZero()
}

// Place names app and environment for people; the environment "default" is not named.
func (r Request) Place() string {
	if r.Environment == DefaultEnvironment {
		return r.App
	}
	return r.App + " to " + r.Environment
}

// Approvals lists the votes of the current round.
func (r Request) Approvals() []Decision {
	var votes []Decision
	for _, d := range r.Decisions {
		if d.Action == ActionApprove {
			votes = append(votes, d)
		}
	}
	return votes
}

// VotedBy reports whether the person has a vote in the current round.
func (r Request) VotedBy(slackUser string) bool {
	for _, d := range r.Approvals() {
		if d.SlackUser == slackUser {
			return true
		}
	}
	return false
}

// The two actions of a person.
const (
	ActionApprove = "approve"
	ActionReject  = "reject"
)

// DefaultEnvironment is the name of an environment that nobody named.
const DefaultEnvironment = "default"
