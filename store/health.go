package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Check runs SQLite's integrity check, which reads the whole file;
// [ErrDamaged]. Writers are not held up.
func (db *DB) Check(ctx context.Context) error {
	return check(ctx, db.reader)
}

func check(ctx context.Context, pool *sql.DB) error {
	var finding string
	err := pool.QueryRowContext(ctx, "PRAGMA integrity_check(1)").Scan(&finding)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return fmt.Errorf("check the database: %w", fault(err))
	case finding != "ok":
		return fmt.Errorf("%w: %s", ErrDamaged, finding)
	}
	return nil
}

// Damage is what a transaction since the opening said of a damaged file, nil when
// none did. It stays, even if the damaged page is not met again.
func (db *DB) Damage() error {
	if err := db.damage.Load(); err != nil {
		return *err
	}
	return nil
}

// fault adds [ErrUnavailable] to the database's own trouble, and remembers damage.
func (db *DB) fault(err error) error {
	err = fault(err)
	if damaged(err) {
		err := fmt.Errorf("%w: %w", ErrDamaged, err)
		db.damage.CompareAndSwap(nil, &err)
	}
	return err
}

// CanWrite commits a row of a few bytes; [ErrUnavailable]. It also looks whether
// the files of the database are still in their place ([ErrReplaced]): call it every
// few seconds, because other transactions look only after they have committed.
func (db *DB) CanWrite(ctx context.Context) error {
	if err := db.Damage(); err != nil {
		return err
	}
	if err := db.inPlace(); err != nil {
		return err
	}
	return db.update(ctx, func(t *tx) error {
		_, err := t.exec("UPDATE probe SET at = ?", t.now.UnixMilli())
		return err
	})
}

// Size is how many bytes the database and its write-ahead log take on disk.
func (db *DB) Size() (int64, error) {
	var size int64
	for _, path := range []string{db.path, db.path + "-wal"} {
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("size of database: %w", err)
		}
		size += info.Size()
	}
	return size, nil
}
