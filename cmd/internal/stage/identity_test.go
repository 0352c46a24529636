package stage_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

const (
	projectID = "c0ffee00-1111-4222-8333-444455556666"
	jobID     = "11111111-2222-4333-8444-555555555555"
)

// issuing sets a product up that takes OIDC tokens alone.
func issuing(t *testing.T) (*play, *circlecitest.Issuer) {
	t.Helper()
	issuer, stop := circlecitest.StartIssuer()
	t.Cleanup(stop)
	o := settings("CI_IDENTITY=oidc", "CIRCLECI_PROJECT_ID="+projectID)
	o.Env = append(o.Env, "RGW_OIDC_ISSUER="+issuer.URL())
	return setup(t, o), issuer
}

// Each fault of an OIDC token is refused with a code of its own, by the daemon as it
// runs, and leaves nothing behind.
func TestOIDCTokensThatAreRefused(t *testing.T) {
	p, issuer := issuing(t)
	workflow := p.Pipeline(stage.Number)
	claims := issuer.Claims(p.URL, projectID, workflow, jobID)
	body := filing{CreateBody: webhook.CreateBody{App: stage.App, GitCommit: stage.Revision}, workflow: workflow}.body()
	file := func(token string) (int, webhook.Problem) {
		return p.call("POST", "/deploy-approval-requests", token, "application/json", body)
	}
	with := func(changed map[string]any) string { return issuer.Token(circlecitest.With(claims, changed), nil) }
	one := func(name string, value any) string { return with(map[string]any{name: value}) }
	in := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	const oidc = "oidc.circleci.com/"
	parts := strings.Split(with(nil), ".")
	header := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	forged := header(`{"alg":"HS256","kid":"0"}`) + "." + parts[1]
	mac := hmac.New(sha256.New, []byte("secret"))
	mac.Write([]byte(forged))
	stolen := circlecitest.NewIssuer(strings.TrimSuffix(issuer.URL(), "/org/"+circlecitest.Org))
	stolen.Rotate()

	for _, c := range []struct {
		name, token string
		status      int
		reason      string
	}{
		{"wrong audience", one("aud", circlecitest.Org), 401, approvals.ReasonAudience},
		{"several audiences", one("aud", []string{p.URL, circlecitest.Org}), 401, approvals.ReasonAudiences},
		{"other organisation", one("iss", strings.Replace(issuer.URL(), circlecitest.Org, projectID, 1)), 401, approvals.ReasonIssuer},
		{"other project", one(oidc+"project-id", jobID), 401, approvals.ReasonProject},
		{"other workflow", one(oidc+"workflow-id", jobID), 403, approvals.ReasonWorkflow},
		{"run again with SSH", one(oidc+"ssh-rerun", true), 401, approvals.ReasonSSH},
		{"a fork's origin", one(oidc+"vcs-origin", "github.com/mallory/myapp"), 401, approvals.ReasonOrigin},
		{"expired", with(map[string]any{"iat": in(-2 * time.Hour), "exp": in(-2 * time.Minute)}), 401, approvals.ReasonExpired},
		{"from the future", one("iat", in(2*time.Minute)), 401, approvals.ReasonNotYet},
		{"ten years", one("exp", in(10*365*24*time.Hour)), 401, approvals.ReasonLifetime},
		{"alg none", header(`{"alg":"none"}`) + "." + parts[1] + ".", 401, approvals.ReasonAlgorithm},
		{"alg HS256", forged + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil)), 401, approvals.ReasonAlgorithm},
		{"foreign key under a known id", stolen.Token(claims, map[string]any{"kid": "0"}), 401, approvals.ReasonKey},
		{"no token of CircleCI", "e30.e30.", 401, approvals.ReasonAlgorithm},
		{"static token", p.Token, 403, approvals.ReasonCredential},
	} {
		status, problem := file(c.token)
		if status != c.status || problem.Reason != c.reason {
			t.Errorf("%s: got %d %+v; want %d %s", c.name, status, problem, c.status, c.reason)
		}
		if problem.Detail == "" || strings.Contains(problem.Detail, c.token) {
			t.Errorf("%s: got detail %q; want a sentence without the token", c.name, problem.Detail)
		}
	}
	for range 50 {
		status, problem := file(issuer.Token(claims, map[string]any{"kid": "made-up"}))
		if !(status == 401 && problem.Reason == approvals.ReasonKey) && status != 429 {
			t.Fatalf("unknown key: got %d %+v; want 401 %s, or 429", status, problem, approvals.ReasonKey)
		}
	}
	if got := issuer.Fetches(); got != 1 {
		t.Errorf("the keys were fetched %d times; want 1", got)
	}
	p.nothingFiled()
	issuer.SetDown(true)
	if status, problem := file(with(map[string]any{oidc + "vcs-origin": "github.com/MyOrg/myapp"})); status != 201 {
		t.Errorf("a good token while the issuer is down: got %d %+v; want 201", status, problem)
	}
}
