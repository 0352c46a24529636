package stage_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/gateway"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

const (
	projectID = "c0ffee00-1111-4222-8333-444455556666"
	jobID     = "11111111-2222-4333-8444-555555555555"
)

// issuing sets a product up that takes OIDC tokens alone.
func issuing(t *testing.T, log io.Writer) (*play, *circlecitest.Issuer) {
	t.Helper()
	issuer, stop := circlecitest.StartIssuer()
	t.Cleanup(stop)
	o := settings("CI_IDENTITY=oidc", "CIRCLECI_PROJECT_ID="+projectID)
	o.Log, o.Env = log, append(o.Env, "RGW_OIDC_ISSUER="+issuer.URL(), "RGW_LOG_LEVEL=debug")
	return setup(t, o), issuer
}

// Each fault of an OIDC token is refused with a code of its own, by the daemon as it
// runs, and leaves nothing behind.
func TestOIDCTokensThatAreRefused(t *testing.T) {
	var log bytes.Buffer
	p, issuer := issuing(t, &log)
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
		reason      approvals.Reason
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
		{"foreign key under a known id", stolen.Token(claims, map[string]any{"kid": "0"}), 503, approvals.ReasonKey},
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
		if !(status == 503 && problem.Reason == approvals.ReasonKey) && status != 429 {
			t.Fatalf("unknown key: got %d %+v; want 503 %s, or 429", status, problem, approvals.ReasonKey)
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
	p.until("the card stands", func() bool { return len(p.cards()) == 1 })
	thread := p.thread(asked{card: p.cards()[0]})
	p.Stop()
	for _, part := range parts {
		if strings.Contains(log.String()+thread, part) {
			t.Errorf("a part of a token stands in the log or the thread: %s", part)
		}
	}
}

// environment is that of a CircleCI job without any stored secret: its program
// circleci hands out the OIDC token of the job for the audience that it is asked for.
func environment(p *play, issuer *circlecitest.Issuer, workflow string) []string {
	p.t.Helper()
	dir := p.t.TempDir()
	token := issuer.Token(circlecitest.With(issuer.Claims(p.URL, projectID, workflow, jobID), map[string]any{
		"oidc.circleci.com/vcs-origin": "github.com/MyOrg/myapp", "oidc.circleci.com/vcs-ref": "refs/heads/main",
	}), nil)
	script := fmt.Sprintf(`#!/bin/sh
[ "$*" = 'run oidc get --claims {"aud":"%s"}' ] || { echo "unknown arguments: $*" >&2; exit 1; }
echo %s
`, p.URL, token)
	p.ok(os.WriteFile(filepath.Join(dir, "circleci"), []byte(script), 0o700))
	return []string{
		"RACK_GATEWAY_URL=" + p.URL, "PATH=" + dir + string(os.PathListSeparator) + os.Getenv("PATH"), "CIRCLECI=true",
		"CIRCLE_WORKFLOW_ID=" + workflow, "CIRCLE_WORKFLOW_JOB_ID=" + jobID, "CIRCLE_SHA1=" + stage.Revision, "CIRCLE_BRANCH=" + stage.Branch,
	}
}

// A whole deploy without any API token: request, wait, verify, deploy.
func TestDeployWithoutAStoredSecret(t *testing.T) {
	p, issuer := issuing(t, nil)
	p.operator("token", "revoke", "ci-myapp")
	workflow := p.Pipeline(stage.Number)
	env := environment(p, issuer, workflow)
	client := func(code int, args ...string) stage.Result {
		t.Helper()
		var out, errs bytes.Buffer
		r := stage.Result{Code: gateway.Run(p.ctx, args, env, strings.NewReader(""), &out, &errs)}
		r.Stdout, r.Stderr = out.String(), errs.String()
		if r.Code != code {
			t.Fatalf("%q: got %+v; want exit %d", args, r, code)
		}
		return r
	}
	client(0, "check")
	id := strings.TrimSpace(client(0, stage.RequestArgs(workflow)...).Stdout)
	a := asked{workflow, id, p.card(id)}
	client(9, "deploy-approval", "verify", "--app", stage.App)
	p.ok(p.Circle.Succeed(workflow, "request_approval"))
	p.approve(stage.Ana, a, "approve")
	client(0, "deploy-approval", "wait", "--app", stage.App, "--until", "released")
	client(0, "deploy-approval", "verify", "--app", stage.App)
	if r := client(0, "deploy", "--app", stage.App, "--", "sh", "-c", "echo deployed; env"); !strings.HasPrefix(r.Stdout, "deployed\n") {
		t.Errorf("got %+v; want the output of the command", r)
	}
	p.replied(a, "Asked by its CircleCI job for", "The deploy job asked, and its answer was yes.")

	var shown webhook.Request
	p.ok(json.Unmarshal([]byte(client(0, "deploy-approval", "show", id, "-o", "json").Stdout), &shown))
	want := "ci:" + stage.Project + "/" + workflow
	if shown.Requester.Token != want {
		t.Errorf("got requester %q; want %q", shown.Requester.Token, want)
	}
	var by []approvals.EventType
	for _, e := range p.log() {
		if e.Actor == (approvals.Actor{Kind: approvals.ActorJob, ID: want}) {
			by = append(by, e.Type)
		}
	}
	if got := fmt.Sprint(by); !strings.HasPrefix(got, "[request.created ") || !strings.HasSuffix(got, "deploy.reported deploy.reported]") {
		t.Errorf("the log names %s as the actor of %s", want, got)
	}
	other := environment(p, issuer, p.Pipeline(stage.Number+1))
	env = other
	if r := client(9, "deploy-approval", "show", id); !strings.Contains(r.Stderr, "not_found") {
		t.Errorf("another workflow: got %+v", r)
	}
}
