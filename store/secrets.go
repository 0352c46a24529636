package store

import (
	"cmp"
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"strings"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// purposeSecret binds a seal to the table of secrets.
const purposeSecret = "secret"

func (t *tx) Secret(name string) (string, error) {
	s := secret{name: name}
	switch err := t.get("SELECT version, sealed FROM secrets WHERE name = ?", []any{name}, &s.version, &s.sealed); {
	case errors.Is(err, approvals.ErrNotFound):
		return "", nil
	case err != nil:
		return "", err
	}
	value, err := s.open(t.db.keys)
	return string(value), err
}

// secret is a row. Its version goes up with every change and is bound into the
// seal, so that an older value does not open in a newer row.
type secret struct {
	name    string
	version int64
	sealed  []byte
}

func (s secret) open(keys *KeyRing) ([]byte, error) {
	value, err := keys.Open(purposeSecret, s.name, s.version, s.sealed)
	if err != nil {
		return nil, fmt.Errorf("secret %s: %w", s.name, err)
	}
	return value, nil
}

func (t *tx) SetSecret(name, value string) error {
	if value == "" {
		return t.exec("DELETE FROM secrets WHERE name = ?", name)
	}
	var version int64
	if err := t.get("SELECT coalesce(max(version), 0) FROM secrets WHERE name = ?", []any{name}, &version); err != nil {
		return err
	}
	return t.putSecret(name, version+1, []byte(value))
}

// putSecret seals with the first key and, the first time, notes the key's check
// value, by which a wrong ring is known at the next start.
func (t *tx) putSecret(name string, version int64, value []byte) error {
	sealed, err := t.db.keys.Seal(purposeSecret, name, version, value)
	if err != nil {
		return t.failed(err)
	}
	key := t.db.keys.all()[0]
	return cmp.Or(
		t.exec("INSERT INTO seal_keys (id, check_value) VALUES (?, ?) ON CONFLICT DO NOTHING", key.id, key.check),
		t.exec(`INSERT INTO secrets (name, version, key_id, sealed) VALUES (?, ?, ?, ?)
			ON CONFLICT (name) DO UPDATE SET version = excluded.version, key_id = excluded.key_id, sealed = excluded.sealed`,
			name, version, key.id, sealed))
}

// checkKeys refuses a ring that cannot open everything.
func (db *DB) checkKeys(ctx context.Context) error {
	return db.view(ctx, func(t *tx) error {
		type known struct {
			id    string
			check []byte
			used  bool
		}
		keys, err := list(t, func(k *known) []any { return []any{&k.id, &k.check, &k.used} },
			"SELECT id, check_value, EXISTS (SELECT 1 FROM secrets WHERE key_id = seal_keys.id) FROM seal_keys ORDER BY id")
		if err != nil {
			return err
		}
		var missing []string
		for _, k := range keys {
			key, found := db.keys.find(k.id)
			switch {
			case !found && k.used:
				missing = append(missing, k.id)
			case found && !hmac.Equal(k.check, key.check):
				return fmt.Errorf("%w: %s", ErrWrongKey, k.id)
			}
		}
		if len(missing) > 0 {
			return fmt.Errorf("%w: %s", ErrMissingKey, strings.Join(missing, ", "))
		}
		return nil
	})
}

// UsedKeys lists the ids of the keys that something is sealed with. The others
// may leave the ring.
func (db *DB) UsedKeys(ctx context.Context) (ids []string, err error) {
	err = db.view(ctx, func(t *tx) (err error) {
		ids, err = list(t, single[string], "SELECT DISTINCT key_id FROM secrets ORDER BY key_id")
		return err
	})
	return ids, err
}

// Reseal seals up to batch secrets anew that are sealed with another key than
// the first of the ring, in one transaction. It returns how many, and done when
// none is left. A secret that does not open is an error and stays as it is.
func (db *DB) Reseal(ctx context.Context, batch int) (done bool, n int, err error) {
	if batch < 1 {
		return false, 0, errors.New("reseal: want a batch of 1 or more")
	}
	err = db.update(approvals.Background(ctx), func(t *tx) error {
		old, err := list(t, func(s *secret) []any { return []any{&s.name, &s.version, &s.sealed} },
			"SELECT name, version, sealed FROM secrets WHERE key_id <> ? ORDER BY name LIMIT ?", t.db.keys.all()[0].id, batch)
		if err != nil {
			return err
		}
		for _, s := range old {
			value, err := s.open(t.db.keys)
			if err != nil {
				return fmt.Errorf("reseal: %w", err)
			}
			if err := t.putSecret(s.name, s.version+1, value); err != nil {
				return fmt.Errorf("reseal: %w", err)
			}
		}
		n = len(old)
		return nil
	})
	if err != nil {
		return false, 0, err
	}
	return n < batch, n, nil
}
