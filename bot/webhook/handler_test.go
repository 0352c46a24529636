package webhook_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
)

const requests = "/api/v1/deploy-approval-requests"

// answered is an answer that was read to its end.
type answered struct {
	*http.Response
	body string
}

func (a answered) problem(t *testing.T) webhook.Problem {
	t.Helper()
	var p webhook.Problem
	if got := a.Header.Get("Content-Type"); got != "application/problem+json" {
		t.Fatalf("Content-Type %q of %q; want application/problem+json", got, a.body)
	}
	if err := json.Unmarshal([]byte(a.body), &p); err != nil {
		t.Fatalf("problem %q: %v", a.body, err)
	}
	return p
}

// ask makes one call; headers are name, value pairs.
func ask(t *testing.T, s *httptest.Server, method, path, token, body string, headers ...string) answered {
	t.Helper()
	req, err := http.NewRequest(method, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answered{res, string(b)}
}

func createBody(extra string) string {
	return fmt.Sprintf(`{"app":"myapp","environment":"production","git_commit":"1a2b3c4","branch":"main","message":"Fix","ci_metadata":{"workflow_id":%q,"pipeline_number":"1234","team":"x"}%s}`, workflow, extra)
}

const golden = `{
  "id": "R1",
  "number": 1,
  "app": "myapp",
  "environment": "production",
  "status": "pending",
  "git_commit": "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d",
  "branch": "main",
  "tag": null,
  "message": "Fix",
  "ci_metadata": {
    "workflow_id": "5034460f-c7c4-4c43-9457-de07e2029e7b",
    "pipeline_number": "1234",
    "team": "x"
  },
  "requester": {
    "token": "ci-myapp",
    "actor": "alice"
  },
  "pipeline": {
    "number": 1234,
    "url": "https://app.circleci.com/pipelines/gh/MyOrg/myapp/1234",
    "workflow_id": "5034460f-c7c4-4c43-9457-de07e2029e7b",
    "workflow_url": "https://app.circleci.com/pipelines/gh/MyOrg/myapp/1234/workflows/5034460f-c7c4-4c43-9457-de07e2029e7b"
  },
  "gate": {
    "job_name": "approve_deploy_production",
    "status": null,
    "approved_by": null
  },
  "slack": {
    "channel": null,
    "ts": null,
    "permalink": null
  },
  "required_approvals": 1,
  "decisions": [],
  "created_at": "2026-11-23T09:30:00.005Z",
  "expires_at": "2026-11-24T09:30:00.005Z",
  "approved_at": null,
  "approval_expires_at": null,
  "released_at": null,
  "closed_at": null,
  "deploy": {
    "phase": null,
    "started_at": null,
    "finished_at": null,
    "detail": null
  },
  "failure": {
    "code": null,
    "detail": null
  }
}`

func indent(t *testing.T, body string) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Indent(&b, []byte(body), "", "  "); err != nil {
		t.Fatalf("%q: %v", body, err)
	}
	return strings.TrimSpace(b.String())
}

func TestCreate(t *testing.T) {
	t.Parallel()
	f, s := serve(t, nil)
	first := ask(t, s, "POST", requests, ciToken, createBody(""))
	if first.StatusCode != 201 || first.Header.Get("Location") != requests+"/R1" {
		t.Errorf("create: got %d, Location %q; want 201 with the request's path", first.StatusCode, first.Header.Get("Location"))
	}
	if diff := cmp.Diff(golden, indent(t, first.body)); diff != "" {
		t.Errorf("request object (-want +got):\n%s", diff)
	}
	again := ask(t, s, "POST", requests, ciToken, createBody(""))
	if again.StatusCode != 200 || again.body != first.body {
		t.Errorf("create again: got %d %s; want 200 with the same object", again.StatusCode, again.body)
	}
	for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Content-Type": "application/json"} {
		if got := first.Header.Get(name); got != want {
			t.Errorf("%s: got %q; want %q", name, got, want)
		}
	}
	f.set("R1", func(r *approvals.Request) {
		r.Status, r.ApprovedAt = approvals.Approved, r.CreatedAt.Add(time.Minute)
		r.Decisions = []approvals.Decision{{Action: "approve", SlackUser: "U1", Name: "ana", At: r.ApprovedAt, MFA: "totp"}}
	})
	got := ask(t, s, "GET", requests+"/1", auditToken, "")
	var r webhook.Request
	if err := json.Unmarshal([]byte(got.body), &r); err != nil {
		t.Fatal(err)
	}
	when := time.Date(2026, 11, 23, 9, 31, 0, 5e6, time.UTC)
	if diff := cmp.Diff([]webhook.Decision{{Action: "approve", SlackUser: "U1", Name: "ana", At: &when, MFA: "totp"}}, r.Decisions); diff != "" {
		t.Errorf("decisions (-want +got):\n%s", diff)
	}
}

