package webhook_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
)

func TestEveryRouteHasItsRoles(t *testing.T) {
	t.Parallel()
	const ci, audit, all = "cicd", "auditor", "all"
	want := map[string][]string{
		"POST /api/v1/deploy-approval-requests":             {ci},
		"GET /api/v1/deploy-approval-requests":              {ci, audit},
		"GET /api/v1/deploy-approval-requests/{id}":         {ci, audit},
		"GET /api/v1/deploy-approval-requests/{id}/events":  {ci, audit},
		"POST /api/v1/deploy-approval-requests/{id}/cancel": {ci},
		"POST /api/v1/deploy-approval-requests/verify":      {ci},
		"POST /api/v1/deploy-approval-requests/{id}/deploy": {ci},
		"GET /api/v1/audit":                                 {audit},
		"GET /api/v1/audit/checkpoint":                      {audit},
		"GET /api/v1/audit/key":                             {audit},
		"GET /api/v1/openapi.json":                          {all},
		"GET /healthz":                                      {all},
		"GET /readyz":                                       {all},
	}
	f := newFake(t)
	h := webhook.New(webhook.Config{Service: f, Links: fakeLinks{}})
	s := httptest.NewServer(checked(t, h))
	t.Cleanup(s.Close)
	ask(t, s, "POST", requests, ciToken, createBody(""))
	f.set("R1", func(r *approvals.Request) { r.Status = approvals.Approved })
	var served []string
	for _, route := range h.Routes() {
		served = append(served, route)
		roles, ok := want[route]
		if !ok {
			t.Errorf("route %q is served but nobody says who may call it", route)
			continue
		}
		method, path, _ := strings.Cut(route, " ")
		path = strings.Replace(path, "{id}", "R1", 1)
		body := ""
		if method == "POST" {
			body = map[string]string{
				"/cancel": `{"reason":"x"}`, "/deploy": `{"phase":"started"}`, "requests": createBody(""),
				"/verify": `{"app":"myapp","git_commit":"1a2b3c4","workflow_id":"` + workflow + `"}`,
			}[path[max(strings.LastIndex(path, "/"), len(path)-8):]]
			if path == requests {
				body = createBody("")
			}
		}
		for role, token := range map[string]string{ci: ciToken, audit: auditToken, "nobody": "", "stranger": "rgw_wrong"} {
			f.set("R1", func(r *approvals.Request) { r.Status = approvals.Approved })
			status := 403
			switch {
			case slices.Contains(roles, role), slices.Contains(roles, all):
				status = 200
			case role == "nobody" || role == "stranger":
				status = 401
			}
			if got := ask(t, s, method, path, token, body); got.StatusCode != status {
				t.Errorf("%s as %s: got %d %s; want %d", route, role, got.StatusCode, got.body, status)
			}
		}
	}
	if len(served) != len(want) {
		t.Errorf("served %q; want all of the table", served)
	}
}

func TestTokenHeader(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		values []string
		status int
	}{
		{"right", []string{"Bearer rgw_audit"}, 200},
		{"case of the scheme", []string{"bearer  rgw_audit"}, 200},
		{"none", nil, 401},
		{"empty", []string{""}, 401},
		{"no token", []string{"Bearer "}, 401},
		{"other scheme", []string{"Basic rgw_audit"}, 401},
		{"no scheme", []string{"rgw_audit"}, 401},
		{"two words", []string{"Bearer rgw_audit x"}, 401},
		{"two headers", []string{"Bearer rgw_audit", "Bearer rgw_audit"}, 401},
		{"unknown", []string{"Bearer rgw_nobody"}, 401},
		{"long", []string{"Bearer " + strings.Repeat("a", 600)}, 401},
		{"store is down", []string{"Bearer rgw_storedown"}, 503},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, s := serve(t, nil)
			req, err := http.NewRequest("GET", s.URL+"/api/v1/audit/key?token=rgw_audit", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header["Authorization"] = tt.values
			res, err := http.DefaultTransport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			body, _ := io.ReadAll(res.Body)
			if res.StatusCode != tt.status {
				t.Fatalf("got %d %s; want %d", res.StatusCode, body, tt.status)
			}
			if tt.status != 401 {
				return
			}
			p := answered{res, string(body)}.problem(t)
			p.RequestID = ""
			want := webhook.Problem{
				Type: "urn:rack-gateway:error:unauthorized", Title: "A valid API token is required", Status: 401,
				Detail: "send a valid, unexpired API token as: Authorization: Bearer rgw_…", Code: "unauthorized",
			}
			if diff := cmp.Diff(want, p); diff != "" || res.Header.Get("WWW-Authenticate") != "Bearer" {
				t.Errorf("WWW-Authenticate %q, problem (-want +got):\n%s", res.Header.Get("WWW-Authenticate"), diff)
			}
		})
	}
}

