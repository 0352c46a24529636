package approvals

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// Request asks to deploy one commit of one app to one environment: one workflow,
// one gate. All of it but Version, Metadata and [Seen] is what its events say;
// [Request.Apply] is the only function that changes it. Its row leaves zero values
// out: it is read much more often than it is written, and most of it stays zero.
type Request struct {
	ID      string
	Number  int64
	Version int64 // compare-and-set counter of the row; 0 = not stored yet
	Seq     int64 // number of the newest event

	App         string
	Environment string // "default" when CI named none
	Status      Status
	Asked
	// Metadata is ci_metadata as CI sent it, compact. The log holds only its hash.
	Metadata json.RawMessage

	Round     int        `json:",omitzero"` // of votes, from 1; Retry starts another
	Decisions []Decision `json:",omitzero"` // of the current round

	Commits *Commits `json:",omitzero"` // what the code host says; nil = nothing yet
	Gate    Gate     `json:",omitzero"`
	Attempt Attempt  `json:",omitzero"`
	Closing Closing  `json:",omitzero"`
	Deploy  Deploy   `json:",omitzero"`
	Failure Failure  `json:",omitzero"`

	// Restored: approved in a backup that was restored. What happened since is for
	// the provider to say.
	Restored     bool     `json:",omitzero"`
	SupersededBy string   `json:",omitzero"` // id of the request that took this one's place
	NewerFlows   []string `json:",omitzero"` // workflows of the pipeline whose gate was seen to wait without a request

	CreatedAt  time.Time     `json:",omitzero"`
	RemindedAt time.Time     `json:",omitzero"` // when people were reminded of it
	ApprovedAt time.Time     `json:",omitzero"` // of the current round
	Window     time.Duration `json:",omitzero"` // how long the newest approval can be used
	ReleasedAt time.Time     `json:",omitzero"`
	ClosedAt   time.Time     `json:",omitzero"`
	DecidedBy  string        `json:",omitzero"` // who rejected, withdrew or cancelled, for people

	Seen `json:"-"`
}

// Seen is what was merely observed of a request. It decides nothing, and what
// is lost of it is found out again.
type Seen struct {
	Slack      SlackRef
	Shown      string    // names what the card showed when it was last changed
	Told       int64     // number of the newest event that the thread tells; -1 = none
	PostFailed string    // why the card could not be posted yet
	GateStatus JobStatus // of the gate at the newest look
}

// Requester is the token that filed a request and, as far as the CI provider
// tells, the person behind it.
type Requester struct {
	TokenID   string `json:"token_id"`
	TokenName string `json:"token_name"`
	Actor     string `json:"actor,omitempty"`
}

// IsJob reports whether a CI job filed the request that proved who it is. Its name
// is for the log; people know the job by its pipeline.
func (q Requester) IsJob() bool { return strings.HasPrefix(q.TokenID, jobPrefix) }

// Action is what a person decides.
type Action string

// The actions of a person. Break-glass is the emergency release: one person
// decides alone, in a freeze and for their own deploy, too.
const (
	ActionApprove    Action = "approve"
	ActionReject     Action = "reject"
	ActionBreakGlass Action = "break_glass"
)

// SelfApproval says whether somebody who set the workflow off approved it.
type SelfApproval string

// Values of [SelfApproval]. It is unknown when nobody on record set it off.
const (
	SelfYes     SelfApproval = "true"
	SelfNo      SelfApproval = "false"
	SelfUnknown SelfApproval = "unknown"
)

// Decision is one accepted vote, the reject or the emergency release.
type Decision struct {
	Action    Action
	SlackUser string
	Name      string `json:"-"` // of the person, as known when it is read
	Seq       int64  // of its event
	At        time.Time
	MFA       string // "totp", or empty when no code was asked
	Reason    string
	NewAuth   time.Time // when the authenticator was enrolled, if this was its first approval
}

// SlackRef is where the card stands.
type SlackRef struct {
	Channel   string
	TS        string
	Permalink string
}

// Gate is what events say of the approval job.
type Gate struct {
	Status     JobStatus // how it ended; empty while no event says so
	ApprovedBy string    // login, or user id when the login cannot be read
	Bypassed   bool      // approved by somebody else after the request was closed
	Waiting    bool      // approved here, but not on hold there yet
	Silent     bool      // CircleCI has not answered for a while
	// Since is from when on the approval could be used: the gate was on hold and
	// CircleCI answered.
	Since time.Time
}

// Attempt is what is known of our approve calls.
type Attempt struct {
	Count  int       // calls in the current round
	At     time.Time // of the newest call
	Answer int       // HTTP status of the answer to it; 0 = none, or not known yet
	Detail string    // what CircleCI said with a refusal
	Said   string    // what the newest answer comes to; see [Event.answer]
	// NotBefore is when the next call may be made, as CircleCI asked; zero = at any time.
	NotBefore time.Time
	// IDs are the approval_request_ids that were named, in all rounds: a call may
	// take effect late.
	IDs []string
}

// Closing is what is known of our calls that stop a gate which will not be
// approved.
type Closing struct {
	Count  int
	At     time.Time
	Act    OnClose `json:",omitzero"` // what CircleCI was asked for, which may be more than the settings say
	Answer int     // HTTP status; 202 = accepted
	Said   string  // what the newest answer comes to; see [Event.answer]
}

// Accepted reports whether CircleCI took the newest call.
func (c Closing) Accepted() bool { return c.Answer >= 200 && c.Answer < 300 }

// Phase is how far a deploy is, as the deploy job or the job list says.
type Phase string

