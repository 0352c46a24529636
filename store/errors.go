package store

import (
	"errors"
	"time"

	"github.com/mattn/go-sqlite3"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// ErrUnavailable says that the database cannot be used right now: busy for too
// long, disk full, read-only, I/O error or damage. After it the outcome of a
// commit is unknown, so the caller may repeat only what is safe to repeat. It is
// an *[approvals.Error], so that the edge answers 503.
var ErrUnavailable error = &approvals.Error{
	Code: approvals.CodeUnavailable, Message: "the database cannot be used right now; try again later", RetryAfter: 5 * time.Second,
}

// ErrReplaced says that a file of the open database was removed or replaced:
// what is written now would be lost, or damage what is there instead. Only
// opening the database anew ends it. It comes with [ErrUnavailable].
var ErrReplaced = errors.New("a file of the database was removed or replaced while it was in use")

// Why [Open] refuses a database.
var (
	// ErrForeign: the file is a SQLite database of another program.
	ErrForeign = errors.New("not a database of this program")
	// ErrOldSchema: a version before the first release made the database.
	ErrOldSchema = errors.New("this database was made by a development version before the first release; start with a new one")
	// ErrNewerSchema: a newer version of the program has migrated the database.
	ErrNewerSchema = errors.New("database is newer than this program")
	// ErrDamaged: the file is no database, or fails SQLite's own check.
	ErrDamaged = errors.New("database is damaged")
	// ErrWeakSettings: a setting that durability or safety rests on did not take.
	ErrWeakSettings = errors.New("database setting did not take")
	// ErrMissingKey: the key ring lacks a key that sealed secrets still need.
	ErrMissingKey = errors.New("key ring lacks a key that is still used")
	// ErrWrongKey: the key ring has another key under an id than the database knows.
	ErrWrongKey = errors.New("key ring has another key under a known id")
)

// trouble is [ErrUnavailable] because of cause, which its text names: a client
// gets the message of ErrUnavailable, the operator the cause.
type trouble struct{ cause error }

func (t trouble) Error() string   { return t.cause.Error() }
func (t trouble) Unwrap() []error { return []error{ErrUnavailable, t.cause} }

// fault adds [ErrUnavailable] to what is the database's own trouble.
func fault(err error) error {
	if unusable(err) && !errors.Is(err, ErrUnavailable) {
		return trouble{err}
	}
	return err
}

// Broken reports whether err is trouble that does not pass by itself: I/O errors,
// damage, files that were replaced. A disk that is full or read-only and a
// database that is busy are not: what can be read is still worth having.
func Broken(err error) bool {
	var e sqlite3.Error
	return errors.Is(err, ErrReplaced) || damaged(err) || errors.As(err, &e) && e.Code == sqlite3.ErrIoErr
}

// damaged reports whether the file is not what SQLite once wrote.
func damaged(err error) bool {
	var e sqlite3.Error
	return errors.Is(err, ErrDamaged) || errors.As(err, &e) && (e.Code == sqlite3.ErrCorrupt || e.Code == sqlite3.ErrNotADB)
}

func unusable(err error) bool {
	var e sqlite3.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code {
	case sqlite3.ErrBusy, sqlite3.ErrLocked, sqlite3.ErrProtocol,
		sqlite3.ErrFull, sqlite3.ErrIoErr, sqlite3.ErrNomem,
		sqlite3.ErrReadonly, sqlite3.ErrPerm, sqlite3.ErrCantOpen,
		sqlite3.ErrCorrupt, sqlite3.ErrNotADB:
		return true
	}
	return false
}

// violates reports whether a unique rule or primary key forbade a write.
func violates(err error) bool {
	var e sqlite3.Error
	return errors.As(err, &e) &&
		(e.ExtendedCode == sqlite3.ErrConstraintUnique || e.ExtendedCode == sqlite3.ErrConstraintPrimaryKey)
}

func isBusy(err error) bool {
	var e sqlite3.Error
	return errors.As(err, &e) && e.Code == sqlite3.ErrBusy
}
