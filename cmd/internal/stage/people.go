package stage

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/totp"
)

// People makes Ana, Bea and Alice admins with authenticators, and a token for
// CI, and waits until the running daemon knows them.
func (s *Stage) People(ctx context.Context) error {
	if err := s.Enrol(ctx); err != nil {
		return err
	}
	return s.Confirmed(ctx)
}

// Enrol does the same without a daemon: then nothing is announced in Slack.
func (s *Stage) Enrol(ctx context.Context) error {
	for _, p := range []struct{ id, name, login string }{{Ana, "Ana", "ana"}, {Bea, "Bea", "bea"}, {Alice, "Alice", Starter}} {
		if err := s.Admin(ctx, p.id, p.name, p.login); err != nil {
			return err
		}
	}
	var err error
	s.Token, err = s.NewToken(ctx, "ci-myapp", "--role", "cicd", "--app", App)
	return err
}

// Admin makes somebody an admin with an authenticator; login may be empty.
func (s *Stage) Admin(ctx context.Context, id, name, login string) error {
	if r := s.Operator(ctx, "", "user", "add", "--slack-id", id, "--name", name, "--vcs-login", login); r.Code != 0 {
		return fmt.Errorf("user add: %s", r.Stderr)
	}
	secret := totp.NewSecret()
	if r := s.Operator(ctx, secret.Base32()+"\n", "user", "enroll", "--slack-id", id, "--secret-stdin"); r.Code != 0 {
		return fmt.Errorf("user enroll: %s", r.Stderr)
	}
	s.SetSecret(id, secret)
	return nil
}

// NewToken makes an API token with the flags of token create.
func (s *Stage) NewToken(ctx context.Context, name string, flags ...string) (string, error) {
	r := s.Operator(ctx, "", append([]string{"token", "create", "--name", name}, flags...)...)
	if r.Code != 0 {
		return "", fmt.Errorf("token create: %s", r.Stderr)
	}
	return strings.TrimSpace(r.Stdout), nil
}

// Confirmed waits until Slack confirmed everybody to the daemon.
func (s *Stage) Confirmed(ctx context.Context) error {
	for {
		var people []struct {
			CheckedAt *time.Time `json:"checked_at"`
		}
		r := s.Operator(ctx, "", "user", "list", "-o", "json")
		if err := json.Unmarshal([]byte(r.Stdout), &people); err != nil {
			return fmt.Errorf("user list: %w: %s", err, r.Stderr)
		}
		known := true
		for _, p := range people {
			known = known && p.CheckedAt != nil
		}
		if known {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until Slack confirms the admins: %w", ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// SetSecret gives somebody's phone the key of an authenticator.
func (s *Stage) SetSecret(user string, secret totp.Secret) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secrets[user] = secret
}

// Secret is what is in somebody's phone.
func (s *Stage) Secret(user string) totp.Secret {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.secrets[user]
}

// Code is what a person's authenticator shows at a time, "" if they have none.
func (s *Stage) Code(user string, at time.Time) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if secret, ok := s.secrets[user]; ok {
		return secret.At(at)
	}
	return ""
}

// WrongCode is six digits that the authenticator shows neither now nor one step
// before or after.
func (s *Stage) WrongCode(user string, at time.Time) string {
	for {
		code := fmt.Sprintf("%06d", rand.IntN(1e6))
		right := false
		for _, d := range []time.Duration{-60, -30, 0, 30, 60} {
			right = right || s.Code(user, at.Add(d*time.Second)) == code
		}
		if !right {
			return code
		}
	}
}