// What is wrong with an OIDC token is told, and such a token may be long.
func TestOIDCTokenHeader(t *testing.T) {
	t.Parallel()
	_, s := serve(t, nil)
	part := strings.Repeat("a", 2000)
	got := ask(t, s, "GET", requests, part+"."+part+"."+part, "")
	p := got.problem(t)
	p.RequestID = ""
	want := webhook.Problem{
		Type: "urn:rack-gateway:error:unauthorized", Title: "A valid API token is required", Status: 401,
		Detail: "another audience", Code: "unauthorized", Reason: "oidc_audience",
	}
	if diff := cmp.Diff(want, p); diff != "" || got.Header.Get("WWW-Authenticate") != "Bearer" {
		t.Errorf("WWW-Authenticate %q, problem (-want +got):\n%s", got.Header.Get("WWW-Authenticate"), diff)
	}
	if got := ask(t, s, "GET", requests, strings.Repeat(part, 5)+".a.a", "").problem(t); got.Reason != "" {
		t.Errorf("a header of 10,000 characters: got reason %q; want it not even looked at", got.Reason)
	}
}

func TestRateLimits(t *testing.T) {
	t.Parallel()
	_, s := serve(t, func(c *webhook.Config) {
		c.RateLimit = 3
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8")}
	})
	var codes []int
	for range 4 {
		codes = append(codes, ask(t, s, "GET", requests, ciToken, "").StatusCode)
	}
	limited := ask(t, s, "GET", requests, ciToken, "")
	if !slices.Equal(codes, []int{200, 200, 200, 429}) || limited.problem(t).Code != "rate_limited" || limited.Header.Get("Retry-After") == "" {
		t.Errorf("got %v, then %s, Retry-After %q; want 200 three times, then 429 with Retry-After", codes, limited.body, limited.Header.Get("Retry-After"))
	}
	if got := ask(t, s, "GET", requests, auditToken, ""); got.StatusCode != 200 {
		t.Errorf("another token: got %d; want 200", got.StatusCode)
	}

	// Strangers are counted by the rightmost address that no trusted proxy has.
	stranger := func(forwarded string) int {
		return ask(t, s, "GET", requests, "", "", "X-Forwarded-For", forwarded).StatusCode
	}
	for range 30 {
		if got := stranger("6.6.6.6, 203.0.113.9, 10.0.0.1"); got != 401 {
			t.Fatalf("a stranger's call: got %d; want 401", got)
		}
	}
	for forwarded, want := range map[string]int{
		"203.0.113.9":                     429,
		"7.7.7.7, 203.0.113.9:4711":       429,
		"203.0.113.9, 203.0.113.10":       401,
		"203.0.113.9, nonsense, 10.0.0.1": 401,
	} {
		if got := stranger(forwarded); got != want {
			t.Errorf("X-Forwarded-For %s: got %d; want %d", forwarded, got, want)
		}
	}
	if got := ask(t, s, "GET", requests, auditToken, "", "X-Forwarded-For", "203.0.113.9"); got.StatusCode != 200 {
		t.Errorf("a good token from a stranger's address: got %d; want 200", got.StatusCode)
	}
	// So are those whose token may be signed with a new key.
	for n := range 31 {
		got := ask(t, s, "GET", requests, newKey, "", "X-Forwarded-For", "203.0.113.77")
		switch wait := got.Header.Get("Retry-After"); {
		case n < 30 && (got.StatusCode != 503 || wait != "7"):
			t.Fatalf("call %d with a key that may be new: got %d, Retry-After %q; want 503, 7", n, got.StatusCode, wait)
		case n == 30 && got.StatusCode != 429:
			t.Errorf("call %d with a key that may be new: got %d; want 429", n, got.StatusCode)
		}
	}
	if got := ask(t, s, "GET", "/healthz", "", "", "X-Forwarded-For", "203.0.113.9"); got.StatusCode != 200 {
		t.Errorf("health from a stranger's address: got %d; want 200", got.StatusCode)
	}
}

