package attack_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// slow opens n connections, from so many addresses, that begin a call and do not end it.
func slow(t *testing.T, w *world, n, sources int) []net.Conn {
	t.Helper()
	all := make([]net.Conn, 0, n)
	t.Cleanup(func() {
		for _, c := range all {
			c.Close()
		}
	})
	for i := range n {
		c, err := dialer(1+i%sources).DialContext(w.ctx, "tcp", strings.TrimPrefix(w.URL, "http://"))
		must(t, err)
		all = append(all, c)
		// Some in the head, some in a body that never comes.
		start := "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: "
		if i%2 == 1 {
			start = "POST /api/v1/deploy-approval-requests HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + w.Token + "\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n{"
		}
		_, _ = io.WriteString(c, start) // who is slow may be thrown out already
	}
	return all
}

// dialer dials from the nth loopback address, where all of 127/8 is loopback.
func dialer(n int) *net.Dialer {
	local := &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(n))}
	l, err := net.ListenTCP("tcp", local)
	if err != nil {
		return &net.Dialer{}
	}
	l.Close()
	return &net.Dialer{LocalAddr: local}
}

// health asks /healthz on new connections from an address of its own, and returns
// the slowest but one percent.
func health(t *testing.T, w *world, calls int) time.Duration {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: dialer(200).DialContext}, Timeout: 20 * time.Second}
	took := make([]time.Duration, 0, calls)
	for range calls {
		start := time.Now()
		res, err := client.Get(w.URL + "/healthz")
		must(t, err)
		res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Fatalf("health: got %s; want 200", res.Status)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	return took[len(took)*99/100]
}

// memory is the resident size of a process in MiB, 0 where it cannot be read.
func memory(pid int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	s := bufio.NewScanner(bytes.NewReader(text))
	for s.Scan() {
		if rest, ok := strings.CutPrefix(s.Text(), "VmRSS:"); ok {
			kib, _ := strconv.Atoi(strings.Fields(rest)[0])
			return kib >> 10
		}
	}
	return 0
}

// TestSlowClientsDoNotStopTheService opens many more connections than are allowed, from
// one address and from many, none of which ever finishes its call. Times and memory are logged: the
// machine that tests is not the one that serves. (Threat 24)
func TestSlowClientsDoNotStopTheService(t *testing.T) {
	t.Parallel()
	w := newWorld(t, stage.Options{Env: []string{"RGW_RATE_LIMIT=0"}})
	daemon := w.spawn(t)
	before, idle := health(t, w, 100), memory(daemon.PID())

	slow(t, w, 500, 1)
	t.Logf("health p99: %s with none, %s with 500 slow connections; memory %d, then %d MiB", before, health(t, w, 100), idle, memory(daemon.PID()))

	// The cap is 1,024 in all: who is idle for the longest time gives way.
	held := slow(t, w, 2_000, 20)
	t.Logf("health p99: %s with 2,000 more from 20 addresses; memory %d MiB", health(t, w, 20), memory(daemon.PID()))
	for i, c := range held {
		must(t, c.SetReadDeadline(time.Now().Add(25*time.Second)))
		if _, err := io.Copy(io.Discard, c); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Fatalf("slow connection %d was not ended: %v", i, err)
		}
	}
	f := w.requested(t, 1234)
	must(t, noApproval(w, nil, w.named("after", f)))
}

func TestOversizedCallsAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, stage.Options{HTTP: true, Env: []string{"RGW_RATE_LIMIT=0"}})
	w.spawn(t)
	for _, tt := range []struct {
		name, method, path, contentType string
		header, body                    int
		want                            int
	}{
		{"header", "GET", "/healthz", "", 64 << 10, 0, http.StatusRequestHeaderFieldsTooLarge},
		{"body of the API", "POST", "/api/v1/deploy-approval-requests", "application/json", 0, 64<<10 + 1, http.StatusRequestEntityTooLarge},
		{"body for Slack", "POST", "/slack/interactions", "application/x-www-form-urlencoded", 0, 1<<20 + 1, http.StatusRequestEntityTooLarge},
		{"largest body for Slack, not signed", "POST", "/slack/interactions", "application/x-www-form-urlencoded", 0, 1 << 20, http.StatusUnauthorized},
		{"form of the enrolment page", "POST", "/enroll/U0ANA.x", "application/x-www-form-urlencoded", 0, 8 << 10, http.StatusRequestEntityTooLarge},
	} {
		req, err := http.NewRequestWithContext(w.ctx, tt.method, w.URL+tt.path, strings.NewReader(strings.Repeat("x", tt.body)))
		must(t, err)
		req.Header.Set("Authorization", "Bearer "+w.Token)
		req.Header.Set("Content-Type", tt.contentType)
		req.Header.Set("Sec-Fetch-Site", "same-origin")
		if tt.header > 0 {
			req.Header.Set("X-Large", strings.Repeat("x", tt.header))
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		res.Body.Close()
		if res.StatusCode != tt.want {
			t.Errorf("%s: got %d; want %d", tt.name, res.StatusCode, tt.want)
		}
	}
	health(t, w, 1)
}

