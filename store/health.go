package store

import (
	"context"
	"errors"
)

// Check reads the whole database, if the engine can tell damage; [ErrDamaged].
func (db *DB) Check(ctx context.Context) error { return db.engine.Check(ctx) }

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

// Sound is nil while the database still is what others find, as far as is known
// without writing: [ErrReplaced], [ErrWentBack].
func (db *DB) Sound() error { return db.engine.Sound() }

// CanWrite commits a row of a few bytes; [ErrUnavailable]. It also looks whether
// the database still is where others find it ([ErrReplaced]): call it every few
// seconds, because other transactions look only after they have committed.
func (db *DB) CanWrite(ctx context.Context) error {
	if err := db.Damage(); err != nil {
		return err
	}
	if err := db.engine.Sound(); err != nil {
		return err
	}
	return db.update(ctx, func(t *tx) error {
		_, err := t.exec("UPDATE probe SET at = ?", t.now.UnixMilli())
		return err
	})
}

// Size is how many bytes the database takes on disk.
func (db *DB) Size() (int64, error) { return db.engine.Size(context.Background()) }
