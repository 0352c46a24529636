package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/totp"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/gatewayd"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// visitor is a browser at the page.
type visitor struct {
	t    *testing.T
	url  string
	said string // in the terminal
}

// brisk is a demo whose jobs take no longer than a test has to wait.
var brisk = browseOptions{pace: 400 * time.Millisecond}

// visit runs the demo until the test ends, and checks then that nothing is left.
func visit(t *testing.T, opts browseOptions) *visitor {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := browse(ctx, w, opts)
		ended <- err
		w.CloseWithError(io.ErrUnexpectedEOF)
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("browse: %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("the demo did not end")
		}
		if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v; want nothing", left, err)
		}
	})
	v := &visitor{t: t}
	for lines := bufio.NewReader(r); v.url == ""; {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("read the address: %v", err)
		}
		v.said += line
		_, rest, _ := strings.Cut(line, "Open ")
		if url, _, ok := strings.Cut(rest, "/ in a browser"); ok {
			v.url = url
		}
	}
	return v
}

// until follows the events of a person until the state is as wanted.
func (v *visitor) until(as, what string, want func(state) bool) state {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(v.t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, v.url+"/events?as="+as, nil)
	if err != nil {
		v.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		v.t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			v.t.Fatalf("never seen: %s: %v", what, err)
		}
		raw, ok := strings.CutPrefix(line, "data: ")
		if !ok {
			continue
		}
		var s state
		if err := json.Unmarshal([]byte(raw), &s); err != nil {
			v.t.Fatalf("read the state: %v", err)
		}
		if want(s) {
			return s
		}
	}
}

// do acts and returns the outcome.
func (v *visitor) do(name string, a act) outcome {
	v.t.Helper()
	status, body := v.post(name, encode(v.t, a), nil)
	var o outcome
	if err := json.Unmarshal(body, &o); err != nil || status != http.StatusOK {
		v.t.Fatalf("%s: got %d %s; want 200", name, status, body)
	}
	return o
}

