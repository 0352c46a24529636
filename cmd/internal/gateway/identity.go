package gateway

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli"
)

const (
	envOIDCToken    = "RACK_GATEWAY_OIDC_TOKEN"
	envOIDCAudience = "RACK_GATEWAY_OIDC_AUDIENCE"

	mintTries = 3
	mintTime  = 20 * time.Second // for one try
	mintPause = time.Second      // before the second try, and twice that before the third
	// renewBefore is how long before its end a token is replaced.
	renewBefore = 5 * time.Minute
	// renewAfter is the life of a token that does not say when it ends.
	renewAfter = 10 * time.Minute
)

// credential is what opens the gateway: an API token, or else the OIDC token of
// this CircleCI job, whose audience is by default the URL of the gateway.
func (c *program) credential(gateway string) (token string, mint func(context.Context) (string, error), err error) {
	if token, err = c.token(); token != "" || err != nil {
		return token, nil, err
	}
	given, err := c.setting(envOIDCToken)
	switch {
	case err != nil:
		return "", nil, err
	case given != "" && !approvals.IsJWT(given):
		return "", nil, cli.Usage("%s is not an OIDC token, which has three parts with dots between them", envOIDCToken)
	case given != "":
		return "", func(context.Context) (string, error) { return given, nil }, nil
	case c.env["CIRCLECI"] != "true" && c.given("", ciWorkflow) == "":
		return "", nil, cli.Usage("%s is not set", envToken)
	}
	program, err := c.lookPath("circleci")
	if err != nil {
		return "", nil, cli.Usage("%s is not set, and this job has no program circleci that gives it an OIDC token", envToken)
	}
	audience, err := c.setting(envOIDCAudience)
	if err != nil {
		return "", nil, err
	}
	if audience == "" {
		audience = gateway
	}
	return "", (&minted{program: program, audience: audience, env: c.childEnv(false), say: c.Say}).token, nil
}

// lookPath finds a program in the PATH of our environment.
func (c *program) lookPath(name string) (string, error) {
	for _, dir := range filepath.SplitList(c.env["PATH"]) {
		if found, err := exec.LookPath(filepath.Join(dir, name)); err == nil && filepath.IsAbs(dir) {
			return found, nil
		}
	}
	return "", exec.ErrNotFound
}

// minted asks CircleCI for the OIDC token of this job, and again before it ends.
// There is no other way to a token with an audience of one's own. See
// https://circleci.com/docs/guides/permissions-authentication/oidc-tokens-with-custom-claims/.
type minted struct {
	program, audience string
	env               []string
	say               func(format string, args ...any)

	mu    sync.Mutex
	text  string
	renew time.Time
}

func (m *minted) token(ctx context.Context) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.text != "" && time.Now().Before(m.renew) {
		return m.text, nil
	}
	for try := 1; ; try++ {
		text, err := m.mint(ctx)
		if err == nil {
			m.text, m.renew = text, renewal(text, time.Now())
			return text, nil
		}
		if try == mintTries || ctx.Err() != nil {
			return "", &cli.Exit{Code: exitDenied, Err: fmt.Errorf("get an OIDC token for the gateway: %w", err)}
		}
		m.say("No OIDC token: %s; trying again", err)
		approvals.Pause(ctx, time.Duration(try)*mintPause)
	}
}

// mint runs `circleci run oidc get`. The token comes through a pipe, and what the
// program says beside it is told without anything that looks like one.
func (m *minted) mint(ctx context.Context) (string, error) {
	claims, err := json.Marshal(map[string]string{"aud": m.audience})
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, mintTime)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, m.program, "run", "oidc", "get", "--claims", string(claims))
	cmd.Env, cmd.Stdout, cmd.Stderr = m.env, &most{&out, 64 << 10}, &most{&errs, 4 << 10}
	cmd.WaitDelay = time.Second
	err = cmd.Run()
	text := strings.TrimSpace(out.String())
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("circleci run oidc get did not end in time: %w", ctx.Err())
	case err != nil:
		said := strings.TrimSpace(tokenLike.ReplaceAllString(errs.String(), "(token)"))
		return "", fmt.Errorf("circleci run oidc get: %w: %s", err, said)
	case !approvals.IsJWT(text):
		return "", errors.New("circleci run oidc get printed no token")
	}
	return text, nil
}

// tokenLike finds a JSON Web Token, or a part of one, in a text.
var tokenLike = regexp.MustCompile(`eyJ[A-Za-z0-9_.-]*`)

// most passes so many bytes on, and drops what comes after them.
type most struct {
	to   io.Writer
	left int
}

func (m *most) Write(b []byte) (int, error) {
	n := min(len(b), m.left)
	m.left -= n
	if _, err := m.to.Write(b[:n]); err != nil {
		return 0, err
	}
	return len(b), nil
}

// renewal is when a token should be replaced. Only the gateway judges a token, so
// its signature does not matter here.
func renewal(token string, now time.Time) time.Time {
	var claims struct {
		IssuedAt float64 `json:"iat"`
		Expiry   float64 `json:"exp"`
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil || json.Unmarshal(payload, &claims) != nil || claims.Expiry <= 0 {
		return now.Add(renewAfter)
	}
	ends := time.Unix(int64(claims.Expiry), 0)
	// The clock of the job may be late. The token is new, so it lives at most as long as from now.
	if life := now.Add(time.Duration(claims.Expiry-claims.IssuedAt) * time.Second); life.Before(ends) {
		ends = life
	}
	return ends.Add(-renewBefore)
}
