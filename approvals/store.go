package approvals

import (
	"context"
	"iter"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
)

// Store keeps everything that lasts. At any moment at most one transaction
// writes, so what fn of Update reads cannot change before fn's commit.
//
// Update commits when fn returns nil, and otherwise leaves no trace. When Update
// returns nil, the change survives a power loss. fn is called once at the most,
// possibly in another goroutine, and must have no effect outside the
// transaction. An error that is CodeUnavailable leaves open whether the commit
// was made.
//
// View gives fn one consistent snapshot; verbs that write fail in it.
type Store interface {
	Update(ctx context.Context, fn func(Tx) error) error
	View(ctx context.Context, fn func(Tx) error) error
	// Stamp is a number for who watches what others commit: while it stays the
	// same, nobody changed anything. Where that is not known more cheaply than by
	// a View, it is another one each time.
	Stamp(ctx context.Context) (int64, error)
}

// query returns what fn reads in a view.
func query[T any](ctx context.Context, store Store, fn func(Tx) (T, error)) (v T, err error) {
	err = store.View(ctx, func(tx Tx) error { v, err = fn(tx); return err })
	return v, err
}

// Tx is one transaction. Values that it returns are copies. After any error but
// [ErrNotFound], [ErrLostClaim] and [ErrSeal] the transaction can only end.
type Tx interface {
	// Now is the time of the transaction: UTC, in milliseconds, the same
	// whenever it is asked.
	Now() time.Time

	// Request finds a request by id or decimal number; [ErrNotFound].
	Request(idOrNumber string) (Request, error)
	// Requests lists the requests that match, the highest number first.
	Requests(Filter) ([]Request, error)
	// SaveRequest inserts the row when Version is 0, under the Number that r
	// has, and otherwise replaces it if its version still is r.Version; then it
	// sets the new version. At most one request per app, environment and
	// workflow may be in a status other than expired, canceled or superseded.
	// [ErrConflict].
	SaveRequest(r *Request) error

	// Kept reads the cached state of a person or token: what [Tx.Keep] stored
	// under kind and id; [ErrNotFound].
	Kept(kind, id string) ([]byte, error)
	// AllKept lists the cached states of a kind in the order in which they were
	// first kept.
	AllKept(kind string) ([][]byte, error)
	// Keep stores a state in place of the one before.
	Keep(kind, id string, state []byte) error

	// Secret opens a value that was sealed with the key ring, "" when there is
	// none. [ErrSeal] when it was altered, put in another's place, or sealed
	// with a key that is not in the ring.
	Secret(name string) (string, error)
	// SetSecret seals and stores a value; "" removes it.
	SetSecret(name, value string) error

	// Ask makes work due. Work of the same kind and subject is asked for once:
	// asking again brings it forward to the earlier Due and the lower Rank. If it
	// is claimed at that moment, it becomes due once more after the claim. Work
	// that is brought forward has failed once at most, so that tries which came
	// early do not lengthen the pause after the next one.
	Ask(Work) error
	// Lanes lists the lanes of a family, or with "" of all families, that have work
	// which is not claimed, or whose claim is over, with the earliest time at which it
	// is due.
	Lanes(family string) ([]Lane, error)
	// Claim takes at most n pieces of work of a lane that are due now: the lowest
	// Rank first, then what is due longest, then what was asked for first. The claim
	// ends with Finish, or after lease. It returns nothing when nothing is due.
	Claim(lane string, n int, lease time.Duration) ([]Work, error)
	// Claimed returns nil while the claim of w stands, [ErrLostClaim] otherwise.
	Claimed(w Work) error
	// Finish ends a claim. With a zero w.Due the work is done and its row goes,
	// unless it was asked for again meanwhile; otherwise it is due again at w.Due
	// with w.Rank, w.Note and w.Attempt. [ErrLostClaim].
	Finish(w Work) error

	// Ledger is the Merkle tree of the log.
	Ledger() ledger.Storage
	// Index makes the newest leaf findable as a part of the history of subject.
	Index(seq int64, subject string) error
	// History lists the leaves of a subject after the leaf with number after
	// (-1 for all), oldest first.
	History(subject string, after int64) ([][]byte, error)
	// Leaves yields the stored leaves from a number on.
	Leaves(from int64) iter.Seq2[[]byte, error]
}

// Filter selects requests; zero fields select all.
type Filter struct {
	Apps        []string // nil = all; empty but not nil = none
	Environment string
	Statuses    []Status
	Revision    string // prefix of the full revision
	Branch      string
	WorkflowID  string
	Voted       bool // only those with decisions of their current round
	CreatedFrom time.Time
	CreatedTo   time.Time
	// Released selects those whose gate was opened by the decision, and lists the
	// newest release first.
	Released      bool
	ReleasedAfter time.Time // of those only what was released after this moment
	After         int64     // number above which; 0 = any
	Before        int64     // number below which to go on; 0 = from the newest
	Limit         int       // 0 = no limit
}
