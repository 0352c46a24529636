package webhook_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
)

func newClient(t *testing.T, url string) *webhook.Client {
	t.Helper()
	c, err := webhook.NewClient(webhook.ClientConfig{URL: url, Token: ciToken, UserAgent: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The whole way: client, handler, service and back.
func TestClientAgainstHandler(t *testing.T) {
	t.Parallel()
	f, s := serve(t, nil)
	c := newClient(t, s.URL+"/")
	ctx := t.Context()
	body := webhook.CreateBody{App: "myapp", Environment: "production", GitCommit: "1a2b3c4", Metadata: json.RawMessage(`{"workflow_id":"` + workflow + `"}`)}
	r, created, err := c.Create(ctx, body)
	if err != nil || !created || r.ID != "R1" || r.Branch != "" {
		t.Fatalf("Create: %+v, %v, %v", r, created, err)
	}
	if _, created, err = c.Create(ctx, body); err != nil || created {
		t.Errorf("Create again: created %v, %v; want the one that stands", created, err)
	}
	if page, err := c.List(ctx, webhook.ListQuery{App: "myapp", Status: "open", Limit: 1}); err != nil || len(page.Requests) != 1 {
		t.Errorf("List: %+v, %v", page, err)
	}
	done := make(chan webhook.Request)
	go func() {
		r, err := c.Wait(ctx, r, func(r webhook.Request) bool { return r.Status == approvals.Approved }, nil)
		if err != nil {
			t.Errorf("Wait: %v", err)
		}
		done <- r
	}()
	<-f.awaiting
	f.set("R1", func(r *approvals.Request) {
		r.Status, r.ApprovedAt, r.Window = approvals.Approved, time.Now(), time.Minute
	})
	if r := <-done; r.Status != approvals.Approved {
		t.Errorf("Wait: got %s; want approved", r.Status)
	}
	if v, err := c.Verify(ctx, webhook.VerifyBody{App: "myapp", Environment: "production", GitCommit: "1a2b3c4", WorkflowID: workflow}); err != nil || v.Receipt.Leaf == "" {
		t.Errorf("Verify: %+v, %v", v, err)
	}
	if r, err := c.ReportDeploy(ctx, "1", webhook.DeployBody{Phase: "succeeded"}); err != nil || r.Deploy.Phase != "succeeded" {
		t.Errorf("ReportDeploy: %+v, %v", r.Deploy, err)
	}
	if r, err := c.Cancel(ctx, "R1", "mistake"); err != nil || r.Failure.Detail != "mistake" {
		t.Errorf("Cancel: %+v, %v", r.Failure, err)
	}
	var p *webhook.Problem
	if _, err := c.Get(ctx, "../../audit/key"); !errors.As(err, &p) || p.Code != approvals.CodeNotFound {
		t.Errorf("Get of a path: %v; want not_found", err)
	}
}

// script answers calls in order with a status and a body; the last one stays.
func script(t *testing.T, calls *atomic.Int64, answers ...func(w http.ResponseWriter)) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := int(calls.Add(1)) - 1
		answers[min(n, len(answers)-1)](w)
	}))
	t.Cleanup(s.Close)
	return s
}

func answer(code int, body string, headers ...string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(code)
		_, _ = w.Write([]byte(body))
	}
}

func hangUp(w http.ResponseWriter) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		conn.Close()
	}
}

// statusOf is the HTTP status of an error; 0 = it has none.
func statusOf(err error) int {
	var p *webhook.Problem
	var f *webhook.ForeignAnswer
	switch {
	case errors.As(err, &p):
		return p.Status
	case errors.As(err, &f):
		return f.Status
	}
	return 0
}

const problemType = "application/problem+json"

