package store

import (
	"context"
	"errors"

	"github.com/rack-gateway/rack-gateway-approvals/store/engine"
	"github.com/rack-gateway/rack-gateway-approvals/store/postgres"
	"github.com/rack-gateway/rack-gateway-approvals/store/sqlite"
)

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

// openEngine opens the database of a URL.
func openEngine(ctx context.Context, c Config) (engine.Engine, error) {
	path, err := c.Path()
	switch {
	case err != nil:
		return nil, err
	case path == "":
		return postgres.Open(ctx, c.server())
	}
	return sqlite.Open(ctx, path)
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
	db, err := sqlite.Open(ctx, path)
	if err != nil {
		return err
	}
	return db.Close()
}
