package store

import (
	"database/sql"
	"encoding/json"
	"fmt"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

const selectTokens = "SELECT id, name, role, apps, hash, created_at, expires_at, revoked_at, last_used_at FROM tokens"

func (t *tx) Token(id string) (approvals.Token, error) {
	var out approvals.Token
	err := t.eachToken(selectTokens+" WHERE id = ?", []any{id}, func(token approvals.Token) { out = token })
	if err == nil && out.ID == "" {
		err = approvals.ErrNotFound
	}
	return out, err
}

func (t *tx) Tokens() ([]approvals.Token, error) {
	var out []approvals.Token
	err := t.eachToken(selectTokens+" ORDER BY created_at, rowid", nil, func(token approvals.Token) { out = append(out, token) })
	return out, err
}

func (t *tx) eachToken(query string, args []any, fn func(approvals.Token)) error {
	return t.each(query, args, func(scan func(...any) error) error {
		var k approvals.Token
		var apps sql.NullString
		var hash []byte
		err := scan(&k.ID, &k.Name, &k.Role, &apps, &hash, stamp{&k.CreatedAt}, stamp{&k.ExpiresAt}, stamp{&k.RevokedAt}, stamp{&k.LastUsedAt})
		if err != nil {
			return err
		}
		copy(k.Hash[:], hash)
		if apps.Valid {
			if err := json.Unmarshal([]byte(apps.String), &k.Apps); err != nil || k.Apps == nil {
				// nil would mean all apps
				return fmt.Errorf("read token %s: malformed list of apps", k.ID)
			}
		}
		fn(k)
		return nil
	})
}

func (t *tx) SaveToken(k approvals.Token) error {
	var apps any
	if k.Apps != nil {
		list, err := json.Marshal(k.Apps)
		if err != nil {
			return fmt.Errorf("save token: %w", err)
		}
		apps = string(list)
	}
	_, err := t.exec(`INSERT INTO tokens (id, name, role, apps, hash, created_at, expires_at, revoked_at, last_used_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET name = excluded.name, role = excluded.role, apps = excluded.apps, hash = excluded.hash,
			created_at = excluded.created_at, expires_at = excluded.expires_at, revoked_at = excluded.revoked_at,
			last_used_at = excluded.last_used_at`,
		k.ID, k.Name, k.Role, apps, k.Hash[:], millis(k.CreatedAt), millis(k.ExpiresAt), millis(k.RevokedAt), millis(k.LastUsedAt))
	return err
}
