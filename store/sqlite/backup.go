package sqlite

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Backup writes a copy of the database, as it stands at one moment, to file; see
// [WriteFile]. Writers are not held up.
func (db *DB) Backup(ctx context.Context, file string) error {
	if err := errors.Join(db.refuseOwnFile(file), db.Sound()); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	return WriteFile(ctx, file, func(path string) error { return copyInto(ctx, db.path, path) })
}

// WriteFile writes a database to file (mode 0600), in place of an older one of ours and
// of nothing else: fill writes it to an empty file of another name, which gets this one
// when it is complete, checked and on disk. What is cut short leaves a temporary file
// "<file>.*.tmp" at worst.
func WriteFile(ctx context.Context, file string, fill func(path string) error) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("backup: %w", err)
		}
	}()
	// A link stays, and the backup that it leads to is replaced.
	if target, err := filepath.EvalSymlinks(file); err == nil {
		file = target
	}
	if err := replaceable(file); err != nil {
		return err
	}
	dir := filepath.Dir(file)
	temp, err := os.CreateTemp(dir, filepath.Base(file)+".*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		temp.Close()
		if err != nil {
			os.Remove(temp.Name())
		}
	}()
	// Trouble here may be the target's: it says nothing of the database.
	if err := fill(temp.Name()); err != nil {
		return fmt.Errorf("write the copy: %w", err)
	}
	if err := temp.Sync(); err != nil {
		return err
	}
	if err := checkCopy(ctx, temp.Name()); err != nil {
		return err
	}
	if err := os.Rename(temp.Name(), file); err != nil {
		return err
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
	for _, suffix := range []string{"", "-wal", "-shm", ".lock"} {
		if own, err := os.Stat(db.path + suffix); err == nil && os.SameFile(own, target) {
			return fmt.Errorf("%s belongs to the database itself", file)
		}
	}
	return nil
}

// replaceable refuses to write over what is no older backup. A job that makes one
// every night may use the same name again; a mistyped name must not cost somebody a
// file, and the -wal of the old file would be read into the new one.
func replaceable(file string) error {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(file); err == nil {
			return fmt.Errorf("%s is a link that leads nowhere", file)
		}
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", file)
	}
	if info.Size() == 0 { // as mktemp makes it
		return nil
	}
	header := make([]byte, 72)
	if _, err := io.ReadFull(f, header); err != nil || binary.BigEndian.Uint32(header[68:]) != applicationID {
		return fmt.Errorf("%s exists and is not a backup: remove it, or name another file", file)
	}
	for _, suffix := range []string{"-wal", "-shm", "-journal", ".lock"} {
		if _, err := os.Lstat(file + suffix); err == nil {
			return fmt.Errorf("%s was opened as a database, as %s%s shows: name another file", file, filepath.Base(file), suffix)
		}
	}
	return nil
}

func checkCopy(ctx context.Context, file string) error {
	pool := sql.OpenDB(newConnector(file, "?mode=ro&immutable=1", nil))
	defer pool.Close()
	return check(ctx, pool)
}
