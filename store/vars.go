package store

import (
	"errors"
	"fmt"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// purposeSecret binds a seal to the table of single secrets.
const purposeSecret = "secret"

func (t *tx) Var(name string) (string, error) {
	var value string
	err := t.get("SELECT value FROM vars WHERE name = ?", []any{name}, &value)
	if errors.Is(err, approvals.ErrNotFound) {
		return "", nil
	}
	return value, err
}

func (t *tx) SetVar(name, value string) error {
	_, err := t.exec("INSERT INTO vars (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", name, value)
	return err
}

func (t *tx) Secret(name string) (string, error) {
	var version int64
	var sealed []byte
	err := t.get("SELECT version, sealed FROM secrets WHERE name = ?", []any{name}, &version, &sealed)
	if errors.Is(err, approvals.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	value, err := t.keys.Open(purposeSecret, name, version, sealed)
	if err != nil {
		return "", fmt.Errorf("secret %s: %w", name, err)
	}
	return string(value), nil
}

func (t *tx) SetSecret(name, value string) error {
	var version int64
	err := t.get("SELECT version FROM secrets WHERE name = ?", []any{name}, &version)
	if err != nil && !errors.Is(err, approvals.ErrNotFound) {
		return err
	}
	sealed, keyID, err := t.seal(purposeSecret, name, version+1, []byte(value))
	if err != nil {
		return err
	}
	_, err = t.exec(`INSERT INTO secrets (name, version, key_id, sealed) VALUES (?, ?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET version = excluded.version, key_id = excluded.key_id, sealed = excluded.sealed`,
		name, version+1, keyID, sealed)
	return err
}
