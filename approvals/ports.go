package approvals

import (
	"context"
	"iter"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/totp"
)

// Store keeps everything durable. One writer at a time: what fn of Update reads
// cannot change before it commits. Update commits when fn returns nil and
// otherwise leaves no trace; when it returns nil, the change survives a power
// loss. fn may be called once only and must have no effect outside the
// transaction. View gives fn one consistent snapshot.
type Store interface {
	Update(ctx context.Context, fn func(Tx) error) error
	View(ctx context.Context, fn func(Tx) error) error
}

// Tx is one transaction. Values read are copies.
type Tx interface {
	Requests
	People
	Groups
	Tokens
	Outbox
	Log
	Vars
}

// Requests keeps the requests.
type Requests interface {
	// Request finds by id or decimal number; [ErrNotFound].
	Request(idOrNumber string) (Request, error)
	// Requests lists newest first (highest number first).
	Requests(Filter) ([]Request, error)
	// SaveRequest inserts when Version is 0 (and sets Number), else replaces the
	// row if its version still is r.Version; it sets the new version. At most one
	// request per app, environment and workflow may be in a status other than
	// expired, canceled or superseded. [ErrConflict].
	SaveRequest(r *Request) error
}

// Filter selects requests; zero fields select all.
type Filter struct {
	Apps        []string // nil = all; empty but not nil = none
	Environment string
	Statuses    []Status
	Revision    string // prefix of the full revision
	Branch      string
	WorkflowID  string
	PipelineID  string
	Project     string
	CreatedFrom time.Time
	CreatedTo   time.Time
	Before      int64 // number below which to go on; 0 = from the newest
	Limit       int   // 0 = no limit
}

// People keeps the admins and their authenticators.
type People interface {
	Person(slackID string) (Person, error) // ErrNotFound
	People() ([]Person, error)             // ordered by id, removed ones included
	SavePerson(Person) error               // all but the authenticator
	// Authenticator opens the sealed secret. It fails when the row was swapped or
	// sealed with an unknown key. [ErrNotFound] when the person has none.
	Authenticator(slackID string) (Authenticator, error)
	// SaveAuthenticator seals and stores; nil removes it.
	SaveAuthenticator(slackID string, a *Authenticator) error
}

// Groups keeps what is known of user groups.
type Groups interface {
	Group(id string) (Group, error) // ErrNotFound
	SaveGroup(Group) error
}

// Person is somebody who may decide.
type Person struct {
	SlackID   string
	Name      string
	VCSLogin  string
	AddedAt   time.Time
	RemovedAt time.Time // zero = active admin
	Standing  Standing
	Enrolled  bool // has an authenticator; read only
}

// Standing is what Slack said of somebody, and when.
type Standing struct {
	CheckedAt time.Time
	Problem   string // why not a full, active member of the workspace; empty = fine
}

// Group is a user group as Slack described it.
type Group struct {
	ID        string
	Handle    string
	Members   []string
	CheckedAt time.Time
	Problem   string // why it cannot be used, such as disabled
}

// Authenticator is a person's second factor.
type Authenticator struct {
	Secret     totp.Secret
	EnrolledAt time.Time
	EnrolledBy string // how: page, terminal, import
	FirstUsed  time.Time
	LastStep   int64 // newest accepted time step; codes up to it are used
	Throttle   totp.Throttle
}

// Tokens keeps the API tokens.
type Tokens interface {
	Token(id string) (Token, error) // ErrNotFound
	Tokens() ([]Token, error)       // oldest first
	SaveToken(Token) error
}

// Outbox keeps the effects.
type Outbox interface {
	// Enqueue stores an effect, due now when Due is zero. If a row with the same
	// Dedupe exists it is brought forward instead; if that row is being
	// delivered, it is delivered once more afterwards, not before Due.
	Enqueue(Effect) error
	// Claim takes the next due effect of a free lane of the family for lease: of
	// the lane that waits longest. Within a lane the lowest priority, then what is
	// due longest goes first, but never before an older one of its chain.
	// [ErrNotFound] when there is none.
	Claim(family string, now time.Time, lease time.Duration) (Effect, error)
	// Finish ends a claim: the row goes, or becomes due again at due when it is
	// not zero. [ErrLostLease] when the claim is no longer e's.
	Finish(e Effect, due time.Time, reason string) error
	// Hold ends a claim like Finish, for a delivery that failed as those behind it
	// in the lane would: e keeps its place, and nothing of the lane is claimed
	// before until. [ErrLostLease].
	Hold(e Effect, until time.Time, reason string) error
	// Held is why nothing of the lane is claimed now, "" while something may be.
	Held(lane string, now time.Time) (reason string, err error)
	// Holds is nil while e's claim stands, [ErrLostLease] otherwise.
	Holds(e Effect) error
	// NextDue is when the next effect of each family that is not claimed becomes
	// due; zero = none.
	NextDue(families ...string) ([]time.Time, error)
}

// Log is the append-only log.
type Log interface {
	// Ledger is the tree; only record and the proofs use it.
	Ledger() ledger.Storage
	// Index makes leaf seq findable. It is called once, right after the append.
	Index(seq int64, e Event) error
	// Event reads leaf seq; [ErrNotFound].
	Event(seq int64) (Event, error)
	// EventsOf lists the history of a request, oldest first.
	EventsOf(request string) ([]Event, error)
	// Leaves yields the stored lines from seq on.
	Leaves(from int64) iter.Seq2[[]byte, error]
}

// Vars keeps single values: keys, the workspace, the settings' hash.
type Vars interface {
	Var(name string) (string, error) // "" when absent
	SetVar(name, value string) error
	// Secret and SetSecret do the same sealed with the key ring.
	Secret(name string) (string, error)
	SetSecret(name, value string) error
}

// CI is what the core needs of the CI provider. Failures are *[CIError].
type CI interface {
	// Facts reads workflow, pipeline and starter. A login that cannot be read is
	// left empty and is no error.
	Facts(ctx context.Context, workflowID string) (Facts, error)
	// Jobs lists all jobs of a workflow, all pages.
	Jobs(ctx context.Context, workflowID string) ([]Job, error)
	// Approve asks to approve a gate. nil means accepted, not done: only Jobs tells.
	Approve(ctx context.Context, workflowID, approvalRequestID string) error
	// CancelJob and CancelWorkflow stop what waits.
	CancelJob(ctx context.Context, jobID string) error
	CancelWorkflow(ctx context.Context, workflowID string) error
	CIPeople
}

// CIPeople tells who is who at the CI provider, and what is where.
type CIPeople interface {
	// Self is our own user id.
	Self(ctx context.Context) (string, error)
	// Login is the login of a user id.
	Login(ctx context.Context, userID string) (string, error)
	// SameProject reports whether two slugs mean one project.
	SameProject(ctx context.Context, a, b string) (bool, error)
	// Workflows lists the workflows of a pipeline, reruns included and setup
	// workflows left out, oldest first.
	Workflows(ctx context.Context, pipelineID string) ([]WorkflowRef, error)
}

// Directory tells who people and groups are in the workspace.
type Directory interface {
	// User returns the display name, and why the person is not a full, active
	// member of the workspace ("" when he is).
	User(ctx context.Context, id string) (name, problem string, err error)
	// Group returns the handle, the members, and why the group cannot be used.
	Group(ctx context.Context, id string) (Group, error)
}

// Deliverer carries one kind of effect out. A delivery may be repeated: with
// Attempt > 1 the one before may or may not have taken effect.
type Deliverer interface {
	Deliver(ctx context.Context, e Effect) Outcome
}
