package store

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/store/engine"
	"github.com/rack-gateway/rack-gateway-approvals/store/sqlite"
)

// Config says which database to open.
type Config struct {
	URL  string // sqlite:PATH or postgres://…; see [Config.Path]
	Keys *KeyRing
	// CAFile holds the certificates that the one of a server must come from; "" =
	// those that the system trusts.
	CAFile string
	// Existing refuses a database on a server that has no tables yet.
	Existing bool
}

type base = engine.Base

// DB is an open database. It is an [approvals.Store].
type DB struct {
	base   // what the engine does by itself
	engine engine.Engine
	keys   *KeyRing
	turns  turns
	wrote  time.Time    // when the last transaction that was committed began; of who has the turn
	claims atomic.Int64 // how many were made
	damage atomic.Pointer[error]
	self   Node // set by Join
}

// Open opens the database, creating it and migrating it forward as needed. It
// refuses, with an error that says why, what the engine refuses (see its Open), and
// a ring without the right keys ([ErrMissingKey], [ErrWrongKey]).
func Open(ctx context.Context, c Config) (*DB, error) {
	if c.URL == "" || c.Keys == nil {
		return nil, errors.New("open database: URL and key ring are required")
	}
	e, err := openEngine(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	db := &DB{base: e, engine: e, keys: c.Keys}
	if err := errors.Join(db.checkKeys(ctx), db.checkNodes(ctx)); err != nil {
		return nil, errors.Join(fmt.Errorf("open database: %w", err), db.Close())
	}
	return db, nil
}

// Path is the absolute path of the file, "" for a database on a server.
func (db *DB) Path() string {
	if e, ok := db.engine.(*sqlite.DB); ok {
		return e.Path()
	}
	return ""
}