func TestCreateTakesLooseForms(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"number":                  `{"app":"myapp","git_commit":"1a2b3c4","ci_metadata":{"workflow_id":"` + workflow + `","pipeline_number":1234}}`,
		"empty strings":           `{"app":"myapp","environment":"","git_commit":"1a2b3c4","tag":"","ci_metadata":{"workflow_id":"` + workflow + `","pipeline_number":"","job_id":""}}`,
		"nulls":                   `{"app":"myapp","environment":null,"git_commit":"1a2b3c4","ci_metadata":{"workflow_id":"` + workflow + `","job_id":null}}`,
		"same key in two objects": `{"app":"myapp","git_commit":"1a2b3c4","ci_metadata":{"workflow_id":"` + workflow + `","x":[{"a":1},{"A":2}],"a":{"a":{"a":1}}}}`,
		"unknown in metadata":     `{"app":"myapp","git_commit":"1a2b3c4","ci_metadata":{"workflow_id":"` + workflow + `","Team":{"a":[1,{"b":2}]}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, s := serve(t, nil)
			if got := ask(t, s, "POST", requests, ciToken, body, "Content-Type", "Application/JSON; charset=UTF-8"); got.StatusCode != 201 {
				t.Errorf("got %d %s; want 201", got.StatusCode, got.body)
			}
		})
	}
}

func TestFaultyCreates(t *testing.T) {
	t.Parallel()
	meta := `"ci_metadata":{"workflow_id":"` + workflow + `"}`
	good := `{"app":"myapp","git_commit":"1a2b3c4",` + meta
	for _, tt := range []struct {
		name, body, kind string
		status           int
		code             approvals.Code
		field            string
	}{
		{name: "not JSON", body: `{"app":`, status: 400, code: "invalid", field: "body"},
		{name: "array", body: `[]`, status: 400, code: "invalid", field: "body"},
		{name: "null", body: `null`, status: 400, code: "invalid", field: "body"},
		{name: "second document", body: good + `} {}`, status: 400, code: "invalid", field: "body"},
		{name: "duplicate key", body: good + `,"app":"other"}`, status: 400, code: "invalid", field: "app"},
		{name: "case variant", body: good + `,"APP":"other"}`, status: 400, code: "invalid", field: "APP"},
		{name: "escaped duplicate", body: good + `,"\u0061pp":"other"}`, status: 400, code: "invalid", field: "app"},
		{name: "look-alike", body: good + `,"x":1,"message":"a","me\u017fsage":"b"}`, status: 400, code: "invalid", field: "me\u017fsage"},
		{name: "case variant alone", body: `{"App":"myapp","git_commit":"1a2b3c4",` + meta + `}`, status: 400, code: "invalid", field: "App"},
		{name: "unknown field", body: good + `,"approve":true}`, status: 400, code: "invalid", field: "approve"},
		{name: "duplicate in metadata", body: `{"app":"myapp","git_commit":"1a2b3c4","ci_metadata":{"workflow_id":"a","workflow_id":"b"}}`, status: 400, code: "invalid", field: "workflow_id"},
		{name: "case variant in metadata", body: `{"app":"myapp","git_commit":"1a2b3c4","ci_metadata":{"Workflow_ID":"a"}}`, status: 400, code: "invalid", field: "ci_metadata.Workflow_ID"},
		{name: "case variants deep in metadata", body: `{"app":"myapp","git_commit":"1a2b3c4","ci_metadata":{"workflow_id":"a","x":[{"Key":1},{"key":1,"Key":2}]}}`, status: 400, code: "invalid", field: "Key"},
		{name: "half a surrogate pair", body: good + `,"message":"\ud800"}`, status: 400, code: "invalid", field: "body"},
		{name: "too deep", body: good + `,"x":` + strings.Repeat("[", 16) + strings.Repeat("]", 16) + `}`, status: 400, code: "invalid", field: "body"},
		{name: "not UTF-8", body: good + `,"message":"` + "\xff" + `"}`, status: 400, code: "invalid", field: "body"},
		{name: "wrong type", body: `{"app":1,"git_commit":"1a2b3c4",` + meta + `}`, status: 400, code: "invalid", field: "app"},
		{name: "metadata not an object", body: `{"app":"myapp","git_commit":"1a2b3c4","ci_metadata":"x"}`, status: 400, code: "invalid", field: "ci_metadata"},
		{name: "metadata too large", body: `{"app":"myapp","git_commit":"1a2b3c4","ci_metadata":{"workflow_id":"` + workflow + `","x":"` + strings.Repeat("x", 8<<10) + `"}}`, status: 400, code: "invalid", field: "ci_metadata"},
		{name: "workflow id not a string", body: `{"app":"myapp","git_commit":"1a2b3c4","ci_metadata":{"workflow_id":7}}`, status: 400, code: "invalid", field: "ci_metadata.workflow_id"},
		{name: "pipeline number of words", body: `{"app":"myapp","git_commit":"1a2b3c4","ci_metadata":{"workflow_id":"x","pipeline_number":"12a"}}`, status: 400, code: "invalid", field: "ci_metadata.pipeline_number"},
		{name: "broken pipeline number", body: `{"app":"myapp","git_commit":"1a2b3c4","ci_metadata":{"workflow_id":"x","pipeline_number":1.5}}`, status: 400, code: "invalid", field: "ci_metadata.pipeline_number"},
		{name: "too large", body: good + `,"message":"` + strings.Repeat("x", 64<<10) + `"}`, status: 413, code: "too_large"},
		{name: "form", body: "app=myapp", kind: "application/x-www-form-urlencoded", status: 415, code: "unsupported_media_type"},
		{name: "other charset", body: good + `}`, kind: "application/json; charset=utf-16", status: 415, code: "unsupported_media_type"},
		{name: "bad content type", body: good + `}`, kind: "application/json;;=", status: 415, code: "unsupported_media_type"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f, s := serve(t, nil)
			headers := []string{}
			if tt.kind != "" {
				headers = []string{"Content-Type", tt.kind}
			}
			got := ask(t, s, "POST", requests, ciToken, tt.body, headers...)
			p := got.problem(t)
			if got.StatusCode != tt.status || p.Status != tt.status || p.Code != tt.code {
				t.Errorf("got %d, problem %d %s; want %d %s", got.StatusCode, p.Status, p.Code, tt.status, tt.code)
			}
			if p.RequestID == "" || p.RequestID != got.Header.Get("X-Request-Id") {
				t.Errorf("request_id %q, X-Request-Id %q; want the same", p.RequestID, got.Header.Get("X-Request-Id"))
			}
			if tt.field != "" && !slices.ContainsFunc(p.Errors, func(e approvals.FieldError) bool { return e.Field == tt.field }) {
				t.Errorf("errors %v; want one for field %q", p.Errors, tt.field)
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			if len(f.requests) != 0 || len(f.refused) != 1 || !strings.HasSuffix(f.refused[0], " "+string(tt.code)) {
				t.Errorf("got %d requests, refusals %q; want none stored and one refusal recorded", len(f.requests), f.refused)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		err    error
		status int
		code   approvals.Code
		retry  string
	}{
		{"domain", &approvals.Error{Code: approvals.CodeGateNotFound, Message: "approval job 'x' not found in workflow"}, 422, "approval_job_not_found", ""},
		{"app", &approvals.Error{Code: approvals.CodeAppUnknown}, 404, "app_unknown", ""},
		{"released", &approvals.Error{Code: approvals.CodeAlreadyReleased}, 409, "already_released", ""},
		{"CircleCI refuses", &approvals.Error{Code: approvals.CodeCIUnauthorized, Message: "403 Forbidden"}, 502, "circleci_unauthorized", ""},
		{"CircleCI is down", &approvals.Error{Code: approvals.CodeCIUnavailable, RetryAfter: 7500 * time.Millisecond}, 503, "circleci_unavailable", "8"},
		{"wrapped", fmt.Errorf("create: %w", &approvals.Error{Code: approvals.CodeCommitMismatch}), 422, "commit_mismatch", ""},
		{"store", fmt.Errorf("commit: disk I/O error at /data/secret"), 503, "unavailable", "5"},
		{"changed", fmt.Errorf("save: %w", approvals.ErrConflict), 409, "conflict", ""},
		{"unknown code", &approvals.Error{Code: "nonsense"}, 500, "internal", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f, s := serve(t, nil)
			f.fail = tt.err
			got := ask(t, s, "POST", requests, ciToken, createBody(""))
			p := got.problem(t)
			if got.StatusCode != tt.status || p.Code != tt.code || got.Header.Get("Retry-After") != tt.retry {
				t.Errorf("got %d %s, Retry-After %q; want %d %s, %q", got.StatusCode, p.Code, got.Header.Get("Retry-After"), tt.status, tt.code, tt.retry)
			}
			if strings.Contains(got.body, "secret") {
				t.Errorf("the problem gives the cause away: %s", got.body)
			}
			if p.Type == "" || p.Title == "" {
				t.Errorf("problem %+v; want a type and a title", p)
			}
		})
	}
}

func TestUnknownPathsAndMethods(t *testing.T) {
	t.Parallel()
	_, s := serve(t, nil)
	for _, tt := range []struct {
		method, path string
		status       int
		code         approvals.Code
		allow        string
	}{
		{"GET", "/", 404, "not_found", ""},
		{"GET", "/api/v1/nothing", 404, "not_found", ""},
		{"GET", requests + "/", 404, "not_found", ""},
		{"GET", "/api/v1//deploy-approval-requests", 404, "not_found", ""},
		{"GET", "/api/v1/x/../deploy-approval-requests", 404, "not_found", ""},
		{"DELETE", requests, 405, "method_not_allowed", "GET, HEAD, POST"},
		{"POST", requests + "/R1", 405, "method_not_allowed", "GET, HEAD"},
		{"GET", requests + "/R1/cancel", 405, "method_not_allowed", "POST"},
		{"POST", "/healthz", 405, "method_not_allowed", "GET, HEAD"},
		{"GET", requests + "/a%2Fb", 404, "not_found", ""},
		{"GET", requests + "/%27%20or%201", 404, "not_found", ""},
		{"GET", requests + "/99999999999999999999999999", 404, "not_found", ""},
	} {
		got := ask(t, s, tt.method, tt.path, ciToken, "")
		p := got.problem(t)
		if got.StatusCode != tt.status || p.Code != tt.code || got.Header.Get("Allow") != tt.allow {
			t.Errorf("%s %s: got %d %s, Allow %q; want %d %s, %q", tt.method, tt.path, got.StatusCode, p.Code, got.Header.Get("Allow"), tt.status, tt.code, tt.allow)
		}
	}
}

func TestPanicIsAProblem(t *testing.T) {
	t.Parallel()
	var logged bytes.Buffer
	f, s := serve(t, func(c *webhook.Config) { c.Log = slog.New(slog.NewJSONHandler(&logged, nil)) })
	f.panics = true
	got := ask(t, s, "GET", requests+"/R1", ciToken, "")
	if p := got.problem(t); got.StatusCode != 500 || p.Code != "internal" || strings.Contains(got.body, "s3cr3t") {
		t.Errorf("got %d %s; want 500 without detail", got.StatusCode, got.body)
	}
	s.Close()
	if !strings.Contains(logged.String(), "boom") || strings.Contains(logged.String(), ciToken) {
		t.Errorf("log %s; want the panic and no token", logged.String())
	}
}

func TestLists(t *testing.T) {
	t.Parallel()
	f, s := serve(t, nil)
	for i := range 5 {
		ask(t, s, "POST", requests, otherCIToken, fmt.Sprintf(`{"app":"myapp","git_commit":"1a2b3c4","ci_metadata":{"workflow_id":"w%d"}}`, i))
	}
	f.set("R2", func(r *approvals.Request) { r.Status = approvals.Rejected })
	page := func(query string) (ids []string, next string) {
		got := ask(t, s, "GET", requests+query, ciToken, "")
		var p webhook.Page
		if err := json.Unmarshal([]byte(got.body), &p); err != nil || got.StatusCode != 200 {
			t.Fatalf("%s: %d %s", query, got.StatusCode, got.body)
		}
		for _, r := range p.Requests {
			ids = append(ids, r.ID)
		}
		return ids, string(p.NextCursor)
	}
	ids, next := page("?limit=2&app=myapp")
	if !slices.Equal(ids, []string{"R5", "R4"}) || next == "" {
		t.Fatalf("first page %q, next %q; want R5, R4 and a cursor", ids, next)
	}
	ids, next = page("?limit=2&cursor=" + next)
	if !slices.Equal(ids, []string{"R3", "R2"}) {
		t.Errorf("second page %q; want R3, R2", ids)
	}
	ids, next = page("?limit=2&cursor=" + next)
	if !slices.Equal(ids, []string{"R1"}) || next != "" {
		t.Errorf("last page %q, next %q; want R1 and no cursor", ids, next)
	}
	if ids, _ = page("?status=closed"); !slices.Equal(ids, []string{"R2"}) {
		t.Errorf("closed: got %q; want R2", ids)
	}
	if ids, _ = page("?status=open&git_commit=1A2B3C4"); len(ids) != 4 {
		t.Errorf("open: got %q; want four", ids)
	}
	if got := ask(t, s, "GET", requests+"?app=nothing", ciToken, ""); got.body != `{"requests":[],"next_cursor":null}`+"\n" {
		t.Errorf("empty page: got %s", got.body)
	}
	for _, query := range []string{
		"?limit=0", "?limit=201", "?limit=x", "?status=nope", "?cursor=zzz", "?cursor=YmVmb3JlOi0x", "?git_commit=xyz", "?git_commit=1a2b3c", "?app=MyApp", "?environment=a_b",
		"?enviroment=x", "?app=a&app=b", "?a;b", "?%zz",
	} {
		if got := ask(t, s, "GET", requests+query, ciToken, ""); got.StatusCode != 400 || got.problem(t).Code != "invalid" {
			t.Errorf("%s: got %d %s; want 400 invalid", query, got.StatusCode, got.body)
		}
	}
}

func TestOtherCalls(t *testing.T) {
	t.Parallel()
	f, s := serve(t, nil)
	ask(t, s, "POST", requests, ciToken, createBody(""))
	if got := ask(t, s, "GET", requests+"/R1/events", auditToken, ""); !strings.Contains(got.body, `{"events":[{"v":1,"seq":7,`) {
		t.Errorf("events: got %s", got.body)
	}
	verify := `{"app":"myapp","environment":"production","git_commit":"1a2b3c4","workflow_id":"` + workflow + `"}`
	if got := ask(t, s, "POST", requests+"/verify", ciToken, verify); got.StatusCode != 409 || got.problem(t).Code != "not_approved" {
		t.Errorf("verify before: got %d %s; want 409 not_approved", got.StatusCode, got.body)
	}
	f.set("R1", func(r *approvals.Request) { r.Status = approvals.Approved })
	var v webhook.Verified
	got := ask(t, s, "POST", requests+"/verify", ciToken, verify)
	if err := json.Unmarshal([]byte(got.body), &v); err != nil || got.StatusCode != 200 || v.Receipt.Seq != 7 || v.Request.ID != "R1" {
		t.Errorf("verify: got %d %s; want 200 with receipt and request", got.StatusCode, got.body)
	}
	if got := ask(t, s, "POST", requests+"/R1/deploy", ciToken, `{"phase":"started","job_id":"`+job+`"}`); got.StatusCode != 200 || f.reported[0] != "started  "+job {
		t.Errorf("deploy: got %d, reported %q", got.StatusCode, f.reported)
	}
	if got := ask(t, s, "POST", requests+"/R1/cancel", ciToken, `{"reason":"mistake"}`); got.StatusCode != 200 || f.state() != approvals.Canceled {
		t.Errorf("cancel: got %d %s", got.StatusCode, got.body)
	}
	for _, path := range []string{"/R1/cancel", "/R1/deploy", "/verify"} {
		if got := ask(t, s, "POST", requests+path, ciToken, `{"surprise":1}`); got.StatusCode != 400 {
			t.Errorf("%s with an unknown field: got %d; want 400", path, got.StatusCode)
		}
	}
	if got := ask(t, s, "GET", "/api/v1/audit/checkpoint", auditToken, ""); !strings.HasPrefix(got.body, "rack-gateway\n8\n") || got.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("checkpoint: got %q, %q", got.body, got.Header.Get("Content-Type"))
	}
	if got := ask(t, s, "GET", "/api/v1/audit/key", auditToken, ""); got.body != "rack-gateway+1234+key\n" {
		t.Errorf("key: got %q", got.body)
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	ready := webhook.Readiness{Status: webhook.StatusDegraded, Parts: map[string]webhook.Part{"slack": {Status: webhook.StatusDegraded, Detail: "no answer since 09:51"}}}
	h := webhook.New(webhook.Config{
		Service: newFake(t), Links: fakeLinks{},
		Ready: func(context.Context) webhook.Readiness { mu.Lock(); defer mu.Unlock(); return ready },
	})
	s := httptest.NewServer(checked(t, h))
	t.Cleanup(s.Close)
	if got := ask(t, s, "GET", "/healthz", "", ""); got.StatusCode != 200 || got.body != `{"status":"ok"}`+"\n" {
		t.Errorf("healthz: got %d %s", got.StatusCode, got.body)
	}
	const whole, brief = `{"status":"degraded","parts":{"slack":{"status":"degraded","detail":"no answer since 09:51"}}}`, `{"status":"degraded","parts":{"slack":{"status":"degraded"}}}`
	for token, want := range map[string]string{"": brief, ciToken: brief, "rgw_nobody": brief, "rgw_storedown": brief, auditToken: whole} {
		if got := ask(t, s, "GET", "/readyz", token, ""); got.StatusCode != 200 || got.body != want+"\n" {
			t.Errorf("readyz with the token %q: got %d %s; want 200 %s", token, got.StatusCode, got.body, want)
		}
	}
	own := httptest.NewServer(h.Health())
	defer own.Close()
	if got := ask(t, own, "GET", "/readyz", "", ""); got.StatusCode != 200 || got.body != whole+"\n" {
		t.Errorf("readyz of the operator's listener: got %d %s; want 200 %s", got.StatusCode, got.body, whole)
	}
	if got := ask(t, own, "GET", "/healthz", "", ""); got.StatusCode != 200 || got.body != `{"status":"ok"}`+"\n" {
		t.Errorf("healthz of the operator's listener: got %d %s", got.StatusCode, got.body)
	}
	if got := ask(t, own, "GET", requests, auditToken, ""); got.StatusCode != 404 {
		t.Errorf("the API on the operator's listener: got %d; want 404", got.StatusCode)
	}
	mu.Lock()
	ready = webhook.Readiness{Status: webhook.StatusUnavailable}
	mu.Unlock()
	if got := ask(t, s, "GET", "/readyz", "", ""); got.StatusCode != 503 || !strings.Contains(got.body, `"status":"unavailable"`) {
		t.Errorf("readyz: got %d %s; want 503", got.StatusCode, got.body)
	}
}

func TestObserve(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var seen []string
	_, s := serve(t, func(c *webhook.Config) {
		c.Observe = func(route string, status int, took time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			if took < 0 {
				t.Errorf("took %s", took)
			}
			seen = append(seen, fmt.Sprint(route, " ", status))
		}
	})
	ask(t, s, "GET", requests+"/R7", ciToken, "")
	ask(t, s, "GET", "/made/up/path", ciToken, "")
	s.Close()
	mu.Lock()
	defer mu.Unlock()
	if want := []string{"GET /api/v1/deploy-approval-requests/{id} 404", "other 404"}; !slices.Equal(seen, want) {
		t.Errorf("got %q; want %q", seen, want)
	}
}

func TestRequestID(t *testing.T) {
	t.Parallel()
	_, s := serve(t, nil)
	if got := ask(t, s, "GET", "/healthz", "", "", "X-Request-Id", "0af7651916cd43dd8448eb211c80319c"); got.Header.Get("X-Request-Id") != "0af7651916cd43dd8448eb211c80319c" {
		t.Errorf("got %q; want the proxy's id", got.Header.Get("X-Request-Id"))
	}
	if got := ask(t, s, "GET", "/healthz", "", "", "X-Request-Id", `"}<x>`); len(got.Header.Get("X-Request-Id")) < 20 {
		t.Errorf("got %q; want an id of our own", got.Header.Get("X-Request-Id"))
	}
}
