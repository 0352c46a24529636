package approvals

import (
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/totp"
)

// Person is somebody who may decide. All of it but Name and Standing is what
// their events say.
type Person struct {
	SlackID  string
	Name     string `json:",omitzero"` // for people; not part of the log, so that it can be erased
	VCSLogin string `json:",omitzero"`
	// CircleID is the user id at the CI provider of whoever started a workflow under
	// this login first. It stays when the login changes there.
	CircleID  string `json:",omitzero"`
	AddedAt   time.Time
	AddedSeq  int64     // number of the event that added them last: older votes do not count
	RemovedAt time.Time `json:",omitzero"` // zero = active admin
	Enrolled  bool      `json:",omitzero"` // has an authenticator
	Seq       int64     // number of the newest event

	Standing Standing `json:"-"` // observed, and sealed on its own
}

// Standing is what Slack said of somebody, and when.
type Standing struct {
	CheckedAt time.Time
	Problem   string // why not a full, active member of the workspace; empty = fine
}

// Group is a user group as Slack described it.
type Group struct {
	ID        string
	Members   []string
	CheckedAt time.Time
	Problem   string // why it cannot be used, such as disabled
}

// Authenticator is a person's second factor. The whole of it is sealed, and the
// sealed head of the log names its Version, so that neither the secret nor what
// was used of it can be put back to an older state.
type Authenticator struct {
	Secret     totp.Secret   `json:"-"`
	Version    int64         `json:"version"` // counts how often it was stored
	EnrolledAt time.Time     `json:"enrolled_at"`
	EnrolledBy string        `json:"enrolled_by"` // how: page, terminal, import
	FirstUsed  time.Time     `json:"first_used"`
	LastStep   int64         `json:"last_step"` // newest accepted time step; codes up to it are used
	Throttle   totp.Throttle `json:"throttle"`
}
