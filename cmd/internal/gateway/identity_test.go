package gateway_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/gateway"
)

// issued is a gateway that takes any token and remembers those that came, and a
// directory for a program circleci.
type issued struct {
	*httptest.Server
	dir string

	mu      sync.Mutex
	bearers []string
}

func issue(t *testing.T, answers map[string][]reply) *issued {
	t.Helper()
	behind := serve(t, answers)
	i := &issued{dir: t.TempDir()}
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		i.bearers = append(i.bearers, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
		i.mu.Unlock()
		r.Header.Set("Authorization", "Bearer "+token)
		behind.Config.Handler.ServeHTTP(w, r)
	}))
	t.Cleanup(i.Close)
	return i
}

// circleci installs a program of that name. Each call of it adds its arguments to
// the file "calls", one line each, and its environment to the file "env".
func (i *issued) circleci(t *testing.T, script string) {
	t.Helper()
	text := "#!/bin/sh\ncd '" + i.dir + "'\necho \"$@\" >> calls\nenv >> env\nn=$(wc -l < calls)\n" + script + "\n"
	if err := os.WriteFile(filepath.Join(i.dir, "circleci"), []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
}

func (i *issued) env(more ...string) []string {
	return append(append([]string{"RACK_GATEWAY_URL=" + i.URL + "/", "PATH=" + i.dir + ":" + os.Getenv("PATH"), "CIRCLECI=true"}, circle...), more...)
}

func (i *issued) came() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return append([]string{}, i.bearers...)
}

func (i *issued) read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(i.dir, name))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(text)
}

// jwt is a token that ends after so long, and does not say since when it is good.
func jwt(ends time.Duration) string { return jwtOf(`{"exp":%d}`, ends) }

// jwtOf is a token with claims that name times from now on.
func jwtOf(claims string, after ...time.Duration) string {
	part := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	var times []any
	for _, d := range after {
		times = append(times, time.Now().Add(d).Unix())
	}
	return part(`{"alg":"RS256"}`) + "." + part(fmt.Sprintf(claims, times...)) + ".c2ln"
}

func TestTokenOfTheJob(t *testing.T) {
	t.Parallel()
	deploy := []string{"deploy", "--app", "myapp", "--", "sh", "-c", "env; cat /proc/$PPID/environ || true"}
	for _, tt := range []struct {
		name     string
		circleci string // the program; "" = none. $n is the number of the call
		env      []string
		code     int
		calls    int
		audience string
		says     string
	}{
		{"minted", "echo TOKEN", nil, 0, 1, "", ""},
		{"at the third try", "[ $n = 3 ] && echo TOKEN || { echo 'TOKEN: service unavailable' >&2; exit 1; }", nil, 0, 3, "", "(token): service unavailable; trying again"},
		{"another audience", "echo TOKEN", []string{`RACK_GATEWAY_OIDC_AUDIENCE=gate"way`}, 0, 1, `gate\"way`, ""},
		{"given", "exit 1", []string{"RACK_GATEWAY_OIDC_TOKEN=TOKEN"}, 0, 0, "", ""},
		{"three failures", "echo 'TOKEN: no' >&2; exit 1", nil, 8, 3, "", "Not deploying: get an OIDC token for the gateway: circleci run oidc get: exit status 1: (token): no"},
		{"no token", "echo not a token", nil, 8, 3, "", "printed no token"},
		{"no program", "", nil, 2, 0, "", "this job has no program circleci"},
		{"outside of CircleCI", "echo TOKEN", []string{"CIRCLECI=", "CIRCLE_WORKFLOW_ID="}, 2, 0, "", ""},
		{"given, but no token", "echo TOKEN", []string{"RACK_GATEWAY_OIDC_TOKEN=rgw_abc"}, 2, 0, "", "RACK_GATEWAY_OIDC_TOKEN is not an OIDC token"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			i := issue(t, map[string][]reply{"POST /verify": {{200, verified()}}, "POST /R1/deploy": {{200, request("released")}}})
			secret := jwt(time.Hour)
			if tt.circleci != "" {
				i.circleci(t, strings.ReplaceAll(tt.circleci, "TOKEN", secret))
			}
			var env []string
			for _, kv := range i.env(tt.env...) {
				env = append(env, strings.ReplaceAll(kv, "TOKEN=TOKEN", "TOKEN="+secret))
			}
			if tt.circleci == "" {
				env = append(env, "PATH=/usr/bin:/bin")
			}
			cmd := exec.CommandContext(t.Context(), os.Args[0], deploy...)
			cmd.Env = append(env, asProgram+"=1")
			out, _ := cmd.CombinedOutput()
			if got := cmd.ProcessState.ExitCode(); got != tt.code || !strings.Contains(string(out), tt.says) {
				t.Errorf("got exit %d; want %d and %q\n%s", got, tt.code, tt.says, out)
			}
			if strings.Contains(string(out), secret) {
				t.Errorf("the token is shown, or the command sees it:\n%s", out)
			}
			calls := i.read(t, "calls")
			audience := tt.audience
			if audience == "" {
				audience = i.URL
			}
			if want := strings.Repeat(`run oidc get --claims {"aud":"`+audience+`"}`+"\n", tt.calls); calls != want {
				t.Errorf("got calls %q; want %q", calls, want)
			}
			if strings.Contains(i.read(t, "env"), secret) {
				t.Error("the program circleci sees a token")
			}
			came := i.came()
			if tt.code == 0 && len(came) != 3 || tt.code != 0 && len(came) != 0 {
				t.Errorf("got %d calls of the gateway", len(came))
			}
			for _, bearer := range came {
				if bearer != secret {
					t.Errorf("got bearer %q; want the token of the job", bearer)
				}
			}
		})
	}
}

