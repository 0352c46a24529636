package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rack-gateway/rack-gateway-approvals/store/engine"
)

//go:embed migrations/*.sql
var migrations embed.FS

// steps are the migrations; step i leads to schema i+1.
var steps = engine.Migrations(migrations)

func newestSchema() int64 { return int64(len(steps)) }

// newer refuses a schema that this program does not know.
func newer(schema int64) error {
	if schema <= newestSchema() {
		return nil
	}
	return fmt.Errorf("%w: its schema is %d, the newest known is %d; run the newer program", engine.ErrNewerSchema, schema, newestSchema())
}

// migrationLock keeps programs apart that create one database at the same moment.
const migrationLock = 0x52477741 // "RGwA"

// ErrNoTables says that the database has no tables of this program.
var ErrNoTables = errors.New("the database has no tables yet: start serve or run rack-gatewayd migrate")

// migrate brings the schema up to date, in one transaction.
func (db *DB) migrate(ctx context.Context, existing bool) error {
	tx, err := db.writer.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock($1)", migrationLock); err != nil {
		return err
	}
	schema, err := db.schema(ctx, tx)
	switch {
	case err != nil:
		return err
	case schema == 0 && existing:
		return ErrNoTables
	case schema >= newestSchema():
		return newer(schema)
	}
	todo := append(slices.Clone(steps[schema:]), fmt.Sprintf("UPDATE meta SET schema = %d", newestSchema()))
	if schema > 0 { // nobody writes meanwhile
		todo = append([]string{"SELECT 1 FROM meta FOR UPDATE"}, todo...)
	}
	for _, step := range todo {
		_, err := tx.ExecContext(ctx, step)
		if code(err) == "42501" {
			return fmt.Errorf("the tables are missing or older than this program, and this role may not make them: run rack-gatewayd migrate as the owner of the database: %w", err)
		}
		if err != nil {
			return fmt.Errorf("migrate: %w", err)
		}
	}
	return tx.Commit()
}

// schema reads the number of the schema, 0 = there are no tables, and the server's clock.
func (db *DB) schema(ctx context.Context, tx *sql.Tx) (schema int64, err error) {
	var there bool
	var at int64
	if err := tx.QueryRowContext(ctx, "SELECT to_regclass('meta') IS NOT NULL, "+serverTime).Scan(&there, &at); err != nil {
		return 0, err
	}
	db.server.Store(&reading{server: time.UnixMilli(at), here: time.Now()})
	if !there {
		return 0, nil
	}
	err = tx.QueryRowContext(ctx, "SELECT schema FROM meta WHERE program = 'rack-gateway'").Scan(&schema)
	if errors.Is(err, sql.ErrNoRows) || code(err) == "42703" { // undefined_column
		return 0, engine.ErrForeign
	}
	return schema, err
}

// Migrate brings the schema up to date as the owner of the tables. With a role it
// grants what serve needs, and no more: of the log only reading and appending.
func Migrate(ctx context.Context, c Config, role string) error {
	db, err := Open(ctx, c)
	if err != nil {
		return err
	}
	defer db.Close()
	if role == "" {
		return nil
	}
	name := pgx.Identifier{role}.Sanitize()
	var schema string
	if err := db.reader.QueryRowContext(ctx, "SELECT quote_ident(current_schema())").Scan(&schema); err != nil {
		return db.Fault(err)
	}
	for _, rights := range []string{
		"SELECT ON ALL TABLES IN SCHEMA $",
		"INSERT ON requests, kept, seal_keys, secrets, due, nodes, audit, audit_hashes, audit_index",
		"UPDATE ON requests, kept, secrets, due, nodes, probe",
		"DELETE ON secrets, due, nodes",
		"UPDATE (id) ON meta", // the right to lock its row
		"USAGE ON SEQUENCE due_id_seq",
		"USAGE ON SCHEMA $",
	} {
		if _, err := db.writer.ExecContext(ctx, "GRANT "+strings.ReplaceAll(rights, "$", schema)+" TO "+name); err != nil {
			return db.Fault(fmt.Errorf("grant rights to %s: %w", role, err))
		}
	}
	return nil
}
