package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/store/engine"
	"github.com/rack-gateway/rack-gateway-approvals/store/postgres"
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
	db, err := open(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if err := errors.Join(db.checkKeys(ctx), db.checkNodes(ctx)); err != nil {
		return nil, errors.Join(fmt.Errorf("open database: %w", err), db.Close())
	}
	return db, nil
}

// open is Open that looks at no keys: without a ring, nothing sealed can be opened.
func open(ctx context.Context, c Config) (*DB, error) {
	path, err := c.Path()
	if err != nil {
		return nil, err
	}
	var e engine.Engine
	if path == "" {
		e, err = postgres.Open(ctx, c.server())
	} else {
		e, err = sqlite.Open(ctx, path)
	}
	if err != nil {
		return nil, err
	}
	return &DB{base: e, engine: e, keys: cmp.Or(c.Keys, &KeyRing{})}, nil
}

// Path is the absolute path of the file, "" for a database on a server.
func (db *DB) Path() string {
	if e, ok := db.engine.(*sqlite.DB); ok {
		return e.Path()
	}
	return ""
}

// Path is the path of the file of a database URL "sqlite:PATH"; "" for a database
// on a server, "postgres://…". An error says what is wrong with the URL, without
// repeating it: it may hold a password.
func (c Config) Path() (path string, err error) {
	if postgres.IsURL(c.URL) {
		return "", c.server().Check()
	}
	return sqlite.ParseURL(c.URL)
}

// HasPassword reports whether the URL holds one.
func (c Config) HasPassword() bool { return postgres.IsURL(c.URL) && c.server().HasPassword() }

func (c Config) server() postgres.Config {
	return postgres.Config{URL: c.URL, CAFile: c.CAFile, Existing: c.Existing}
}

// Migrate makes the tables of a database, or brings them up to date, as their owner.
// With a role, on a server, it grants that role what serve needs, and no more.
func Migrate(ctx context.Context, c Config, role string) error {
	path, err := c.Path()
	switch {
	case err != nil:
		return err
	case path == "":
		return postgres.Migrate(ctx, c.server(), role)
	case role != "":
		return errors.New("roles are those of a PostgreSQL server, and this database is a SQLite file")
	}
	db, err := open(ctx, c)
	if err != nil {
		return err
	}
	return db.Close()
}