// What is remembered of strangers is bounded; those who come when it is full
// share one count, and it is forgotten with time.
func TestManyStrangers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := webhook.New(webhook.Config{Service: newFake(t), Links: fakeLinks{}, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
		call := func(from netip.Addr) int {
			r := httptest.NewRequest("GET", requests, nil) // from 192.0.2.1
			r.Header.Set("X-Forwarded-For", from.String())
			w := httptest.NewRecorder()
			checked(t, h).ServeHTTP(w, r)
			return w.Code
		}
		addr := netip.MustParseAddr("10.0.0.0")
		for range 10_000 {
			addr = addr.Next()
			if got := call(addr); got != 401 {
				t.Fatalf("%s: got %d; want 401", addr, got)
			}
		}
		newcomers := 0
		for range 100 {
			addr = addr.Next()
			if call(addr) == 401 {
				newcomers++
			}
		}
		if newcomers != 30 {
			t.Errorf("%d newcomers were answered; want 30 in all", newcomers)
		}
		if got := call(netip.MustParseAddr("10.0.0.7")); got != 401 {
			t.Errorf("one who came earlier: got %d; want 401", got)
		}
		time.Sleep(time.Minute)
		if got := call(addr.Next()); got != 401 {
			t.Errorf("a minute later: got %d; want 401", got)
		}
		// One IPv6 network counts as one.
		six := netip.MustParseAddr("2001:db8::1")
		for range 30 {
			call(six)
			six = six.Next()
		}
		if got := call(six); got != 429 {
			t.Errorf("the same IPv6 network: got %d; want 429", got)
		}
	})
}

