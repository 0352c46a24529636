package circleci_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/circleci"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
)

func TestRefusals(t *testing.T) {
	t.Parallel()
	plain := http.Header{"Content-Type": {"text/plain"}}
	html := http.Header{"Content-Type": {"text/html"}}
	for _, tt := range []struct {
		name       string
		fault      circlecitest.Fault
		want       string
		temporary  bool
		retryAfter time.Duration
	}{
		{"message", circlecitest.Fault{Status: 403, Body: `{"message":"Permission denied."}`}, "approve gate: 403 Forbidden (token lacks permissions or expired): Permission denied.", false, 0},
		{"error", circlecitest.Fault{Status: 400, Body: `{"error":"bad"}`}, "approve gate: 400 Bad Request: bad", false, 0},
		{"message of another type", circlecitest.Fault{Status: 400, Body: `{"message":{"a":1}}`}, "approve gate: 400 Bad Request", false, 0},
		{"plain 429", circlecitest.Fault{Status: 429, Body: "Rate exceeded\n", Header: plain, RetryAfter: "7"}, "approve gate: 429 Too Many Requests: Rate exceeded", true, 7 * time.Second},
		{"endless Retry-After", circlecitest.Fault{Status: 429, RetryAfter: "9999999999999"}, "approve gate: 429 Too Many Requests", true, time.Hour},
		{"negative Retry-After", circlecitest.Fault{Status: 429, RetryAfter: "-5"}, "approve gate: 429 Too Many Requests", true, 0},
		{"odd Retry-After", circlecitest.Fault{Status: 429, RetryAfter: "soon"}, "approve gate: 429 Too Many Requests", true, 0},
		{"Retry-After in the past", circlecitest.Fault{Status: 503, RetryAfter: "Mon, 02 Jan 2006 15:04:05 GMT"}, "approve gate: 503 Service Unavailable", true, 0},
		{"HTML", circlecitest.Fault{Status: 503, Body: "<html><h1>Sorry</h1></html>", Header: html}, "approve gate: 503 Service Unavailable", true, 0},
		{"HTML as text", circlecitest.Fault{Status: 503, Body: " <!DOCTYPE html>", Header: plain}, "approve gate: 503 Service Unavailable", true, 0},
		{"control characters", circlecitest.Fault{Status: 400, Body: "{\"message\":\"a\\u001b[31m\\n\\tb\\u202ec\"}"}, "approve gate: 400 Bad Request: a[31m bc", false, 0},
		{"echoed token", circlecitest.Fault{Status: 401, Body: `{"message":"token ` + token + ` is bad"}`}, "approve gate: 401 Unauthorized: token REDACTED is bad", false, 0},
		{"echoed token in pieces", circlecitest.Fault{Status: 401, Body: `{"message":"` + token[:5] + `\u202e\u0000` + token[5:] + `"}`}, "approve gate: 401 Unauthorized: REDACTED", false, 0},
		{"long text", circlecitest.Fault{Status: 400, Body: `{"message":"` + strings.Repeat("ä", 300) + `"}`}, "approve gate: 400 Bad Request: " + strings.Repeat("ä", 200) + "…", false, 0},
		{"unknown status", circlecitest.Fault{Status: 599}, "approve gate: 599", true, 0},
		{"redirect", circlecitest.Fault{Status: 302, Header: http.Header{"Location": {"/api/v2/me"}}}, "approve gate: 302 Found: redirect not followed", false, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			id := w.hold(t)
			w.Inject(tt.fault)
			e := asError(t, w.Approve(ctx(t), w.workflow, id))
			if e.Error() != tt.want {
				t.Errorf("got %q; want %q", e, tt.want)
			}
			if e.Status != tt.fault.Status || e.Temporary() != tt.temporary || e.RetryAfter != tt.retryAfter {
				t.Errorf("got status %d, temporary %v, retry after %v; want %d, %v, %v",
					e.Status, e.Temporary(), e.RetryAfter, tt.fault.Status, tt.temporary, tt.retryAfter)
			}
			if n := len(w.Calls()); n != 1 {
				t.Errorf("got %d calls; want 1", n)
			}
		})
	}
}

