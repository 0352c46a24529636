package store

import (
	"cmp"
	"context"
	"errors"

	"github.com/rack-gateway/rack-gateway-approvals/store/engine"
	"github.com/rack-gateway/rack-gateway-approvals/store/postgres"
	"github.com/rack-gateway/rack-gateway-approvals/store/sqlite"
)

// Broken reports whether err is trouble that does not pass by itself, such as I/O
// errors, damage, and files that were replaced.
func Broken(err error) bool { return sqlite.Broken(err) }

// What an engine says of its database; see package engine.
var (
	ErrUnavailable = engine.ErrUnavailable
	ErrReplaced    = engine.ErrReplaced
	ErrNewerSchema = engine.ErrNewerSchema
	ErrDamaged     = engine.ErrDamaged
	ErrWentBack    = postgres.ErrWentBack
)

// Why [Open] refuses a key ring.
var (
	// ErrMissingKey: the key ring lacks a key that sealed secrets still need.
	ErrMissingKey = errors.New("key ring lacks a key that is still used")
	// ErrWrongKey: the key ring has another key under an id than the database knows.
	ErrWrongKey = errors.New("key ring has another key under a known id")
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
	if err := cmp.Or(db.Damage(), db.Sound()); err != nil {
		return err
	}
	return db.update(ctx, func(t *tx) error {
		return t.exec("UPDATE probe SET at = ?", t.now.UnixMilli())
	})
}
