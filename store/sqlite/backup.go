package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Backup writes a copy of the database, as it stands at one moment, to file
// (mode 0600), replacing an older one. Writers are not held up. The copy is
// complete, checked and on disk before it gets its name: a backup that was cut
// short leaves a temporary file "<file>.*.tmp" at worst.
func (db *DB) Backup(ctx context.Context, file string) error {
	if err := db.refuseOwnFile(file); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	if err := db.Sound(); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	return WriteFile(ctx, file, func(path string) error { return copyInto(ctx, db.path, path) })
}

// WriteFile writes a database to file, in place of what is there: fill writes it to
// an empty file of another name, which gets this one when it is complete, checked
// and on disk.
func WriteFile(ctx context.Context, file string, fill func(path string) error) (err error) {
	if info, err := os.Stat(file); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("backup: %s is not a regular file", file)
	}
	dir := filepath.Dir(file)
	temp, err := os.CreateTemp(dir, filepath.Base(file)+".*.tmp")
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	defer func() {
		temp.Close()
		if err != nil {
			os.Remove(temp.Name())
		}
	}()
	// Trouble here may be the target's: it says nothing of the database.
	if err := fill(temp.Name()); err != nil {
		return fmt.Errorf("backup: write the copy: %w", err)
	}
	if err := temp.Sync(); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	if err := checkCopy(ctx, temp.Name()); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	if err := os.Rename(temp.Name(), file); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	return syncDir(dir)
}

// copyInto fills an empty file, which VACUUM INTO accepts, so that the copy is
// never readable by others. It needs a connection without query_only, which
// would forbid to write the copy too.
func copyInto(ctx context.Context, path, file string) error {
	pool := sql.OpenDB(newConnector(path, commonParams+"&mode=ro", common))
	defer pool.Close()
	_, err := pool.ExecContext(ctx, "VACUUM INTO ?", file)
	return err
}

// refuseOwnFile keeps an operator's slip from replacing the live database.
func (db *DB) refuseOwnFile(file string) error {
	target, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !target.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", file)
	}
	for _, suffix := range []string{"", "-wal", "-shm", ".lock"} {
		if own, err := os.Stat(db.path + suffix); err == nil && os.SameFile(own, target) {
			return fmt.Errorf("%s belongs to the database itself", file)
		}
	}
	return nil
}

func checkCopy(ctx context.Context, file string) error {
	path, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	pool := sql.OpenDB(newConnector(path, "?mode=ro&immutable=1", nil))
	defer pool.Close()
	return check(ctx, pool)
}
