package sqlite

import (
	"errors"
	"fmt"

	"github.com/mattn/go-sqlite3"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/store/engine"
)

func (db *DB) Fault(err error) error {
	err = fault(err)
	switch {
	case damaged(err) && !errors.Is(err, engine.ErrDamaged):
		return fmt.Errorf("%w: %w", engine.ErrDamaged, err)
	case violates(err) && !errors.Is(err, approvals.ErrConflict):
		return fmt.Errorf("%w: %w", approvals.ErrConflict, err)
	}
	return err
}

// fault adds [engine.ErrUnavailable] to what is the database's own trouble.
func fault(err error) error {
	if unusable(err) {
		return engine.Trouble(err)
	}
	return err
}

// Broken reports whether err is trouble that does not pass by itself: I/O errors,
// damage, files that were replaced. A disk that is full or read-only and a database
// that is busy do: what can be read is still worth having.
func Broken(err error) bool {
	return errors.Is(err, engine.ErrReplaced) || damaged(err) || code(err).Code == sqlite3.ErrIoErr
}

// code is what SQLite says with an error, zero when it is none of its.
func code(err error) (e sqlite3.Error) {
	errors.As(err, &e)
	return e
}

// damaged reports whether the file is not what SQLite once wrote.
func damaged(err error) bool {
	c := code(err).Code
	return errors.Is(err, engine.ErrDamaged) || c == sqlite3.ErrCorrupt || c == sqlite3.ErrNotADB
}

func unusable(err error) bool {
	switch code(err).Code {
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
	c := code(err).ExtendedCode
	return c == sqlite3.ErrConstraintUnique || c == sqlite3.ErrConstraintPrimaryKey
}

func isBusy(err error) bool { return code(err).Code == sqlite3.ErrBusy }
