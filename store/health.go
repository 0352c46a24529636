package store

import (
	"context"
	"errors"
)

// Damage is what a transaction since the opening said of a damaged file, nil when
// none did. It stays, even if the damaged page is not met again.
func (db *DB) Damage() error {
	if err := db.damage.Load(); err != nil {
		return *err
	}
	return nil
}

// fault adds what an error means, and remembers damage.
func (db *DB) fault(err error) error {
	err = db.engine.Fault(err)
	if errors.Is(err, ErrDamaged) {
		db.damage.CompareAndSwap(nil, &err)
	}
	return err
}

// CanWrite commits a row of a few bytes; [ErrUnavailable]. It also looks whether
// the database still is where others find it ([ErrReplaced]): call it every few
// seconds, because other transactions look only after they have committed.
func (db *DB) CanWrite(ctx context.Context) error {
	if err := db.Damage(); err != nil {
		return err
	}
	if err := db.Sound(); err != nil {
		return err
	}
	return db.update(ctx, func(t *tx) error {
		return t.exec("UPDATE probe SET at = ?", t.now.UnixMilli())
	})
}
