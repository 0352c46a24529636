package store

import (
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"strings"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

const selectUsedKeys = "SELECT key_id FROM authenticators UNION SELECT key_id FROM secrets ORDER BY 1"

// checkKeys refuses a ring that cannot open everything.
func (db *DB) checkKeys(ctx context.Context) error {
	return db.update(ctx, func(t *tx) error {
		var missing []string
		err := t.each("SELECT id, check_value, id IN ("+selectUsedKeys+") FROM seal_keys ORDER BY id", nil, func(scan func(...any) error) error {
			var id string
			var check []byte
			var used bool
			if err := scan(&id, &check, &used); err != nil {
				return err
			}
			key, found := db.keys.find(id)
			switch {
			case !found && used:
				missing = append(missing, id)
			case found && !hmac.Equal(check, key.check):
				return fmt.Errorf("%w: %s", ErrWrongKey, id)
			}
			return nil
		})
		if err == nil && len(missing) > 0 {
			err = fmt.Errorf("%w: %s", ErrMissingKey, strings.Join(missing, ", "))
		}
		return err
	})
}

// UsedKeys lists the ids of the keys that something is sealed with. The others
// may leave the ring.
func (db *DB) UsedKeys(ctx context.Context) ([]string, error) {
	var ids []string
	err := db.view(ctx, func(t *tx) error {
		return t.each(selectUsedKeys, nil, func(scan func(...any) error) error {
			var id string
			if err := scan(&id); err != nil {
				return err
			}
			ids = append(ids, id)
			return nil
		})
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
	err = db.update(ctx, func(t *tx) error {
		for _, table := range []struct{ name, column, purpose string }{
			{"authenticators", "slack_id", purposeAuthenticator},
			{"secrets", "name", purposeSecret},
		} {
			some, err := t.reseal(table.name, table.column, table.purpose, batch-n)
			if err != nil {
				return fmt.Errorf("reseal: %w", err)
			}
			n += some
		}
		return nil
	})
	if err != nil {
		return false, 0, err
	}
	return n < batch, n, nil
}

func (t *tx) reseal(table, column, purpose string, batch int) (int, error) {
	type row struct {
		subject string
		version int64
		sealed  []byte
	}
	var rows []row
	err := t.each("SELECT "+column+", version, sealed FROM "+table+" WHERE key_id <> ? LIMIT ?", []any{t.keys.all()[0].id, batch},
		func(scan func(...any) error) error {
			var r row
			if err := scan(&r.subject, &r.version, &r.sealed); err != nil {
				return err
			}
			rows = append(rows, r)
			return nil
		})
	if err != nil {
		return 0, err
	}
	for _, r := range rows {
		plaintext, err := t.keys.Open(purpose, r.subject, r.version, r.sealed)
		if err != nil {
			return 0, fmt.Errorf("%s %s: %w", purpose, r.subject, err)
		}
		sealed, keyID, err := t.seal(purpose, r.subject, r.version+1, plaintext)
		if err != nil {
			return 0, err
		}
		changed, err := t.exec("UPDATE "+table+" SET version = ?, key_id = ?, sealed = ? WHERE "+column+" = ?", r.version+1, keyID, sealed, r.subject)
		if err != nil {
			return 0, err
		}
		if changed != 1 {
			return 0, approvals.ErrConflict
		}
	}
	return len(rows), nil
}
