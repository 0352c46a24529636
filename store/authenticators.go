package store

import (
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/totp"
)

// purposeAuthenticator binds a seal to this table.
const purposeAuthenticator = "authenticator"

func (t *tx) Authenticator(slackID string) (approvals.Authenticator, error) {
	a, _, err := t.authenticator(slackID)
	return a, err
}

func (t *tx) authenticator(slackID string) (a approvals.Authenticator, version int64, err error) {
	var sealed []byte
	err = t.get(`SELECT version, sealed, enrolled_at, enrolled_by, first_used, last_step, failures, wait_until, disabled
		FROM authenticators WHERE slack_id = ?`, []any{slackID},
		&version, &sealed, stamp{&a.EnrolledAt}, &a.EnrolledBy, stamp{&a.FirstUsed}, &a.LastStep,
		&a.Throttle.Failures, stamp{&a.Throttle.WaitUntil}, &a.Throttle.Disabled)
	if err != nil {
		return approvals.Authenticator{}, 0, err
	}
	secret, err := t.keys.Open(purposeAuthenticator, slackID, version, sealed)
	if err != nil {
		return approvals.Authenticator{}, version, fmt.Errorf("authenticator of %s: %w", slackID, err)
	}
	if a.Secret, err = totp.FromBytes(secret); err != nil {
		return approvals.Authenticator{}, version, fmt.Errorf("authenticator of %s: %w: %w", slackID, approvals.ErrSeal, err)
	}
	return a, version, nil
}

func (t *tx) SaveAuthenticator(slackID string, a *approvals.Authenticator) error {
	if a == nil {
		_, err := t.exec("DELETE FROM authenticators WHERE slack_id = ?", slackID)
		return err
	}
	secret := a.Secret.Bytes()
	if secret == nil {
		return errors.New("save authenticator: no secret")
	}
	if _, err := t.Person(slackID); err != nil {
		return fmt.Errorf("save authenticator of %s: %w", slackID, err)
	}
	old, version, err := t.authenticator(slackID)
	state := []any{millis(a.EnrolledAt), a.EnrolledBy, millis(a.FirstUsed), a.LastStep,
		a.Throttle.Failures, millis(a.Throttle.WaitUntil), a.Throttle.Disabled}
	switch {
	case err == nil && subtle.ConstantTimeCompare(old.Secret.Bytes(), secret) == 1:
		// Every attempt is counted here: the seal stays as it is.
		_, err := t.exec(`UPDATE authenticators SET enrolled_at = ?, enrolled_by = ?, first_used = ?, last_step = ?,
			failures = ?, wait_until = ?, disabled = ? WHERE slack_id = ?`, append(state, slackID)...)
		return err
	case err != nil && !errors.Is(err, approvals.ErrNotFound) && !errors.Is(err, approvals.ErrSeal):
		return err
	}
	sealed, keyID, err := t.seal(purposeAuthenticator, slackID, version+1, secret)
	if err != nil {
		return err
	}
	_, err = t.exec(`INSERT INTO authenticators (enrolled_at, enrolled_by, first_used, last_step, failures, wait_until, disabled,
			slack_id, version, key_id, sealed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (slack_id) DO UPDATE SET enrolled_at = excluded.enrolled_at, enrolled_by = excluded.enrolled_by,
			first_used = excluded.first_used, last_step = excluded.last_step, failures = excluded.failures,
			wait_until = excluded.wait_until, disabled = excluded.disabled,
			version = excluded.version, key_id = excluded.key_id, sealed = excluded.sealed`,
		append(state, slackID, version+1, keyID, sealed)...)
	return err
}
