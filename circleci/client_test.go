package circleci_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/circleci"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
)

func TestNewChecksItsConfiguration(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		cfg  circleci.Config
		want string // part of the error; empty = none
	}{
		{"defaults", circleci.Config{Token: "t"}, ""},
		{"own server", circleci.Config{Token: "t", URL: "https://ci.example/api/v2/", AppURL: "https://ci.example"}, ""},
		{"no token", circleci.Config{}, "token: is empty"},
		{"token with line end", circleci.Config{Token: "secret\n"}, "token: holds blanks"},
		{"no scheme", circleci.Config{Token: "t", URL: "circleci.com/api/v2"}, "API URL: must begin with"},
		{"file", circleci.Config{Token: "t", URL: "file:///etc/passwd"}, "API URL: must begin with"},
		{"no host", circleci.Config{Token: "t", URL: "https:///api/v2"}, "API URL: has no host"},
		{"password", circleci.Config{Token: "t", URL: "https://u:secret@ci.example"}, "API URL: must not hold a user"},
		{"unreadable", circleci.Config{Token: "t", URL: "https://u:secret@ci.example:port"}, "API URL: is not a URL"},
		{"query", circleci.Config{Token: "t", AppURL: "https://ci.example/?secret"}, "app URL: must not hold a query"},
		{"fragment", circleci.Config{Token: "t", AppURL: "https://ci.example/#secret"}, "app URL: must not hold a query"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := circleci.New(tt.cfg)
			switch {
			case (err == nil) != (tt.want == ""), err != nil && !strings.Contains(err.Error(), tt.want):
				t.Errorf("got %v; want %q", err, tt.want)
			case err != nil && strings.Contains(err.Error(), "secret"):
				t.Errorf("got %v; want no value in it", err)
			}
		})
	}
}

func TestPrintingAClientHidesTheToken(t *testing.T) {
	t.Parallel()
	c, err := circleci.New(circleci.Config{Token: token})
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if got := fmt.Sprintf(verb, c); strings.Contains(got, token) {
			t.Errorf("%s prints the token", verb)
		}
	}
}

func TestRequestsAndHooks(t *testing.T) {
	t.Parallel()
	type seen struct {
		op     string
		status int
	}
	var mu sync.Mutex
	var calls []seen
	var skew time.Duration
	w := setup(t, func(c *circleci.Config) {
		c.OnCall = func(op string, status int, took time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			calls = append(calls, seen{op, status})
			if took <= 0 {
				t.Errorf("%s took %v; want more than 0", op, took)
			}
		}
		c.OnDate = func(server, local time.Time) {
			mu.Lock()
			defer mu.Unlock()
			skew = server.Sub(local)
		}
	})
	w.Configure(func(o *circlecitest.Options) { o.DateSkew = time.Hour })
	w.Inject(circlecitest.Fault{Op: "approve", Drop: true})
	if _, err := w.Me(ctx(t)); err != nil {
		t.Fatal(err)
	}
	if err := w.Approve(ctx(t), w.workflow, w.hold(t)); err == nil {
		t.Fatal("approve: got nil; want the dropped connection")
	}
	if err := w.CancelWorkflow(ctx(t), circlecitest.NewID()); err == nil {
		t.Fatal("cancel: got nil; want 404")
	}
	mu.Lock()
	defer mu.Unlock()
	want := []seen{{"me", 200}, {"approve", 0}, {"cancel-workflow", 404}}
	if fmt.Sprint(calls) != fmt.Sprint(want) {
		t.Errorf("got calls %v; want %v", calls, want)
	}
	if skew < 59*time.Minute || skew > 61*time.Minute {
		t.Errorf("got skew %v; want about 1h", skew)
	}
}

func TestWhatIsSent(t *testing.T) {
	t.Parallel()
	var got *http.Request
	c := clientOf(t, func(r *http.Request) *http.Response {
		got = r
		return answer(202, "application/json", `{"message":"Accepted."}`)
	})
	if err := c.Approve(ctx(t), someID, someID); err != nil {
		t.Fatal(err)
	}
	if want := "https://ci.example/api/v2/workflow/" + someID + "/approve/" + someID; got.URL.String() != want || got.Method != "POST" {
		t.Errorf("got %s %s; want POST %s", got.Method, got.URL, want)
	}
	if got.Body != nil || got.Header.Get("Accept") != "application/json" || got.Header.Get("User-Agent") == "" {
		t.Errorf("got body %v, headers %v; want no body, Accept and User-Agent", got.Body, len(got.Header))
	}
	if got.Header.Get("Circle-Token") != token || got.URL.RawQuery != "" {
		t.Error("the token is not in its header alone")
	}
}

func TestRedirectsStayOnTheHost(t *testing.T) {
	t.Parallel()
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("the other host was called")
	}))
	t.Cleanup(other.Close)
	w := setup(t)
	moved := func(to string) circlecitest.Fault {
		return circlecitest.Fault{Op: "me", Status: 307, Header: http.Header{"Location": {to}}}
	}

	w.Inject(moved(other.URL + "/api/v2/me"))
	_, err := w.Me(ctx(t))
	if e := asError(t, err); e.Status != 307 || e.Temporary() {
		t.Errorf("other host: got %+v; want a final 307", e)
	}

	w.Inject(moved("/api/v2/me"))
	if _, err := w.Me(ctx(t)); err != nil {
		t.Errorf("same host: got %v; want it followed", err)
	}

	endless := moved("/api/v2/me")
	endless.Count = -1
	w.Inject(endless)
	_, err = w.Me(ctx(t))
	if e := asError(t, err); e.Status != 307 {
		t.Errorf("endless: got %+v; want 307", e)
	}

	w.ClearFaults()
	id := w.hold(t)
	w.Inject(circlecitest.Fault{Op: "approve", Status: 307, Header: http.Header{"Location": {other.URL}}})
	if e := asError(t, w.Approve(ctx(t), w.workflow, id)); e.Status != 307 {
		t.Errorf("POST: got %+v; want 307", e)
	}
}