// Whoever is slow takes what is there for one token, and nothing of the others'.
func TestSlowCallsOfOneTokenLeaveRoom(t *testing.T) {
	t.Parallel()
	f, s := serve(t, nil)
	f.paged = make(chan struct{}) // no export gets its first page
	stuck, closed := io.Pipe()
	defer closed.Close()
	statuses := make(chan int, 300)
	call := func(method, path, token string, body io.Reader) {
		req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, body)
		if err != nil {
			t.Error(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Content-Type", "application/json")
		res, err := http.DefaultTransport.RoundTrip(req)
		if err == nil {
			statuses <- res.StatusCode
			res.Body.Close()
		}
	}
	// All but those for whom there is room are told to come back.
	for range 160 {
		go call("POST", requests, ciToken, io.MultiReader(strings.NewReader("{"), stuck))
	}
	for range 160 - 64 {
		if got := <-statuses; got != 429 {
			t.Fatalf("a slow body beyond the token's share: got %d; want 429", got)
		}
	}
	if got := ask(t, s, "POST", requests, otherCIToken, createBody("")); got.StatusCode != 201 {
		t.Errorf("another token beside slow bodies: got %d; want 201", got.StatusCode)
	}
	for range 131 {
		go call("GET", "/api/v1/audit", auditToken, nil)
	}
	for range 131 - 4 {
		if got := <-statuses; got != 429 {
			t.Fatalf("a slow export beyond the token's share: got %d; want 429", got)
		}
	}
	if got := ask(t, s, "GET", "/api/v1/audit/checkpoint", auditToken, ""); got.StatusCode != 200 {
		t.Errorf("another call beside slow exports: got %d; want 200", got.StatusCode)
	}
}

// Callers whose OIDC tokens wait for their issuer take no room from those with API
// tokens.
func TestSlowIssuerHoldsUpNobodyElse(t *testing.T) {
	t.Parallel()
	f, s := serve(t, func(c *webhook.Config) { c.MaxInFlight = 4 })
	f.issuing = make(chan struct{}, 4)
	ctx, cancel := context.WithCancel(t.Context())
	var waiting sync.WaitGroup
	for range 4 {
		req, err := http.NewRequestWithContext(ctx, "GET", s.URL+requests, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer a.b.c")
		waiting.Go(func() {
			if res, err := http.DefaultTransport.RoundTrip(req); err == nil {
				res.Body.Close()
			}
		})
	}
	for range 4 {
		<-f.issuing
	}
	if got := ask(t, s, "GET", requests, auditToken, ""); got.StatusCode != 200 {
		t.Errorf("an API token: got %d %s; want 200", got.StatusCode, got.body)
	}
	if got := ask(t, s, "GET", requests, "a.b.c", ""); got.StatusCode != 429 {
		t.Errorf("one more OIDC token: got %d %s; want 429", got.StatusCode, got.body)
	}
	cancel()
	waiting.Wait()
}

// Failed calls to the API do not close the enrolment page, which has a limit of
// its own.
func TestGuardedPagesHaveTheirOwnLimit(t *testing.T) {
	t.Parallel()
	h := webhook.New(webhook.Config{Service: newFake(t), Links: fakeLinks{}})
	page := h.Guard(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	call := func(to http.Handler, path string) int {
		w := httptest.NewRecorder()
		to.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		return w.Code
	}
	for range 31 {
		call(checked(t, h), requests)
	}
	if got := call(checked(t, h), requests); got != 429 {
		t.Fatalf("the API after 31 calls without a token: got %d; want 429", got)
	}
	for n := range 30 {
		if got := call(page, "/enroll/x"); got != 200 {
			t.Fatalf("call %d of the page: got %d; want 200", n, got)
		}
	}
	if got := call(page, "/enroll/x"); got != 429 {
		t.Errorf("call 31 of the page: got %d; want 429", got)
	}
}

// A proxy in front that nobody named brings everybody from one address: they do
// not share what is meant for one caller, and the operator is told.
func TestUnnamedProxy(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, peer, header, value, trusted string
		through                            int // of 1,000 calls without a token
		unnamed                            bool
	}{
		{name: "nobody in front", peer: "10.1.2.3", through: 30},
		{name: "proxy that is not named", peer: "10.1.2.3", header: "X-Forwarded-For", value: "203.0.113.9", through: 600, unnamed: true},
		{name: "on this machine", peer: "127.0.0.1", header: "Forwarded", value: "for=203.0.113.9", through: 600, unnamed: true},
		{name: "in a provider's network", peer: "100.64.3.2", header: "X-Forwarded-For", value: "203.0.113.9", through: 600, unnamed: true},
		{name: "IPv6", peer: "fd00::7", header: "X-Forwarded-For", value: "203.0.113.9", through: 600, unnamed: true},
		{name: "from the Internet", peer: "198.51.100.3", header: "X-Forwarded-For", value: "203.0.113.9", through: 30},
		{name: "proxy that is named", peer: "10.1.2.3", header: "X-Forwarded-For", value: "203.0.113.9", trusted: "10.0.0.0/8", through: 30},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				c := webhook.Config{Service: newFake(t), Links: fakeLinks{}, Log: slog.New(slog.NewTextHandler(&log, nil))}
				if tt.trusted != "" {
					c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix(tt.trusted)}
				}
				h := webhook.New(c)
				through := 0
				for range 1000 {
					r := httptest.NewRequest("GET", requests, nil)
					r.RemoteAddr = netip.AddrPortFrom(netip.MustParseAddr(tt.peer), 4711).String()
					if tt.header != "" {
						r.Header.Set(tt.header, tt.value)
					}
					w := httptest.NewRecorder()
					if checked(t, h).ServeHTTP(w, r); w.Code == 401 {
						through++
					}
				}
				if through != tt.through || h.UnnamedProxy() != tt.unnamed {
					t.Errorf("got %d calls through, unnamed proxy %t; want %d, %t", through, h.UnnamedProxy(), tt.through, tt.unnamed)
				}
				if got := strings.Count(log.String(), "RGW_TRUSTED_PROXIES does not name it"); got > 1 || (got == 1) != tt.unnamed {
					t.Errorf("it was logged %d times; want once if it was seen", got)
				}
				time.Sleep(time.Hour)
				if h.UnnamedProxy() {
					t.Error("an hour later it is still shown")
				}
			})
		})
	}
}