// stranger calls without a token; from is what it claims in X-Forwarded-For.
func stranger(t *testing.T, w *world, path, from string) (status int, retryAfter string) {
	t.Helper()
	req, err := http.NewRequestWithContext(w.ctx, http.MethodGet, w.URL+path, nil)
	must(t, err)
	if from != "" {
		req.Header.Set("X-Forwarded-For", from)
	}
	res, err := http.DefaultClient.Do(req)
	must(t, err)
	res.Body.Close()
	return res.StatusCode, res.Header.Get("Retry-After")
}

// until429 calls until it is held back, at most so many times, and returns how often
// it got through.
func until429(t *testing.T, w *world, most int, path string, from func(n int) string) int {
	t.Helper()
	for n := range most {
		status, wait := stranger(t, w, path, from(n))
		if status != http.StatusTooManyRequests {
			continue
		}
		if s, err := strconv.Atoi(wait); err != nil || s < 1 || s > 60 {
			t.Errorf("%s: got Retry-After %q; want seconds", path, wait)
		}
		return n
	}
	return most
}

// TestStrangersAreHeldBack: who has no token gets about 30 calls a minute from one
// address, whatever they claim to be forwarded for. Callers with a token are not held
// up by them.
// A proxy inside that nobody named has about 600 for all that come through it.
func TestStrangersAreHeldBack(t *testing.T) {
	t.Parallel()
	const requests, enrolment = "/api/v1/deploy-approval-requests", "/enroll/U0ANA.guess"
	nobody := func(int) string { return "" }
	everybody := func(n int) string { return fmt.Sprintf("203.0.113.%d", n) }
	const few, shared, free = 30, 600, 0 // about so many calls get through; 0 = all
	for _, tt := range []struct {
		name, path, proxies string
		from                func(int) string
		want                int
	}{
		{"without a token", requests, "", nobody, few},
		{"enrolment page", enrolment, "", nobody, few},
		{"unknown paths", "/nothing", "", nobody, few},
		{"made-up addresses, no proxy is trusted", requests, "", everybody, shared},
		{"made-up addresses at the enrolment page", enrolment, "", everybody, shared},
		{"addresses from a trusted proxy", requests, "127.0.0.0/8", everybody, free},
		{"one address, with made-up ones before it", requests, "127.0.0.0/8", func(n int) string { return fmt.Sprintf("198.51.100.%d, 203.0.113.7", n) }, few},
		{"a proxy that is not trusted", requests, "10.0.0.0/8", everybody, shared},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, stage.Options{Env: []string{"RGW_TRUSTED_PROXIES=" + tt.proxies}})
			must(t, w.Start(w.ctx))
			most := 60
			if tt.want != free {
				most = 2 * tt.want
			}
			began := time.Now()
			got := until429(t, w, most, tt.path, tt.from)
			// While the calls are made, as many come back as fit into that time.
			back := int(float64(tt.want) * time.Since(began).Minutes())
			if tt.want == free && got != most || tt.want != free && (got < tt.want*5/6 || got > tt.want*7/6+back) {
				t.Errorf("got %d of %d calls through; want about %d and %d that came back meanwhile (0 = all)", got, most, tt.want, back)
			}
			if r := w.Client(w.ctx, "", "deploy-approval", "list", "--retry-for", "0"); r.Code != 0 {
				t.Errorf("with a token: got %+v; want exit 0", r)
			}
			if status, _ := stranger(t, w, "/healthz", ""); status != http.StatusOK {
				t.Errorf("health: got %d; want 200", status)
			}
		})
	}
}

// TestNothingOfTheInsideIsServed: metrics have a listener of their own, profiles none.
func TestNothingOfTheInsideIsServed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, stage.Options{})
	must(t, w.Start(w.ctx))
	for _, tt := range []struct {
		url  string
		want int
	}{
		{w.URL + "/metrics", 404},
		{w.URL + "/debug/pprof/", 404},
		{w.URL + "/debug/vars", 404},
		{w.URL + "/", 404},
		{w.Health + "/metrics", 200},
		{w.Health + "/debug/pprof/", 404},
		{w.Health + "/debug/pprof/heap", 404},
		{w.Health + "/api/v1/deploy-approval-requests", 404},
		{w.Health + "/healthz", 200},
		{w.Health + "/readyz", 200},
	} {
		res, err := http.Get(tt.url)
		must(t, err)
		res.Body.Close()
		if res.StatusCode != tt.want {
			t.Errorf("%s: got %d; want %d", strings.TrimPrefix(tt.url, "http://"), res.StatusCode, tt.want)
		}
	}
}
