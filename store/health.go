package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// Check runs SQLite's integrity check, which reads the whole file;
// [ErrDamaged]. Writers are not held up.
func (db *DB) Check(ctx context.Context) error {
	return check(ctx, db.reader, "integrity_check")
}

func check(ctx context.Context, pool *sql.DB, kind string) error {
	rows, err := pool.QueryContext(ctx, "PRAGMA "+kind+"(1)")
	if err != nil {
		return fmt.Errorf("%s: %w", kind, fault(err))
	}
	defer rows.Close()
	for rows.Next() {
		var finding string
		if err := rows.Scan(&finding); err != nil {
			return fmt.Errorf("%s: %w", kind, fault(err))
		}
		if finding != "ok" {
			return fmt.Errorf("%w: %s", ErrDamaged, finding)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("%s: %w", kind, fault(err))
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

// CanWrite commits a row of a few bytes; [ErrUnavailable].
func (db *DB) CanWrite(ctx context.Context) error {
	if err := db.Damage(); err != nil {
		return err
	}
	return db.update(ctx, func(t *tx) error {
		_, err := t.exec("UPDATE probe SET at = ?", time.Now().UnixMilli())
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
