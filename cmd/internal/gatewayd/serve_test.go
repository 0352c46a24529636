package gatewayd_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/gatewayd"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// firstLine lets a test wait for a word in a daemon's log.
type firstLine struct {
	word  string
	found chan struct{}
	text  bytes.Buffer
}

func (f *firstLine) Write(p []byte) (int, error) {
	had := strings.Contains(f.text.String(), f.word)
	f.text.Write(p)
	if !had && strings.Contains(f.text.String(), f.word) {
		close(f.found)
	}
	return len(p), nil
}

func fetch(url string) (status int, body string, err error) {
	resp, err := http.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

// A second serve on a database waits for the first one. Meanwhile it is alive, says
// that it stands by, and takes no calls; it takes over when the first one ends.
// Operator commands go on all the time.
func TestSecondServeWaits(t *testing.T) {
	t.Parallel()
	w := setup(t)
	address := "127.0.0.1:0"
	l, err := net.Listen("tcp", address)
	w.must(err)
	address = l.Addr().String()
	w.must(l.Close())
	log := &firstLine{word: "another serve holds the database", found: make(chan struct{})}
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	ended := make(chan int, 1)
	go func() {
		env := append(append([]string{}, w.Environ()...), "RGW_LISTEN="+address, "RGW_METRICS_LISTEN=")
		ended <- gatewayd.Run(ctx, []string{"serve"}, env, strings.NewReader(""), io.Discard, log)
	}()
	select {
	case <-log.found:
	case code := <-ended:
		t.Fatalf("the second serve ended with %d: %s", code, &log.text)
	}
	for path, want := range map[string]string{
		"/healthz":                         `200 {"status":"ok"}`,
		"/readyz":                          `503 {"status":"unavailable","parts":{"role":{"status":"standby"}}}`,
		"/api/v1/deploy-approval-requests": `503 `,
	} {
		status, body, err := fetch("http://" + address + path)
		w.must(err)
		if got := fmt.Sprint(status, " ", strings.TrimSpace(body)); !strings.HasPrefix(got, want) {
			t.Errorf("%s while it waits: got %s; want %s", path, got, want)
		}
	}
	resp, err := http.Get("http://" + address + "/api/v1/audit")
	w.must(err)
	defer resp.Body.Close()
	var problem struct {
		Code      string `json:"code"`
		RequestID string `json:"request_id"`
	}
	w.must(json.NewDecoder(resp.Body).Decode(&problem))
	if id := resp.Header.Get("X-Request-Id"); id == "" || problem.RequestID != id || problem.Code != "unavailable" || resp.Header.Get("Retry-After") == "" {
		t.Errorf("a call while it waits: got %+v with %v; want unavailable, the id of the call and Retry-After", problem, resp.Header)
	}
	w.operator(0, "token", "list")
	if code := w.Stop(); code != 0 {
		t.Fatalf("stop: got exit %d; want 0", code)
	}
	w.until(func() bool {
		status, _, err := fetch("http://" + address + "/readyz")
		return err == nil && status == http.StatusOK
	})
	w.must(w.Slack.Wait(w.ctx, func() bool { return w.Slack.Sockets() == 1 }))
	cancel()
	if code := <-ended; code != 0 {
		t.Errorf("the second serve: got exit %d; want 0", code)
	}
}

// A serve whose lock file was replaced may not be alone any more: it decides
// nothing and says why.
func TestLostLockStopsDecisions(t *testing.T) {
	t.Parallel()
	w := setup(t)
	_, id := w.request(1)
	w.must(os.Remove(filepath.Join(w.Dir, "rack-gateway.db.lock")))
	if text := w.press(stage.Ana, id); !strings.Contains(text, "lock") {
		t.Errorf("approve: got %q; want a refusal that names the lock", text)
	}
	if code, body := w.readyz(); code != http.StatusServiceUnavailable || !strings.Contains(body, "lost its lock") {
		t.Errorf("readyz: got %d %s; want 503 that says why", code, body)
	}
}

// Another workspace's token on this database ends the serve.
func TestOtherWorkspaceIsRefused(t *testing.T) {
	t.Parallel()
	w := setup(t)
	if code := w.Stop(); code != 0 {
		t.Fatalf("stop: got exit %d; want 0", code)
	}
	other := slacktest.New(slacktest.Config{TeamID: "T0OTHER"})
	w.must(other.Start())
	defer other.Close()
	var log bytes.Buffer
	env := append(append([]string{}, w.Environ()...), "SLACK_API_URL="+other.URL())
	if code := gatewayd.Run(w.ctx, []string{"serve"}, env, strings.NewReader(""), io.Discard, &log); code != 1 || !strings.Contains(log.String(), "another Slack workspace") {
		t.Errorf("got exit %d, %s; want 1 and why", code, &log)
	}
}

// One report names every fault of a configuration, and no value.
func TestConfigurationReport(t *testing.T) {
	t.Parallel()
	var errs bytes.Buffer
	env := []string{
		"RGW_LISTEN=secretvalue", "RGW_DATABASE_URL=secretvalue", "RGW_SECRET_KEYS=secretvalue", "SLACK_BOT_TOKEN=secretvalue",
		"SLACK_APP_TOKEN=secretvalue", "SLACK_SIGNING_SECRET=secretvalue", "SLACK_CHANNEL=secretvalue", "SLACK_API_URL=secretvalue",
		"CIRCLECI_URL=secretvalue", "CIRCLECI_APP_URL=secretvalue", "GITHUB_API_URL=secretvalue", "GITHUB_TOKEN_FILE=/nonexistent/secretvalue", "CIRCLECI_TOKEN_FILE=/nonexistent/secretvalue", "RGW_PUBLIC_URL=secretvalue",
		"RGW_TRUSTED_PROXIES=secretvalue", "RGW_RATE_LIMIT=secretvalue", "RGW_POLL_INTERVAL=secretvalue", "RGW_LOG_LEVEL=secretvalue",
		"RGW_LOG_FORMAT=secretvalue", "RGW_METRICS_LISTEN=secretvalue", "RGW_APP_X_SETTING_VCS_REPO=secretvalue", "RGW_APP_X_SETTING_NOSUCH=secretvalue",
	}
	code := gatewayd.Run(t.Context(), []string{"serve"}, env, strings.NewReader(""), io.Discard, &errs)
	if code != 1 {
		t.Errorf("got exit %d; want 1", code)
	}
	if strings.Contains(errs.String(), "secretvalue") {
		t.Errorf("a value stands in the report:\n%s", &errs)
	}
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		if name != "SLACK_SIGNING_SECRET" && !strings.Contains(errs.String(), name+":") {
			t.Errorf("the report does not name %s:\n%s", name, &errs)
		}
	}
}