// The phases of a deploy.
const (
	PhaseStarted   Phase = "started"
	PhaseSucceeded Phase = "succeeded"
	PhaseFailed    Phase = "failed"
)

// Deploy is what became of the deploy behind the gate.
type Deploy struct {
	Phase      Phase
	StartedAt  time.Time
	FinishedAt time.Time
	Detail     string
	Reported   string // what the deploy job reported last
	// Asked is when the deploy job was told first in this round that it may deploy; zero = never.
	Asked time.Time
	// Stopped is when whoever asked for the deploy job was told last in this round that it
	// may not; zero = never.
	Stopped time.Time
}

// Failure says in a code and a sentence why a request did not get through.
type Failure struct {
	Code   string
	Detail string
}

// Codes of [Failure]: why a request ended without a deploy.
const (
	FailWithdrawn     = "withdrawn"
	FailCIEnded       = "workflow_ended"
	FailFactsChanged  = "facts_changed"
	FailForeignConfig = "config_not_from_commit"
	FailAppGone       = "app_removed"
	FailRefused       = "circleci_refused"
	FailCIGone        = "circleci_gone"
	FailQuorumLost    = "quorum_lost"
	FailDeploy        = "deploy_failed"
	FailCardNotPosted = "card_not_posted"
	FailNoDecision    = "not_decided"
	FailWindowOver    = "window_over"
	FailRolledBack    = "rolled_back"
)

// DefaultEnvironment is the name of an environment that nobody named.
const DefaultEnvironment = "default"

// ExpiresAt is when a pending request expires.
func (r Request) ExpiresAt() time.Time { return r.CreatedAt.Add(r.PendingTTL) }

// RetryUntil is when Retry is no longer offered.
func (r Request) RetryUntil() time.Time { return r.ExpiresAt() }

// ApprovalExpiresAt is when the approval can no longer be used; zero for a request
// that is not approved. Its window counts from when the approval could be used, from
// our call on while that may have taken effect, and from the release on for the deploy
// job's question.
func (r Request) ApprovalExpiresAt() time.Time {
	switch {
	case !r.ReleasedAt.IsZero():
		return r.ReleasedAt.Add(r.Window)
	case r.ApprovedAt.IsZero():
		return time.Time{}
	case r.Status == Approved && r.unresolved():
		return latest(r.usableUntil(), r.Attempt.At.Add(r.Window))
	}
	return r.usableUntil()
}

// usableUntil is when an approval that was not used ends. The time in which the gate
// could not be approved, or CircleCI did not answer, does not count against it.
func (r Request) usableUntil() time.Time {
	return sooner(latest(r.ApprovedAt, r.Gate.Since).Add(r.Window), r.lastChance())
}

// lastChance is when an approval that could not be used ends at the latest. Its
// window is never cut short.
func (r Request) lastChance() time.Time { return latest(r.RetryUntil(), r.ApprovedAt.Add(r.Window)) }

// windowOver reports whether an approval that could have been used was not.
func (r Request) windowOver(now time.Time) bool { return now.After(r.usableUntil()) }

// CanRetry reports whether a fresh round of votes may bring the request back.
func (r Request) CanRetry(now time.Time) bool {
	return r.retryable() && !now.After(r.RetryUntil())
}

// retryable leaves the time aside. Nothing comes of another round for a gate that is over.
func (r Request) retryable() bool {
	return r.Gate.Status == "" && (r.Status == Undeliverable || r.Status == Expired && !r.ApprovedAt.IsZero())
}

// ConfigChanged reports whether the CI configuration is another one than that of
// the last deploy to this place. known is false when one of both could not be
// read. The first deploy changes nothing.
func (a Asked) ConfigChanged() (changed, known bool) {
	switch {
	case a.Last == nil:
		return false, true
	case a.Last.Config == "" || a.Facts.Config == "":
		return false, false
	}
	return a.Last.Config != a.Facts.Config || a.Last.SetupConfig != a.Facts.SetupConfig, true
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
	return only(r.Decisions, func(d Decision) bool { return d.Action == ActionApprove })
}

// Emergency is the emergency release that decided the current round.
func (r Request) Emergency() (d Decision, ok bool) {
	i := slices.IndexFunc(r.Decisions, func(d Decision) bool { return d.Action == ActionBreakGlass })
	if ok = i >= 0; ok {
		d = r.Decisions[i]
	}
	return d, ok
}

// Deciding lists what the approval rests on: the emergency release alone or the
// votes of the current round.
func (r Request) Deciding() []Decision {
	if d, ok := r.Emergency(); ok {
		return []Decision{d}
	}
	return r.Approvals()
}

// voted reports whether a person has a vote in the current round that was not lost by
// their removal.
func (r Request) voted(p Person) bool {
	return slices.ContainsFunc(r.Approvals(), func(d Decision) bool { return d.SlackUser == p.SlackID && d.Seq > p.AddedSeq })
}

// ours reports whether an opened gate is our release: a call for this very gate
// was recorded, which always follows a decision, and the provider names our own
// user.
func (r Request) ours(gate Job, self string) bool {
	return self != "" && gate.ApprovedBy == self && slices.Contains(r.Attempt.IDs, gate.approvalID())
}

// unresolved reports whether a call of this round may still take effect: it was
// accepted, or its answer is not known.
func (r Request) unresolved() bool {
	return r.Attempt.Count > 0 && (r.Attempt.Answer < 400 || r.Attempt.Answer >= 500)
}

// sooner returns the earlier of two times, of which a zero one means never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