func TestRetries(t *testing.T) {
	t.Parallel()
	ok := answer(200, text(requestJSON(nil)))
	for _, tt := range []struct {
		name     string
		retryFor time.Duration
		answers  []func(http.ResponseWriter)
		calls    int64
		status   int // of the answer; 0 = success, -1 = no answer
	}{
		{"at once", 0, []func(http.ResponseWriter){ok}, 1, 0},
		{"after a lost connection", 0, []func(http.ResponseWriter){hangUp, ok}, 2, 0},
		{"after 503", 0, []func(http.ResponseWriter){answer(503, "", "Retry-After", "1"), ok}, 2, 0},
		{"after 429", 0, []func(http.ResponseWriter){answer(429, `{"code":"rate_limited"}`, "Content-Type", problemType), ok}, 2, 0},
		{"after a proxy's 502 and 504", 0, []func(http.ResponseWriter){answer(502, "<html>"), answer(504, "<html>"), ok}, 3, 0},
		{"not after our 502", 0, []func(http.ResponseWriter){answer(502, `{"code":"circleci_unauthorized"}`, "Content-Type", problemType)}, 1, 502},
		{"after 500 that is not ours", 0, []func(http.ResponseWriter){answer(500, ""), ok}, 2, 0},
		{"after our code without our type", 0, []func(http.ResponseWriter){answer(502, `{"code":"circleci_unauthorized"}`), ok}, 2, 0},
		{"not after our 500", 0, []func(http.ResponseWriter){answer(500, `{"code":"internal"}`, "Content-Type", problemType)}, 1, 500},
		{"after a cut body", 0, []func(http.ResponseWriter){answer(200, "{", "Content-Length", "100"), ok}, 2, 0},
		{"not after 400", 0, []func(http.ResponseWriter){answer(400, "")}, 1, 400},
		{"not after 301", 0, []func(http.ResponseWriter){answer(301, "", "Location", "https://elsewhere")}, 1, 301},
		{"not when told to", -1, []func(http.ResponseWriter){answer(503, "")}, 1, 503},
		{"not when asked to wait too long", time.Second, []func(http.ResponseWriter){answer(503, "", "Retry-After", "3600")}, 1, 503},
		{"no answer", time.Millisecond, []func(http.ResponseWriter){hangUp}, 1, -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int64
			s := script(t, &calls, tt.answers...)
			c, err := webhook.NewClient(webhook.ClientConfig{URL: s.URL, Token: "rgw_s3cr3t", RetryFor: tt.retryFor})
			if err != nil {
				t.Fatal(err)
			}
			// A POST, because net/http itself repeats a GET on a connection that was lost.
			r, err := c.ReportDeploy(t.Context(), "R1", webhook.DeployBody{Phase: "started"})
			var lost *webhook.ConnectionError
			switch {
			case tt.status == 0 && (err != nil || r.ID != "R1"):
				t.Errorf("got %+v, %v; want success", r, err)
			case tt.status > 0 && statusOf(err) != tt.status:
				t.Errorf("got %v; want an answer with status %d", err, tt.status)
			case tt.status < 0 && !errors.As(err, &lost):
				t.Errorf("got %v; want a connection error", err)
			}
			if calls.Load() != tt.calls {
				t.Errorf("got %d calls; want %d", calls.Load(), tt.calls)
			}
			if err != nil && strings.Contains(err.Error(), "s3cr3t") {
				t.Error("the error shows the token")
			}
		})
	}
}

func TestRetriesEndWithTheContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	var calls atomic.Int64
	s := script(t, &calls, answer(503, "", "Retry-After", "60"))
	c, err := webhook.NewClient(webhook.ClientConfig{URL: s.URL, Token: "x", Retrying: func(error, time.Duration) { cancel() }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(ctx, "R1"); statusOf(err) != 503 {
		t.Errorf("got %v; want the last failure", err)
	}
}

// A page of a load balancer may ask for an hour. The gateway is asked again after a
// minute, and a tenth more at the most.
func TestRetryAfterIsBounded(t *testing.T) {
	t.Parallel()
	for name, reply := range map[string]func(http.ResponseWriter){
		"foreign": answer(503, "<html>", "Retry-After", "3600"),
		"own":     answer(503, `{"code":"circleci_unavailable"}`, "Content-Type", problemType, "Retry-After", "3600"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var calls atomic.Int64
			var pauses []time.Duration
			c, err := webhook.NewClient(webhook.ClientConfig{URL: script(t, &calls, reply).URL, Token: "x", Retrying: func(_ error, pause time.Duration) {
				pauses = append(pauses, pause)
				cancel()
			}})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Get(ctx, "R1"); statusOf(err) != 503 || len(pauses) != 1 || pauses[0] < time.Minute || pauses[0] > 67*time.Second {
				t.Errorf("got %v, pauses %v; want one of a minute", err, pauses)
			}
		})
	}
}

func TestAFailedPollDoesNotEndAWait(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	s := script(t, &calls, hangUp, answer(500, ""), answer(404, ""), answer(200, "{}"), answer(200, text(requestJSON(nil))))
	c := newClient(t, s.URL)
	var failed int
	r, err := c.Wait(t.Context(), webhook.Request{ID: "R1", Status: approvals.Pending},
		func(r webhook.Request) bool { return r.Status == approvals.Approved },
		func(_ webhook.Request, err error) {
			if err != nil {
				failed++
			}
		})
	if err != nil || r.Status != approvals.Approved || failed == 0 {
		t.Errorf("got %s, %v after %d failed polls; want approved after some", r.Status, err, failed)
	}
}

func TestARefusalThatStaysEndsAWait(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	s := script(t, &calls, answer(401, `{"code":"unauthorized"}`, "Content-Type", problemType))
	r, err := newClient(t, s.URL).Wait(t.Context(), webhook.Request{ID: "R1", Status: approvals.Pending}, func(webhook.Request) bool { return false }, nil)
	var p *webhook.Problem
	if !errors.As(err, &p) || p.Status != 401 || r.ID != "R1" || calls.Load() != 2 {
		t.Errorf("got %+v, %v after %d polls; want 401 after two", r, err, calls.Load())
	}
}

