package store

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
)

//go:embed migrations/*.sql
var migrations embed.FS

// applicationID marks the file as ours ("RGwA", https://sqlite.org/fileformat2.html#application_id).
const applicationID = 0x52477741

// steps lists the migrations in order; step i leads to schema i+1.
func steps() ([]string, error) {
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	var out []string
	for _, name := range names {
		text, err := migrations.ReadFile(name)
		if err != nil {
			return nil, err
		}
		out = append(out, string(text))
	}
	return out, nil
}

// refuseUnknown refuses, before anything is written, what is not ours to change.
func refuseUnknown(ctx context.Context, db *sql.DB) error {
	known, err := steps()
	if err != nil {
		return err
	}
	var id, tables int64
	var version int
	err = db.QueryRowContext(ctx, `SELECT (SELECT application_id FROM pragma_application_id),
		(SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM sqlite_schema)`).Scan(&id, &version, &tables)
	switch {
	case err != nil:
		return fmt.Errorf("read schema version: %w", err)
	case id != applicationID && tables > 0:
		return ErrForeign
	case version > len(known):
		return fmt.Errorf("%w: its schema is %d, the newest known is %d; run the newer program", ErrNewerSchema, version, len(known))
	}
	return nil
}

// migrate applies what is missing, each step in one transaction. The version is
// read inside it, because two programs may start at once.
func migrate(ctx context.Context, db *sql.DB) error {
	all, err := steps()
	if err != nil {
		return err
	}
	for done := false; !done; {
		if done, err = migrateOne(ctx, db, all); err != nil {
			return fmt.Errorf("migrate: %w", err)
		}
	}
	return nil
}

func migrateOne(ctx context.Context, db *sql.DB, all []string) (done bool, err error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return false, err
	}
	defer tx.Rollback()
	var version int
	if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return false, err
	}
	if version >= len(all) {
		return true, nil
	}
	if _, err := tx.ExecContext(ctx, all[version]); err != nil {
		return false, fmt.Errorf("step %d: %w", version+1, err)
	}
	marks := fmt.Sprintf("PRAGMA application_id=%d; PRAGMA user_version=%d", applicationID, version+1)
	if _, err := tx.ExecContext(ctx, marks); err != nil {
		return false, fmt.Errorf("step %d: %w", version+1, err)
	}
	return false, tx.Commit()
}
