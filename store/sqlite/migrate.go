package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"

	"github.com/rack-gateway/rack-gateway-approvals/store/engine"
)

//go:embed migrations/*.sql
var migrations embed.FS

// applicationID marks the file as ours ("RGwA", https://sqlite.org/fileformat2.html#application_id).
const applicationID = 0x52477741

// firstSchema is the number that the first migration leads to. Smaller ones were
// those of development versions.
const firstSchema = 100

// steps are the migrations; step i leads to schema firstSchema+i.
var steps = engine.Migrations(migrations)

// migrate brings the schema up to date, in one transaction. It refuses, before anything
// is written, what is not ours to change.
func migrate(ctx context.Context, db *sql.DB) error {
	newest := firstSchema + len(steps) - 1
	if version, err := schema(ctx, db, newest); err != nil || version == newest {
		return err // without the lock of a writer, for which others may make it wait
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	defer tx.Rollback()
	version, err := schema(ctx, tx, newest) // two programs may start at once
	if err != nil {
		return err
	}
	for version = max(version+1, firstSchema); version <= newest; version++ {
		marks := fmt.Sprintf("PRAGMA application_id=%d; PRAGMA user_version=%d", applicationID, version)
		for _, statement := range []string{steps[version-firstSchema], marks} {
			if _, err := tx.ExecContext(ctx, statement); err != nil {
				return fmt.Errorf("migrate: step %d: %w", version, err)
			}
		}
	}
	return tx.Commit()
}

// schema reads the number of the schema, 0 = there are no tables.
func schema(ctx context.Context, q engine.Querier, newest int) (version int, err error) {
	var id, tables int64
	err = q.QueryRowContext(ctx, `SELECT (SELECT application_id FROM pragma_application_id),
		(SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM sqlite_schema)`).Scan(&id, &version, &tables)
	switch {
	case err != nil:
		return 0, fmt.Errorf("read schema version: %w", err)
	case id != applicationID && tables > 0:
		return 0, engine.ErrForeign
	case version > newest:
		return 0, fmt.Errorf("%w: its schema is %d, the newest known is %d; run the newer program", engine.ErrNewerSchema, version, newest)
	case version > 0 && version < firstSchema:
		return 0, errors.New("this database was made by a development version before the first release; start with a new one")
	}
	return version, nil
}