func TestWaitEndsWithTheContext(t *testing.T) {
	t.Parallel()
	for name, reply := range map[string]func(http.ResponseWriter){"pending": answer(200, text(requestJSON(map[string]any{"status": "pending"}))), "down": hangUp} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			var calls atomic.Int64
			s := script(t, &calls, reply)
			r, err := newClient(t, s.URL).Wait(ctx, webhook.Request{ID: "R1", Status: approvals.Pending}, func(webhook.Request) bool { return false }, nil)
			if !errors.Is(err, context.DeadlineExceeded) || r.Status != approvals.Pending {
				t.Errorf("got %s, %v; want the last state and the deadline", r.Status, err)
			}
		})
	}
}

// How such pings find a dead connection is tested with the daemon's transport.
func TestDeadConnectionsAreLookedFor(t *testing.T) {
	t.Parallel()
	if c := newClient(t, "https://gateway.example").HTTP2(); c == nil || c.SendPingTimeout <= 0 || c.PingTimeout <= 0 || c.SendPingTimeout+c.PingTimeout > 30*time.Second {
		t.Errorf("got %+v; want that a dead connection is found within a poll", c)
	}
}

func TestClientRefusesBadSettings(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ url, token string }{
		{"", "x"}, {"ftp://host", "x"}, {"https://", "x"}, {"https://user:s3cr3t@host", "x"}, {"https://host?token=s3cr3t", "x"},
		{"https://host", ""}, {"https://host", "s3cr3t two"}, {"https://host", "s3cr3t\n"}, {"://", "x"},
	} {
		_, err := webhook.NewClient(webhook.ClientConfig{URL: tt.url, Token: tt.token})
		if err == nil {
			t.Errorf("URL %q: no error", tt.url)
		} else if strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("URL %q: the error shows a secret", tt.url)
		}
	}
	for in, want := range map[string]string{
		"https://host/": "https://host", "gateway.example.ts.net": "https://gateway.example.ts.net", "gateway:8443": "https://gateway:8443", "http://h/base/": "http://h/base",
	} {
		c, err := webhook.NewClient(webhook.ClientConfig{URL: in, Token: "x"})
		if err != nil || c.URL() != want {
			t.Errorf("URL %q: got %v, %v; want %q", in, c, err, want)
		}
	}
}

func TestProxyFromEnv(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		env  map[string]string
		url  string
		want string
	}{
		{"none", nil, "https://gateway", ""},
		{"https", map[string]string{"HTTPS_PROXY": "http://p:1"}, "https://gateway", "http://p:1"},
		{"https is not for http", map[string]string{"HTTPS_PROXY": "http://p:1"}, "http://gateway", ""},
		{"all", map[string]string{"ALL_PROXY": "socks5://localhost:1055"}, "https://gateway", "socks5://localhost:1055"},
		{"all, lower case, http", map[string]string{"all_proxy": "socks5h://localhost:1055"}, "http://gateway", "socks5h://localhost:1055"},
		{"the special one first", map[string]string{"ALL_PROXY": "socks5://a:1", "HTTP_PROXY": "http://b:1"}, "http://gateway", "http://b:1"},
		{"exception", map[string]string{"ALL_PROXY": "socks5://a:1", "NO_PROXY": ".ts.net"}, "https://gateway.ts.net", ""},
		{"ours first", map[string]string{"RACK_GATEWAY_PROXY": " socks5h://c:1\r\n", "ALL_PROXY": "socks5://a:1", "HTTPS_PROXY": "http://b:1", "NO_PROXY": "*"}, "https://gateway", "socks5h://c:1"},
		{"ours for loopback too", map[string]string{"RACK_GATEWAY_PROXY": "http://c:1"}, "http://127.0.0.1:8080", "http://c:1"},
		{"ours is empty", map[string]string{"RACK_GATEWAY_PROXY": " ", "HTTPS_PROXY": "http://b:1"}, "https://gateway", "http://b:1"},
		{"without a scheme", map[string]string{"RACK_GATEWAY_PROXY": "localhost:1055"}, "https://gateway", "http://localhost:1055"},
		{"blanks", map[string]string{"HTTPS_PROXY": " http://b:1 \n"}, "https://gateway", "http://b:1"},
		{"another's fault", map[string]string{"HTTP_PROXY": "://", "HTTPS_PROXY": "http://b:1"}, "https://gateway", "http://b:1"},
		{"loopback", map[string]string{"ALL_PROXY": "socks5://a:1"}, "http://127.0.0.1:8080", ""},
	} {
		req := httptest.NewRequest("GET", tt.url, nil)
		got, err := webhook.ProxyFromEnv(func(name string) string { return tt.env[name] })(req.URL)
		text := ""
		if got != nil {
			text = got.String()
		}
		if err != nil || text != tt.want {
			t.Errorf("%s: got %q, %v; want %q", tt.name, text, err, tt.want)
		}
	}
}
