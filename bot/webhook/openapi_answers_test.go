package webhook_test

import (
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
)

// Each operation gives each answer that the document describes for it, with each of
// its codes. [TestMain] finds what is left out here.
func TestEveryDescribedAnswer(t *testing.T) {
	t.Parallel()
	d := described()
	for path, item := range d.paths {
		for method, op := range item {
			if len(op.Roles) == 0 {
				continue
			}
			method := strings.ToUpper(method)
			t.Run(method+" "+path, func(t *testing.T) {
				t.Parallel()
				c := caller{t: t, method: method, path: strings.Replace(path, "{id}", "R1", 1), token: ciToken}
				if op.Roles[0] == "auditor" {
					c.token = auditToken
				}
				c.body = map[string]string{
					"POST " + requests:                  createBody(""),
					"POST " + requests + "/{id}/cancel": `{"reason":"x"}`,
					"POST " + requests + "/verify":      `{"app":"myapp","environment":"production","git_commit":"1a2b3c4","workflow_id":"` + workflow + `"}`,
					"POST " + requests + "/{id}/deploy": `{"phase":"started"}`,
				}[method+" "+path]
				for status, res := range op.Responses {
					n, err := strconv.Atoi(status)
					if err != nil {
						t.Fatalf("status %q: %v", status, err)
					}
					for _, code := range d.codesOf(res, n) {
						c.gets(n, code)
					}
				}
			})
		}
	}
}

// codesOf are the codes of an answer.
func (d *description) codesOf(res response, status int) (codes []approvals.Code) {
	shared := strings.TrimPrefix(res.Ref, "#/components/responses/")
	if shared != "" {
		res = d.responses[shared]
	}
	for _, part := range res.Content["application/problem+json"].Schema.AllOf {
		codes = append(codes, part.Properties.Code.Enum...)
	}
	if len(codes) == 0 && status >= 400 {
		return webhook.Codes()[status]
	}
	return codes
}

// caller calls one operation.
type caller struct {
	t                         *testing.T
	method, path, token, body string
}

// gets makes the operation answer with a status and a code.
func (c caller) gets(status int, code approvals.Code) {
	c.t.Helper()
	f, s := serve(c.t, func(config *webhook.Config) {
		if status == 429 {
			config.RateLimit = 1
		}
	})
	ask(c.t, s, "POST", requests, otherCIToken, createBody(""))
	body, headers := c.body, []string{}
	switch status {
	case 400:
		f.fail = &approvals.Error{Code: code, Message: "no"}
	case 401:
		c.token = "rgw_unknown"
	case 413:
		body = `{"reason":"` + strings.Repeat("x", 70<<10) + `"}`
	case 415:
		headers = []string{"Content-Type", "text/plain"}
	case 429:
		ask(c.t, s, c.method, c.path, c.token, c.body)
	case 500:
		f.panics = true
	default:
		f.fail = &approvals.Error{Code: code, Message: "no"}
		if strings.HasSuffix(c.path, "/audit/key") { // it asks nobody
			c.token = map[int]string{403: ciToken, 503: "rgw_storedown"}[status]
			code = map[int]approvals.Code{403: approvals.CodeForbidden, 503: approvals.CodeUnavailable}[status]
		}
	}
	got := ask(c.t, s, c.method, c.path, c.token, body, headers...)
	if p := got.problem(c.t); got.StatusCode != status || p.Code != code {
		c.t.Errorf("got %d %s; want %d %s", got.StatusCode, p.Code, status, code)
	}
}

// What needs no token has 30 calls a minute for each address: the description, and the
// health of the process where somebody sends a wrong token.
func TestCallsWithoutATokenAreLimited(t *testing.T) {
	t.Parallel()
	for path, token := range map[string]string{"/api/v1/openapi.json": "", "/readyz": "rgw_unknown"} {
		synctest.Test(t, func(t *testing.T) { // no time goes by
			h := checked(t, webhook.New(webhook.Config{Service: newFake(t), Links: fakeLinks{}}))
			call := func() int {
				r, w := httptest.NewRequest("GET", path, nil), httptest.NewRecorder()
				if token != "" {
					r.Header.Set("Authorization", "Bearer "+token)
				}
				h.ServeHTTP(w, r)
				return w.Code
			}
			for range 30 {
				if got := call(); got != 200 {
					t.Fatalf("%s: got %d; want 200", path, got)
				}
			}
			if got := call(); got != 429 {
				t.Errorf("%s: call 31 of a minute: got %d; want 429", path, got)
			}
		})
	}
}