func encode(t *testing.T, a act) []byte {
	raw, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func (v *visitor) post(name string, body []byte, change func(*http.Request)) (int, []byte) {
	v.t.Helper()
	req, err := http.NewRequestWithContext(v.t.Context(), http.MethodPost, v.url+"/do/"+name, bytes.NewReader(body))
	if err != nil {
		v.t.Fatal(err)
	}
	if change != nil {
		change(req)
	}
	return v.send(req)
}

func (v *visitor) send(req *http.Request) (int, []byte) {
	v.t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		v.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	return resp.StatusCode, raw
}

// card is the newest one.
func card(s state) (slacktest.Message, bool) {
	for _, m := range slices.Backward(s.Messages) {
		if m.ThreadTS == "" && m.Metadata != nil && m.Metadata.EventPayload["request_id"] != nil {
			return m, true
		}
	}
	return slacktest.Message{}, false
}

func newestJob(s state, name string) circlecitest.JobView {
	jobs := s.Pipelines[len(s.Pipelines)-1].Workflows[0].Jobs
	return jobs[slices.IndexFunc(jobs, func(j circlecitest.JobView) bool { return j.Name == name })]
}

func open(s state) bool {
	m, ok := card(s)
	return ok && slices.Contains(slacktest.Buttons(m), "approve")
}

func TestBrowse(t *testing.T) {
	v := visit(t, brisk)
	for path, want := range map[string]string{"/": "<!doctype html>", "/page.css": ":root", "/page.js": "EventSource"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, v.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if status, body := v.send(req); status != http.StatusOK || !strings.Contains(string(body), want) {
			t.Errorf("GET %s: got %d; want 200 with %q", path, status, want)
		}
	}

	s := v.until(stage.Ana, "an open request, filed by the job", func(s state) bool { return open(s) && len(s.Jobs) == 1 && s.Jobs[0].Ended })
	if c := s.Jobs[0]; c.Code != 0 || !strings.HasPrefix(c.Line, "rack-gateway deploy-approval request --app myapp ") {
		t.Errorf("got %+v; want the request of the documentation", c)
	}
	m, _ := card(s)

	// Somebody without the right is told so, and only he.
	v.do("click", act{As: stage.Carl, TS: m.TS, Action: "approve"})
	v.until(stage.Carl, "a refusal for Carl's eyes", func(s state) bool { return len(s.Private) == 1 && s.View == nil && s.Code == "" })

	v.do("click", act{As: stage.Ana, TS: m.TS, Action: "approve"})
	s = v.until(stage.Ana, "the modal", func(s state) bool { return s.View != nil && s.View.CallbackID == "approve_request" })
	if len(s.Private) != 0 {
		t.Errorf("Ana sees %d messages for others; want none", len(s.Private))
	}
	submit := func(code string) outcome {
		return v.do("submit", act{As: stage.Ana, View: s.View.ID, Values: slacktest.Values{"totp": {"code": code}}})
	}
	if o := submit("12345"); o.Fields["totp"] == "" {
		t.Errorf("five digits: got %+v; want an error below the input", o)
	}
	s = v.until(stage.Ana, "a code", func(s state) bool { return len(s.Code) == 6 })
	if o := submit(s.Code); len(o.Fields) != 0 {
		t.Fatalf("the code on the page: got %+v; want the modal closed", o)
	}
	s = v.until(stage.Ana, "the finished deploy", func(s state) bool {
		m, _ := card(s)
		return strings.HasPrefix(m.Text, "Deployed") && newestJob(s, "deploy").Status == "success"
	})
	if run := s.Jobs[1]; run.Job != deployJob || run.Code != 0 || !strings.Contains(run.Output, "is up") || run.Receipt == "" {
		t.Errorf("got the deploy job %+v; want the log and the receipt of rack-gateway deploy", run)
	}
	if by := newestJob(s, stage.Gate).ApprovedBy; by != stage.MachineUser || s.View != nil {
		t.Errorf("the gate was approved by %q with the modal %v; want %s and no modal", by, s.View, stage.MachineUser)
	}

	// Hands in CircleCI.
	v.do("push", act{As: stage.Bea})
	s = v.until(stage.Bea, "a second card", func(s state) bool {
		return open(s) && len(s.Pipelines) == 2 && newestJob(s, stage.Gate).Status == "on_hold"
	})
	id := s.Pipelines[1].Workflows[0].ID
	if status, body := v.post("finish", encode(t, act{As: stage.Bea, Workflow: id, Job: "deploy"}), nil); status != http.StatusConflict {
		t.Errorf("finish a blocked job: got %d %s; want 409", status, body)
	}
	v.do("bypass", act{As: stage.Bea, Workflow: id, Job: stage.Gate})
	v.until(stage.Bea, "the card that says so", func(s state) bool {
		m, _ := card(s)
		return strings.HasPrefix(m.Text, "Approved outside") && newestJob(s, stage.Gate).ApprovedBy == outsider
	})
	s = v.until(stage.Bea, "the deploy job that ends red", func(s state) bool { return newestJob(s, deployJob).Status == "failed" })
	if run := s.Jobs[len(s.Jobs)-1]; run.Code == 0 || !strings.Contains(run.Output, "Not deploying") || strings.Contains(run.Output, "is up") {
		t.Errorf("got the deploy job %+v; want that it did not deploy and says why", run)
	}

	v.do("api", act{As: stage.Bea})
	s = v.until(stage.Bea, "a third card", func(s state) bool { return open(s) && len(s.Pipelines) == 3 })
	if m, _ := card(s); !strings.Contains(slacktest.Text(m.Blocks), "Started through the API by bea, with parameters: run_migrations=false.") {
		t.Errorf("the card does not say how the pipeline was started:\n%s", slacktest.Text(m.Blocks))
	}

	v.do("slash", act{As: stage.Bea, Text: "whoami"})
	v.until(stage.Bea, "the answer to the slash command", func(s state) bool { return len(s.Private) == 1 })
	v.do("home", act{As: stage.Bea})
	v.until(stage.Bea, "the Home tab", func(s state) bool {
		return s.Home != nil && strings.Contains(slacktest.Text(s.Home.Blocks), "My authenticator")
	})
}

func TestBrowseGuard(t *testing.T) {
	v := visit(t, brisk)
	ana := encode(t, act{As: stage.Ana})
	tests := []struct {
		name   string
		body   []byte
		change func(*http.Request)
		want   int
	}{
		{"another host", ana, func(r *http.Request) { r.Host = "evil.example" }, http.StatusMisdirectedRequest},
		{"another page", ana, func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, http.StatusForbidden},
		{"another origin", ana, func(r *http.Request) { r.Header.Set("Origin", "http://evil.example") }, http.StatusForbidden},
		{"nobody", []byte(`{"as":"U0EVE"}`), nil, http.StatusBadRequest},
		{"no JSON", []byte("as=U0ANA"), nil, http.StatusBadRequest},
		{"unknown field", []byte(`{"as":"U0ANA","x":1}`), nil, http.StatusBadRequest},
		{"too long", []byte(`{"as":"` + strings.Repeat("x", maxBody) + `"}`), nil, http.StatusBadRequest},
		{"not a post", nil, func(r *http.Request) { r.Method = http.MethodGet }, http.StatusMethodNotAllowed},
		{"nothing to close", ana, nil, http.StatusConflict},
	}
	for _, test := range tests {
		if got, body := v.post("close", test.body, test.change); got != test.want {
			t.Errorf("%s: got %d %s; want %d", test.name, got, body, test.want)
		}
	}
}

func TestShellLine(t *testing.T) {
	t.Parallel()
	got := shellLine([]string{"--app", "myapp", `{"a":1}`, "it's", "a b"})
	if want := `rack-gateway --app myapp '{"a":1}' 'it'\''s' 'a b'`; got != want {
		t.Errorf("got %s; want %s", got, want)
	}
}

// TestSimulators runs a daemon of its own, as somebody does in another terminal,
// with the variables that the demo prints.
func TestSimulators(t *testing.T) {
	port := freePorts(t)
	v := visit(t, browseOptions{pace: 400 * time.Millisecond, simulators: true, port: port})
	dir, key := t.TempDir(), totp.NewSecret()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	env := []string{"RGW_LISTEN=" + address, "RGW_DATABASE_URL=sqlite:" + filepath.Join(dir, "own.db")}
	for line := range strings.Lines(v.said) {
		if name, value, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "='"); ok {
			env = append(env, name+"="+strings.TrimSuffix(value, "'"))
		}
	}
	operator := func(stdin string, args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		if code := gatewayd.Run(t.Context(), args, env, strings.NewReader(stdin), &out, &errs); code != 0 {
			t.Fatalf("rack-gatewayd %s: got exit code %d\n%s%s", strings.Join(args, " "), code, &out, &errs)
		}
		return strings.TrimSpace(out.String())
	}
	operator("", "user", "add", "--slack-id", stage.Ana, "--name", "Ana", "--vcs-login", "ana")
	operator(key.Base32()+"\n", "user", "enroll", "--slack-id", stage.Ana, "--secret-stdin")
	token := operator("", "token", "create", "--name", "ci-myapp", "--role", "cicd", "--app", stage.App)
	operator("", "check")
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan int, 1)
	go func() {
		served <- gatewayd.Run(ctx, []string{"serve"}, env, strings.NewReader(""), io.Discard, io.Discard)
	}()
	defer func() { stop(); <-served }()

	v.until(stage.Ana, "the daemon", func(s state) bool { return s.Connected && s.Simulators && s.Code == "" })
	v.do("scan", act{As: stage.Ana, Text: key.Base32()})
	v.until(stage.Ana, "her code", func(s state) bool { return len(s.Code) == 6 })
	v.do("push", act{As: stage.Alice})
	s := v.until(stage.Ana, "a job that nobody runs", func(s state) bool { return len(s.Jobs) == 1 && s.Jobs[0].ByHand })
	if out := s.Jobs[0].Output; !strings.Contains(out, "CIRCLE_WORKFLOW_ID="+s.Jobs[0].Workflow) {
		t.Errorf("got %q; want the variables of the job", out)
	}
	v.do("finish", act{As: stage.Ana, Workflow: s.Jobs[0].Workflow, Job: askingJob})
	v.do("context", act{As: stage.Ana, URL: "http://" + address, Token: token})
	v.do("push", act{As: stage.Alice})
	v.until(stage.Ana, "a card", open)
}

// freePorts finds three ports in a row that nobody has.
func freePorts(t *testing.T) int {
	t.Helper()
	for port := 20000 + os.Getpid()%10000; port < 32000; port += 3 {
		free := true
		for n := range 3 {
			l, err := net.Listen("tcp", loopback(port+n))
			if free = free && err == nil; err == nil {
				l.Close()
			}
		}
		if free {
			return port
		}
	}
	t.Fatal("there are no three free ports in a row")
	return 0
}

func TestPlain(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for text, want := range map[string]string{
		"⟦<@U0ANA>⟧ and ⟦<@U0EVE>⟧":                                                      "@Ana and @U0EVE",
		"⟦<https://example.com/x|1a2b3c4>⟧":                                              "1a2b3c4",
		"until ⟦<!date^" + fmt.Sprint(now.Unix()) + "^{date_short_pretty} at {time}|x>⟧": "until today at " + now.Format("15:04"),
		"⟦<!date^soon^{time}|12:00 UTC>⟧":                                                "12:00 UTC",
		"*stars* <b>":                                                                    "*stars* <b>",
	} {
		if got := plain(text); got != want {
			t.Errorf("%q: got %q; want %q", text, got, want)
		}
	}
}