// Health has a listener of its own, which tells why; the first one tells anybody
// only what, so that no path or id leaves the machine.
func TestHealthOfBothListeners(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.must(os.Remove(filepath.Join(w.Dir, "rack-gateway.db.lock")))
	auditor := strings.TrimSpace(w.operator(0, "token", "create", "--name", "auditor", "--role", "auditor", "--all-apps").Stdout)
	for _, tt := range []struct {
		url, token string
		detailed   bool
	}{
		{w.URL, "", false}, {w.URL, w.Token, false}, {w.URL, auditor, true}, {w.Health, "", true},
	} {
		req, err := http.NewRequestWithContext(w.ctx, http.MethodGet, tt.url+"/readyz", nil)
		w.must(err)
		if tt.token != "" {
			req.Header.Set("Authorization", "Bearer "+tt.token)
		}
		resp, err := http.DefaultClient.Do(req)
		w.must(err)
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		w.must(err)
		if resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(body), `"role":{"status":"unavailable"`) || strings.Contains(string(body), "lost its lock") != tt.detailed {
			t.Errorf("%s with the token %.8q: got %d %s; want 503 and the reason: %t", tt.url, tt.token, resp.StatusCode, body, tt.detailed)
		}
	}
	resp, err := http.Get(w.Health + "/healthz")
	w.must(err)
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("healthz of the second listener: got %s; want 200", resp.Status)
	}
}

// An unnamed proxy in front shows in /readyz.
func TestUnnamedProxyIsShown(t *testing.T) {
	t.Parallel()
	w := setup(t)
	req, err := http.NewRequestWithContext(w.ctx, http.MethodGet, w.URL+"/healthz", nil)
	w.must(err)
	req.Header.Set("X-Forwarded-For", "203.0.113.9")
	resp, err := http.DefaultClient.Do(req)
	w.must(err)
	resp.Body.Close()
	if code, body := w.readyz(); code != http.StatusOK || !strings.Contains(body, "a proxy is in front, but RGW_TRUSTED_PROXIES does not name it") {
		t.Errorf("readyz: got %d %s; want 200 and the proxy", code, body)
	}
}

// Metrics count from the start of the daemon on, whenever they are read first.
func TestEventsAreCountedFromTheStart(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.operator(0, "token", "create", "--name", "auditor", "--role", "auditor", "--all-apps")
	resp, err := http.Get(w.Health + "/metrics")
	w.must(err)
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	w.must(err)
	for _, want := range []string{`rgw_events_total{type="process.started"} 1`, `rgw_events_total{type="token.created"} `, `rgw_events_total{type="gate.bypassed"} 0`} {
		if !strings.Contains(string(body), "\n"+want) {
			t.Errorf("got %s; want %s", body, want)
		}
	}
}
