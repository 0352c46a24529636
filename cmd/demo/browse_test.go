package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// visitor is a browser at the page.
type visitor struct {
	t   *testing.T
	url string
}

// visit runs the demo until the test ends, and checks then that nothing is left.
func visit(t *testing.T) *visitor {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := browse(ctx, w, browseOptions{jobTime: 300 * time.Millisecond})
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
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatalf("read the address: %v", err)
	}
	_, rest, _ := strings.Cut(line, "Open ")
	url, _, ok := strings.Cut(rest, " in a browser")
	if !ok {
		t.Fatalf("got %q; want an address", line)
	}
	return &visitor{t, strings.TrimSuffix(url, "/")}
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
	v := visit(t)
	for path, want := range map[string]string{"/": "<!doctype html>", "/page.css": ":root", "/page.js": "EventSource"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, v.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if status, body := v.send(req); status != http.StatusOK || !strings.Contains(string(body), want) {
			t.Errorf("GET %s: got %d; want 200 with %q", path, status, want)
		}
	}

	s := v.until(stage.Ana, "an open request, filed by the job", func(s state) bool { return open(s) && len(s.Commands) == 1 })
	if c := s.Commands[0]; c.Code != 0 || !strings.HasPrefix(c.Line, "rack-gateway deploy-approval request --app myapp ") {
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
}

func TestBrowseGuard(t *testing.T) {
	v := visit(t)
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