// A token that is set wins: the job is not asked.
func TestAPITokenWins(t *testing.T) {
	t.Parallel()
	i := issue(t, map[string][]reply{"GET /R1": {{200, request("approved")}}})
	i.circleci(t, "echo "+jwt(time.Hour))
	r := run(t, i.env("RACK_GATEWAY_API_TOKEN="+token, "RACK_GATEWAY_OIDC_TOKEN="+jwt(time.Hour)), "deploy-approval", "show", "R1")
	if came := i.came(); r.code != 0 || len(came) != 1 || came[0] != token || i.read(t, "calls") != "" {
		t.Errorf("got %+v with bearers %q; want the API token alone", r, came)
	}
}

// A wait can be longer than the life of a token: each call gets one that is good.
func TestTokensAreRenewedInALongWait(t *testing.T) {
	t.Parallel()
	i := issue(t, map[string][]reply{"GET /R1": {{200, request("pending")}, {200, request("pending")}, {200, request("approved")}}})
	// The first tokens live less than five minutes, the first by a clock that is ahead of the job's. The third lives longer.
	i.circleci(t, "case $n in 1) echo "+jwtOf(`{"iat":%d,"exp":%d}`, 56*time.Minute, time.Hour)+";; 2) echo "+jwt(time.Minute)+";; *) echo "+jwt(time.Hour)+";; esac")
	r := run(t, i.env(), "deploy-approval", "wait", "R1")
	came := i.came()
	if r.code != 0 || len(came) < 3 || came[0] == came[1] || came[1] == came[2] {
		t.Errorf("got %+v with bearers %q; want a fresh one for each call", r, came)
	}
}

// The audience is the URL of the gateway, also where the variable leaves its scheme out.
func TestAudienceIsAURL(t *testing.T) {
	t.Parallel()
	i := issue(t, nil)
	i.circleci(t, "echo "+jwt(time.Hour))
	run(t, i.env("RACK_GATEWAY_URL=gateway.invalid:8443/", "RACK_GATEWAY_PROXY=http://127.0.0.1:1"), "--retry-for", "0", "check")
	if got, want := i.read(t, "calls"), `run oidc get --claims {"aud":"https://gateway.invalid:8443"}`+"\n"; got != want {
		t.Errorf("got %q; want %q", got, want)
	}
}

// Nobody refused a token that there never was.
func TestCheckWithoutAToken(t *testing.T) {
	t.Parallel()
	i := issue(t, nil)
	i.circleci(t, "echo no >&2; exit 1")
	got := run(t, i.env(), "check")
	if got.code != 8 || !strings.Contains(got.stderr, "rack-gateway: get an OIDC token for the gateway: ") || strings.Contains(got.stderr, "refused") || len(i.came()) != 0 {
		t.Errorf("got %+v; want exit 8, and that there is no token", got)
	}
}

// A program that hangs does not hold up what is to end.
func TestCircleCIHangs(t *testing.T) {
	t.Parallel()
	i := issue(t, nil)
	i.circleci(t, "exec sleep 60")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	var stderr bytes.Buffer
	began := time.Now()
	code := gateway.Run(ctx, []string{"check"}, i.env(), strings.NewReader(""), io.Discard, &stderr)
	if took := time.Since(began); code == 0 || took > 10*time.Second {
		t.Errorf("got exit %d after %s: %s; want it to give up", code, took, &stderr)
	}
	if got := len(i.came()); got != 0 {
		t.Errorf("got %d calls of the gateway; want none", got)
	}
}
