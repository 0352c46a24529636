package engine

import (
	"errors"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// ErrUnavailable says that the database cannot be used right now: busy for too
// long, disk full, read-only, I/O error or damage, a server that does not answer.
// After it the outcome of a commit is unknown, so the caller may repeat only what
// is safe to repeat. It is an *[approvals.Error], so that the edge answers 503.
var ErrUnavailable error = &approvals.Error{
	Code: approvals.CodeUnavailable, Message: "the database cannot be used right now; try again later", RetryAfter: 5 * time.Second,
}

// ErrReplaced says that a file of the open database was removed or replaced:
// what is written now would be lost, or damage what is there instead. Only
// opening the database anew ends it. It comes with [ErrUnavailable].
var ErrReplaced = errors.New("a file of the database was removed or replaced while it was in use")

// Why a database is refused.
var (
	// ErrForeign: the database is that of another program.
	ErrForeign = errors.New("not a database of this program")
	// ErrNewerSchema: a newer version of the program has migrated the database.
	ErrNewerSchema = errors.New("database is newer than this program")
	// ErrDamaged: the file is no database, or fails the engine's own check.
	ErrDamaged = errors.New("database is damaged")
	// ErrWeakSettings: a setting that durability or safety rests on did not take.
	ErrWeakSettings = errors.New("database setting did not take")
)

// ErrLocked says that another process holds the lock.
var ErrLocked = errors.New("another process holds the lock of the database")

// Trouble is [ErrUnavailable] because of cause, which its text names: a client
// gets the message of ErrUnavailable, the operator the cause.
func Trouble(cause error) error {
	if cause == nil || errors.Is(cause, ErrUnavailable) {
		return cause
	}
	return trouble{cause}
}

type trouble struct{ cause error }

func (t trouble) Error() string   { return t.cause.Error() }
func (t trouble) Unwrap() []error { return []error{ErrUnavailable, t.cause} }