func TestRetryAfterDateIsMeasuredByTheServersClock(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.Configure(func(o *circlecitest.Options) { o.DateSkew = time.Hour })
	at := time.Now().Add(time.Hour + 90*time.Second)
	w.Inject(circlecitest.Fault{Status: 429, RetryAfter: at.UTC().Format(http.TimeFormat)})
	_, err := w.Me(ctx(t))
	if got := asError(t, err).RetryAfter; got < 80*time.Second || got > 91*time.Second {
		t.Errorf("got %v; want about 90 s", got)
	}
}

func TestServiceRefusals(t *testing.T) {
	t.Parallel()
	w := setup(t)
	id := w.hold(t)
	wrong := w.client(t, func(c *circleci.Config) { c.Token = "wrong" })
	_, err := wrong.Me(ctx(t))
	if e := asError(t, err); e.Status != 401 || e.Message != "401 Unauthorized: You must log in first." {
		t.Errorf("wrong token: got %+v; want 401", e)
	}
	_, err = w.Facts(ctx(t), circlecitest.NewID())
	if e := asError(t, err); e.Status != 404 || !strings.EqualFold(e.Message, "404 Not Found: workflow not found") {
		t.Errorf("unknown workflow: got %+v; want 404", e)
	}
	w.SetAccess("rack-gateway-bot", circlecitest.Read)
	if e := asError(t, w.Approve(ctx(t), w.workflow, id)); e.Status != 403 || !strings.Contains(e.Error(), "403 Forbidden") {
		t.Errorf("reader: got %+v; want 403", e)
	}
	w.SetAccess("rack-gateway-bot", circlecitest.None)
	_, err = w.Facts(ctx(t), w.workflow)
	if e := asError(t, err); e.Status != 404 {
		t.Errorf("stranger: got %+v; want 404", e)
	}
}

func TestNoAnswer(t *testing.T) {
	t.Parallel()
	t.Run("time-out", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			begun := time.Now()
			_, err := clientOf(t, func(*http.Request) *http.Response { return nil }).Me(t.Context())
			e := asError(t, err)
			if e.Status != 0 || !e.Temporary() || !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != 10*time.Second {
				t.Errorf("got %+v after %v; want no answer after 10 seconds", e, time.Since(begun))
			}
			if want := "read own user: no answer from CircleCI: context deadline exceeded"; e.Error() != want {
				t.Errorf("got %q; want %q", e, want)
			}
		})
	})
	t.Run("cancelled", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		c, cancel := context.WithCancel(ctx(t))
		w.SetHook(func(string, circlecitest.Phase) { cancel() })
		w.Inject(circlecitest.Fault{Op: "me", Delay: time.Minute})
		if _, err := w.Me(c); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v; want context.Canceled", err)
		}
	})
	t.Run("nobody listens", func(t *testing.T) {
		t.Parallel()
		url, stop := circlecitest.New().Start()
		stop()
		c, err := circleci.New(circleci.Config{URL: url, Token: token})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Me(ctx(t))
		e := asError(t, err)
		if want := "read own user: no answer from CircleCI: connect: connection refused"; e.Status != 0 || !e.Temporary() || e.Error() != want {
			t.Errorf("got %+v; want %q", e, want)
		}
	})
	t.Run("broken off", func(t *testing.T) {
		t.Parallel()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = c.Read(make([]byte, 1<<16))
				_ = c.(*net.TCPConn).SetLinger(0) // resets the connection
				_ = c.Close()
			}
		}()
		c, err := circleci.New(circleci.Config{URL: "http://" + l.Addr().String(), Token: token})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Me(ctx(t))
		if e, want := asError(t, err), "read own user: no answer from CircleCI: read: connection reset by peer"; e.Error() != want {
			t.Errorf("got %q; want %q: addresses make one fault look like many", e, want)
		}
	})
}
