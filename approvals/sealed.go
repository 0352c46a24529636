package approvals

import (
	"errors"
	"fmt"
	"maps"

	json "github.com/go-json-experiment/json/v1"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/totp"
)

// factor is an authenticator as it is sealed.
type factor struct {
	Base32 string `json:"secret"`
	Authenticator
}

func secretFactor(slackID string) string { return "authenticator/" + slackID }

// authenticator opens a person's second factor; [ErrNotFound] when they have
// none, [ErrSeal] when it was altered or is an older one that was put back.
func authenticator(tx Tx, slackID string) (Authenticator, error) {
	h, err := readHead(tx)
	if err != nil {
		return Authenticator{}, err
	}
	return openFactor(tx, h, slackID)
}

func openFactor(tx Tx, h head, slackID string) (a Authenticator, err error) {
	text, err := tx.Secret(secretFactor(slackID))
	if err != nil {
		return a, fmt.Errorf("authenticator of %s: %w", slackID, err)
	}
	version := h.Factors[slackID]
	if text == "" && version == 0 {
		return a, ErrNotFound
	}
	var f factor
	if text == "" || json.Unmarshal([]byte(text), &f) != nil || f.Version != version {
		return a, fmt.Errorf("authenticator of %s: %w", slackID, ErrSeal)
	}
	if f.Secret, err = totp.ParseSecret(f.Base32); err != nil {
		return a, fmt.Errorf("authenticator of %s: %w: %w", slackID, ErrSeal, err)
	}
	return f.Authenticator, nil
}

// authenticator opens a person's second factor in the state of this transaction.
func (c *Change) authenticator(slackID string) (Authenticator, error) {
	if err := c.begin(); err != nil {
		return Authenticator{}, err
	}
	return openFactor(c.Tx, c.head, slackID)
}

// saveAuthenticator seals a second factor; nil removes it. Its version never
// comes back, so that what was used once stays used.
func (c *Change) saveAuthenticator(slackID string, a *Authenticator) error {
	if err := c.begin(); err != nil {
		return err
	}
	factors := map[string]int64{}
	maps.Copy(factors, c.head.Factors)
	c.head.Factors, c.grown = factors, true
	if a == nil {
		delete(factors, slackID)
		return c.SetSecret(secretFactor(slackID), "")
	}
	a.Version = c.head.Turn + 1
	factors[slackID] = a.Version
	return sealValue(c.Tx, secretFactor(slackID), factor{a.Secret.Base32(), *a})
}

// standing and members are what Slack said last. They are sealed, because rights
// rest on them, and count for a limited time, so that putting older ones back
// gains nothing.
func secretStanding(slackID string) string { return "standing/" + slackID }

func secretGroup(id string) string { return "group/" + id }

// sealedValue reads what is stored again from time to time, or can be had anew. A value
// that was damaged counts as none, which gives no right and stops nothing.
func sealedValue[T any](tx Tx, name string) (v T, err error) {
	text, err := whole(tx.Secret(name))
	if err != nil || text == "" {
		return v, err
	}
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		return v, fmt.Errorf("read %s: %w", name, err)
	}
	return v, nil
}

func sealValue(tx Tx, name string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return tx.SetSecret(name, string(text))
}

// whole takes a secret that was damaged for none.
func whole(text string, err error) (string, error) {
	if errors.Is(err, ErrSeal) {
		return "", nil
	}
	return text, err
}

// secretChannel names where operators' notices go.
const secretChannel = "channel"
