package webhook_test

import (
	"encoding/json"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
)

func status(t *testing.T, a answered) approvals.Status {
	t.Helper()
	var r webhook.Request
	if err := json.Unmarshal([]byte(a.body), &r); err != nil || a.StatusCode != 200 {
		t.Fatalf("got %d %s", a.StatusCode, a.body)
	}
	return r.Status
}

func TestWaitEndsWithAChange(t *testing.T) {
	t.Parallel()
	f, s := serve(t, nil)
	ask(t, s, "POST", requests, ciToken, createBody(""))
	got := make(chan answered)
	go func() { got <- ask(t, s, "GET", requests+"/R1?wait=60s&status=pending", ciToken, "") }()
	<-f.awaiting
	f.set("R1", func(r *approvals.Request) { r.Status = approvals.Approved })
	if s := status(t, <-got); s != approvals.Approved {
		t.Errorf("got %s; want approved", s)
	}
	// Another status than the given one answers at once.
	if s := status(t, ask(t, s, "GET", requests+"/R1?wait=60s", ciToken, "")); s != approvals.Approved {
		t.Errorf("got %s; want approved", s)
	}
}

func TestWaitEndsInTime(t *testing.T) {
	t.Parallel()
	_, s := serve(t, nil)
	ask(t, s, "POST", requests, ciToken, createBody(""))
	if s := status(t, ask(t, s, "GET", requests+"/R1?wait=50ms", ciToken, "")); s != approvals.Pending {
		t.Errorf("got %s; want pending", s)
	}
	for _, query := range []string{"?wait=x", "?wait=-1s", "?status=nope", "?wait=1s&wait=2s", "?until=approved"} {
		if got := ask(t, s, "GET", requests+"/R1"+query, ciToken, ""); got.StatusCode != 400 {
			t.Errorf("%s: got %d; want 400", query, got.StatusCode)
		}
	}
}

// Longer waits than the server grants are cut: the fake refuses more than a minute.
func TestWaitIsCut(t *testing.T) {
	t.Parallel()
	f, s := serve(t, nil)
	ask(t, s, "POST", requests, ciToken, createBody(""))
	got := make(chan answered)
	go func() { got <- ask(t, s, "GET", requests+"/R1?wait=24h", ciToken, "") }()
	<-f.awaiting
	f.set("R1", func(r *approvals.Request) { r.Status = approvals.Rejected })
	status(t, <-got)
}

// A wait outlives the server's own time-outs, whose passing would end the
// connection (write) or the call's context (read).
func TestWaitOutlivesTimeouts(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	s := httptest.NewUnstartedServer(checked(t, webhook.New(webhook.Config{Service: f, Links: fakeLinks{}})))
	s.Config = webhook.NewServer(s.Config.Handler, nil)
	s.Config.ReadTimeout, s.Config.WriteTimeout = 50*time.Millisecond, 50*time.Millisecond
	s.Listener = webhook.LimitConnections(s.Config, s.Listener, nil)
	s.Start()
	t.Cleanup(s.Close)
	ask(t, s, "POST", requests, ciToken, createBody(""))
	if s := status(t, ask(t, s, "GET", requests+"/R1?wait=300ms", ciToken, "")); s != approvals.Pending {
		t.Errorf("got %s; want pending", s)
	}
}

func TestWaitsEndWithTheServer(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	h := webhook.New(webhook.Config{Service: f, Links: fakeLinks{}})
	s := httptest.NewServer(checked(t, h))
	t.Cleanup(s.Close)
	ask(t, s, "POST", requests, ciToken, createBody(""))
	got := make(chan answered)
	go func() { got <- ask(t, s, "GET", requests+"/R1?wait=60s", ciToken, "") }()
	<-f.awaiting
	h.EndWaits()
	if s := status(t, <-got); s != approvals.Pending {
		t.Errorf("got %s; want the current state", s)
	}
}

func TestOnlySoManyAtOnce(t *testing.T) {
	t.Parallel()
	f, s := serve(t, func(c *webhook.Config) { c.MaxWaiting = 1 })
	ask(t, s, "POST", requests, ciToken, createBody(""))
	got := make(chan answered)
	go func() { got <- ask(t, s, "GET", requests+"/R1?wait=60s", ciToken, "") }()
	<-f.awaiting
	second := ask(t, s, "GET", requests+"/R1?wait=60s", ciToken, "")
	if second.StatusCode != 429 || second.Header.Get("Retry-After") == "" {
		t.Errorf("second wait: got %d; want 429 with Retry-After", second.StatusCode)
	}
	if other := ask(t, s, "GET", requests+"/R1", ciToken, ""); other.StatusCode != 200 {
		t.Errorf("another call: got %d; want 200", other.StatusCode)
	}
	f.set("R1", func(r *approvals.Request) { r.Status = approvals.Expired })
	status(t, <-got)
}
