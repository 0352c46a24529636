package sqlite

import (
	"errors"
	"fmt"
	"slices"

	"github.com/mattn/go-sqlite3"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/store/engine"
)

func (db *DB) Fault(err error) error {
	e := code(err)
	if slices.Contains(unusable, e.Code) {
		err = engine.Trouble(err)
	}
	violates := e.ExtendedCode == sqlite3.ErrConstraintUnique || e.ExtendedCode == sqlite3.ErrConstraintPrimaryKey
	switch {
	case damaged(err) && !errors.Is(err, engine.ErrDamaged):
		return fmt.Errorf("%w: %w", engine.ErrDamaged, err)
	case violates && !errors.Is(err, approvals.ErrConflict):
		return fmt.Errorf("%w: %w", approvals.ErrConflict, err)
	}
	return err
}

// unusable are the codes of the database's own trouble.
var unusable = []sqlite3.ErrNo{
	sqlite3.ErrBusy, sqlite3.ErrLocked, sqlite3.ErrProtocol,
	sqlite3.ErrFull, sqlite3.ErrIoErr, sqlite3.ErrNomem,
	sqlite3.ErrReadonly, sqlite3.ErrPerm, sqlite3.ErrCantOpen,
	sqlite3.ErrCorrupt, sqlite3.ErrNotADB,
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
