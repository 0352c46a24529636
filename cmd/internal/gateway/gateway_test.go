package gateway_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/gateway"
)

const (
	token    = "rgw_s3cr3t"
	commit   = "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d"
	workflow = "5034460f-c7c4-4c43-9457-de07e2029e7b"
	job      = "11111111-2222-4333-8444-555555555555"
)

const card = "https://acme.slack.com/archives/C1/p11"

// asProgram makes the test binary the program.
const asProgram = "GATEWAY_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(gateway.Main())
	}
	os.Exit(m.Run())
}

// result is what a run left behind.
type result struct {
	code           int
	stdout, stderr string
}

// run runs the program with an environment of only these variables.
func run(t *testing.T, env []string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := gateway.Run(t.Context(), args, env, strings.NewReader(""), &stdout, &stderr)
	r := result{code, stdout.String(), stderr.String()}
	if strings.Contains(r.stdout+r.stderr, token) {
		t.Errorf("%q shows the token", args)
	}
	return r
}

// gatewayd plays the API: it answers by method and path, and keeps what it got.
type gatewayd struct {
	*httptest.Server
	mu       sync.Mutex
	answers  map[string][]reply // by "METHOD path" below the requests; the last one stays
	received []string           // "METHOD path?query body"
}

type reply struct {
	status int
	body   any
}

func serve(t *testing.T, answers map[string][]reply) *gatewayd {
	t.Helper()
	g := &gatewayd{answers: answers}
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+token {
			w.WriteHeader(401)
			return
		}
		body, _ := io.ReadAll(r.Body)
		path := strings.TrimPrefix(r.URL.Path, "/api/v1/deploy-approval-requests")
		g.mu.Lock()
		defer g.mu.Unlock()
		g.received = append(g.received, strings.TrimSpace(strings.TrimSuffix(r.Method+" "+path+"?"+r.URL.RawQuery, "?")+" "+string(body)))
		queue := g.answers[r.Method+" "+path]
		if len(queue) == 0 {
			w.WriteHeader(404)
			return
		}
		if len(queue) > 1 {
			g.answers[r.Method+" "+path] = queue[1:]
		}
		if p, ok := queue[0].body.(webhook.Problem); ok {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(queue[0].status)
			_ = json.NewEncoder(w).Encode(p)
			return
		}
		w.WriteHeader(queue[0].status)
		_ = json.NewEncoder(w).Encode(about(queue[0].body, r, body))
	}))
	t.Cleanup(g.Close)
	return g
}

// about puts an answer into the environment and the workflow that a call is
// about, so that one fixture serves all calls.
func about(answer any, r *http.Request, body []byte) any {
	var call struct {
		Environment string
		Metadata    struct {
			WorkflowID string `json:"workflow_id"`
		} `json:"ci_metadata"`
	}
	_ = json.Unmarshal(body, &call)
	change := func(a webhook.Request) webhook.Request {
		a.Environment = cmp.Or(call.Environment, r.URL.Query().Get("environment"), a.Environment)
		a.Pipeline.WorkflowID = cmp.Or(call.Metadata.WorkflowID, a.Pipeline.WorkflowID)
		return a
	}
	switch a := answer.(type) {
	case webhook.Request:
		return change(a)
	case webhook.Verified:
		a.Request = change(a.Request)
		return a
	}
	return answer
}

func (g *gatewayd) env(more ...string) []string {
	return append([]string{"RACK_GATEWAY_URL=" + g.URL, "RACK_GATEWAY_API_TOKEN=" + token, "PATH=" + os.Getenv("PATH")}, more...)
}

func (g *gatewayd) calls() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.received)
}

func request(status approvals.Status) webhook.Request {
	at := time.Date(2026, 11, 23, 9, 30, 0, 0, time.UTC)
	return webhook.Request{
		ID: "R1", Number: 7, App: "myapp", Environment: "default", Status: status, GitCommit: commit, Branch: "main", Message: "Fix",
		Metadata: json.RawMessage("{}"), Requester: webhook.Requester{Token: "ci-myapp", Actor: "alice"},
		Pipeline: webhook.Pipeline{Number: 1234, URL: "https://app.circleci.com/pipelines/gh/MyOrg/myapp/1234", WorkflowID: workflow},
		Gate:     webhook.Gate{JobName: "approve_deploy_production", Status: "on_hold"}, Decisions: []webhook.Decision{}, CreatedAt: &at,
		Slack: webhook.Slack{Channel: "C1", TS: "1.1", Permalink: card},
	}
}

// verified is the answer that lets this workflow deploy.
func verified() webhook.Verified {
	until := time.Now().Add(time.Minute)
	v := webhook.Verified{Request: request("released")}
	v.Request.ApprovalExpiresAt = &until
	v.Receipt.Leaf, v.Receipt.Seq, v.Receipt.Checkpoint = `{"seq":7,"request":"R1"}`, 7, "rack-gateway\n8\nabc\n"
	return v
}

func problem(status int, code approvals.Code, detail string) reply {
	return reply{status, webhook.Problem{Status: status, Code: code, Title: "t", Detail: detail, RequestID: "REQ"}}
}

var circle = []string{"CIRCLE_SHA1=" + commit, "CIRCLE_BRANCH=main", "CIRCLE_WORKFLOW_ID=" + workflow, "CIRCLE_WORKFLOW_JOB_ID=" + job}

// The call of the documentation, word for word as a job's shell passes it.
func TestTheDocumentedCall(t *testing.T) {
	t.Parallel()
	g := serve(t, map[string][]reply{"POST ": {{201, request("pending")}}})
	got := run(t, g.env(circle...), "deploy-approval", "request",
		"--app", "myapp", "--git-commit", commit, "--branch", "main",
		"--ci-metadata", `{"workflow_id":"`+workflow+`","pipeline_number":1234}`,
		"--message", "Deploy main@1a2b3c4 to production")
	want := result{0, "R1\n", "Deploy approval request R1 created (status: pending)\nPipeline: https://app.circleci.com/pipelines/gh/MyOrg/myapp/1234\nCard: " + card + "\n"}
	if diff := gocmp.Diff(fmt.Sprintf("%+v", want), fmt.Sprintf("%+v", got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	sent := `POST  {"app":"myapp","git_commit":"` + commit + `","branch":"main","message":"Deploy main@1a2b3c4 to production","ci_metadata":{"job_id":"` + job + `","pipeline_number":1234,"workflow_id":"` + workflow + `"}}`
	if calls := g.calls(); len(calls) != 1 || calls[0] != sent {
		t.Errorf("sent %q; want %q", calls, sent)
	}
}

func TestWhatARequestSends(t *testing.T) {
	t.Parallel()
	meta := `"ci_metadata":{"job_id":"` + job + `","workflow_id":"` + workflow + `"}`
	for _, tt := range []struct {
		name string
		env  []string
		args []string
		want string
	}{
		{"all from the job", circle, nil, `{"app":"myapp","git_commit":"` + commit + `","branch":"main",` + meta + `}`},
		{"environment variable", append([]string{"RACK_GATEWAY_ENV=staging"}, circle...), nil, `{"app":"myapp","environment":"staging","git_commit":"` + commit + `","branch":"main",` + meta + `}`},
		{"flag before variable", append([]string{"RACK_GATEWAY_ENV=staging"}, circle...), []string{"--environment", "production"}, `{"app":"myapp","environment":"production","git_commit":"` + commit + `","branch":"main",` + meta + `}`},
		{"tag pipeline", []string{"CIRCLE_SHA1=" + commit, "CIRCLE_TAG=v1", "CIRCLE_WORKFLOW_ID=" + workflow}, []string{"--branch", ""}, `{"app":"myapp","git_commit":"` + commit + `","tag":"v1","ci_metadata":{"workflow_id":"` + workflow + `"}}`},
		{"tag flag in a branch pipeline", circle, []string{"--tag", "v2"}, `{"app":"myapp","git_commit":"` + commit + `","tag":"v2",` + meta + `}`},
		{"empty pipeline values", circle, []string{"--branch", "<nil>", "--ci-metadata", `{"workflow_id":"<nil>","pipeline_number":<nil>,"note":"a <nil> \" <nil>"}`}, `{"app":"myapp","git_commit":"` + commit + `","branch":"main","ci_metadata":{"job_id":"` + job + `","note":"a \u003cnil\u003e \" \u003cnil\u003e","workflow_id":"` + workflow + `"}}`},
		{"from a terminal", nil, []string{"--git-commit", "1a2b3c4", "--ci-metadata", `{"workflow_id":"` + workflow + `","pipeline_number":"12"}`}, `{"app":"myapp","git_commit":"1a2b3c4","ci_metadata":{"pipeline_number":"12","workflow_id":"` + workflow + `"}}`},
		{"another workflow's job is not ours", circle, []string{"--ci-metadata", `{"workflow_id":"x"}`}, `{"app":"myapp","git_commit":"` + commit + `","branch":"main","ci_metadata":{"workflow_id":"x"}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := serve(t, map[string][]reply{"POST ": {{200, request("approved")}}})
			got := run(t, g.env(tt.env...), append([]string{"deploy-approval", "request", "-a", "myapp"}, tt.args...)...)
			if got.code != 0 || got.stdout != "R1\n" || !strings.Contains(got.stderr, "R1 already exists for this workflow (status: approved)") {
				t.Errorf("got %+v; want exit 0 and the id", got)
			}
			if calls := g.calls(); len(calls) != 1 || calls[0] != "POST  "+unescape(tt.want) && calls[0] != "POST  "+tt.want {
				t.Errorf("sent %q\nwant %q", calls, tt.want)
			}
		})
	}
}

func unescape(s string) string {
	return strings.NewReplacer(`\u003c`, "<", `\u003e`, ">").Replace(s)
}

func TestUsageFaults(t *testing.T) {
	t.Parallel()
	whole := []string{"RACK_GATEWAY_URL=http://127.0.0.1:1", "RACK_GATEWAY_API_TOKEN=" + token}
	job := append(slices.Clone(whole), circle...)
	for _, tt := range []struct {
		name string
		env  []string
		args string
		want string // part of the one line
	}{
		{"no app", job, "deploy-approval request", "--app is required"},
		{"no commit", whole, "deploy-approval request --app a", "the commit is not known"},
		{"no workflow", whole, "deploy-approval request --app a --git-commit 1a2b3c4", "the workflow is not known"},
		{"unreadable metadata", job, `deploy-approval request --app a --ci-metadata {"workflow_id":`, "--ci-metadata is not a JSON object"},
		{"metadata is no object", job, `deploy-approval request --app a --ci-metadata [1]`, "--ci-metadata is not a JSON object"},
		{"metadata is null", job, `deploy-approval request --app a --ci-metadata null`, "--ci-metadata is not a JSON object"},
		{"no URL", []string{"RACK_GATEWAY_API_TOKEN=" + token}, "deploy-approval list", "RACK_GATEWAY_URL is not set"},
		{"no token", []string{"RACK_GATEWAY_URL=http://127.0.0.1:1"}, "deploy-approval list", "RACK_GATEWAY_API_TOKEN is not set"},
		{"token not expanded", []string{"RACK_GATEWAY_URL=http://127.0.0.1:1", "RACK_GATEWAY_API_TOKEN=$RACK_GATEWAY_API_TOKEN"}, "deploy-approval list", "CircleCI does not expand variables"},
		{"URL not expanded", []string{"RACK_GATEWAY_URL=${RACK_GATEWAY_URL}", "RACK_GATEWAY_API_TOKEN=x"}, "deploy-approval list", "CircleCI does not expand variables"},
		{"bad URL", []string{"RACK_GATEWAY_URL=ftp://x", "RACK_GATEWAY_API_TOKEN=x"}, "deploy-approval list", "must be like https://"},
		{"token file", []string{"RACK_GATEWAY_URL=http://127.0.0.1:1", "RACK_GATEWAY_API_TOKEN_FILE=/does/not/exist"}, "deploy-approval list", "no such file"},
		{"token in quotes", []string{"RACK_GATEWAY_URL=http://127.0.0.1:1", `RACK_GATEWAY_API_TOKEN="x"`}, "deploy-approval list", "RACK_GATEWAY_API_TOKEN has quotes"},
		{"URL in quotes", []string{"RACK_GATEWAY_URL='http://127.0.0.1:1'", "RACK_GATEWAY_API_TOKEN=x"}, "deploy-approval list", "RACK_GATEWAY_URL has quotes"},
		{"quoted name", []string{`RACK_GATEWAY_URL="$RACK_GATEWAY_URL"`, "RACK_GATEWAY_API_TOKEN=x"}, "deploy-approval list", "CircleCI does not expand variables"},
		{"environment in quotes", append(slices.Clone(job), `RACK_GATEWAY_ENV="production"`), "deploy-approval verify --app a", "RACK_GATEWAY_ENV has quotes"},
		{"environment of a request in quotes", append(slices.Clone(job), `RACK_GATEWAY_ENV='production'`), "deploy-approval request --app a", "RACK_GATEWAY_ENV has quotes"},
		{"environment not expanded", append(slices.Clone(job), "RACK_GATEWAY_ENV=$ENV"), "deploy-approval show --app a", "CircleCI does not expand variables"},
		{"blank URL", []string{"RACK_GATEWAY_URL= \n", "RACK_GATEWAY_API_TOKEN=x"}, "deploy-approval list", "RACK_GATEWAY_URL is not set"},
		{"bad proxy", append(slices.Clone(whole), "RACK_GATEWAY_PROXY=socks4://x"), "check", "RACK_GATEWAY_PROXY must be"},
		{"bad standard proxy", append(slices.Clone(whole), "HTTP_PROXY=://"), "check", "HTTP_PROXY must be"},
		{"quoted proxy", append(slices.Clone(whole), `ALL_PROXY="http://x"`), "check", "ALL_PROXY has quotes"},
		{"no id but a sign", whole, "deploy-approval show #", "the id is empty"},
		{"commit that is none", whole, "deploy-approval verify --app a --git-commit main --workflow-id w", "7 to 40 hex digits"},
		{"did you mean a command", whole, "deploy-aproval", `unknown command "deploy-aproval" for "rack-gateway"; did you mean deploy-approval`},
		{"did you mean a subcommand", whole, "deploy-approval lst", "did you mean list?"},
		{"did you mean a topic", whole, "help deploy-approval lst", "did you mean list?"},
		{"did you mean a flag", job, "deploy --app a --enviroment x", "unknown flag: --enviroment; did you mean --environment?"},
		{"did you mean a common flag", job, "check --retry-fro 1s", "did you mean --retry-for?"},
		{"unknown command", whole, "deploy-approval approve R1", `unknown command "approve"`},
		{"unknown flag", whole, "deploy-approval list --token x", "unknown flag: --token"},
		{"bad until", whole, "deploy-approval wait R1 --until forever", "must be one of approved, released, finished"},
		{"bad timeout", whole, "deploy-approval wait R1 --timeout soon", "must be a duration"},
		{"negative timeout", whole, "deploy-approval wait R1 --timeout -1s", "must be a duration"},
		{"bad output", whole, "deploy-approval show R1 -o yaml", "must be one of text, json"},
		{"bad limit", whole, "deploy-approval list --limit 0", "--limit must be"},
		{"nothing to wait for", whole, "deploy-approval wait", "give the id of a request"},
		{"id and app", whole, "deploy-approval wait R1 --app a", "either an id or --app"},
		{"no workflow to look up", whole, "deploy-approval show --app a", "the workflow is not known"},
		{"two ids", whole, "deploy-approval show R1 R2", "accepts at most 1 arg"},
		{"no reason", whole, "deploy-approval cancel R1", "--reason is required"},
		{"nothing to cancel", whole, "deploy-approval cancel --reason x", "accepts 1 arg"},
		{"verify without app", job, "deploy-approval verify", "--app is required"},
		{"verify without workflow", whole, "deploy-approval verify --app a --git-commit 1a2b3c4", "--workflow-id"},
		{"no dashes", job, "deploy --app a make deploy", "put -- before the command"},
		{"nothing behind the dashes", append(slices.Clone(job), "RACK_GATEWAY_DEPLOY_COMMAND=true"), "deploy --app a --", "no command behind --"},
		{"help on nothing", whole, "help nonsense", "unknown help topic"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := run(t, tt.env, strings.Split(tt.args, " ")...)
			lines := strings.Split(strings.TrimSpace(got.stderr), "\n")
			if got.code != 2 || got.stdout != "" || len(lines) != 2 || !strings.Contains(lines[0], tt.want) || !strings.HasPrefix(lines[1], "Run 'rack-gateway") {
				t.Errorf("got %+v; want exit 2, one line with %q and a hint", got, tt.want)
			}
		})
	}
}

func TestWaitExitCodes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		until  string
		status approvals.Status
		code   int
	}{
		{"approved", "approved", 0}, {"approved", "released", 0}, {"approved", "deployed", 0}, {"approved", "deploy_failed", 0},
		{"approved", "rejected", 3}, {"approved", "expired", 4}, {"approved", "canceled", 5}, {"approved", "superseded", 5},
		{"approved", "bypassed", 6}, {"approved", "undeliverable", 11}, {"approved", "pending", 7}, {"approved", "from_the_future", 1},
		{"released", "approved", 7}, {"released", "released", 0}, {"released", "deploy_failed", 0}, {"released", "undeliverable", 11},
		{"finished", "released", 7}, {"finished", "deployed", 0}, {"finished", "deploy_failed", 1}, {"finished", "bypassed", 6},
	} {
		t.Run(tt.until+" "+string(tt.status), func(t *testing.T) {
			t.Parallel()
			g := serve(t, map[string][]reply{
				"POST ":   {{201, request("pending")}},
				"GET /R1": {{200, request(tt.status)}},
			})
			flags := []string{"--until", tt.until, "--timeout", "300ms"}
			got := run(t, g.env(), append([]string{"deploy-approval", "wait", "R1"}, flags...)...)
			printed := string(tt.status) + "\n"
			if tt.status == "from_the_future" { // nothing can be said of it
				printed = ""
			}
			if got.code != tt.code || got.stdout != printed || got.stderr == "" {
				t.Errorf("wait: got %+v; want exit %d and the status", got, tt.code)
			}
			got = run(t, g.env(circle...), append([]string{"deploy-approval", "request", "--app", "myapp", "--wait"}, flags...)...)
			code := tt.code
			if tt.status == "from_the_future" { // a poll that says this is like one that fails
				code = 7
			}
			if got.code != code || got.stdout != "R1\n" {
				t.Errorf("request --wait: got %+v; want exit %d and the id", got, tt.code)
			}
			if strings.ContainsAny(got.stderr, "\r\x1b") {
				t.Errorf("progress on something that is no terminal: %q", got.stderr)
			}
		})
	}
}

func TestErrorExitCodes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		answer reply
		code   int
	}{
		{problem(401, "unauthorized", "send a valid token"), 8},
		{problem(403, "forbidden", "not for app \"x\""), 8},
		{problem(400, "invalid", "not valid"), 9},
		{problem(404, "not_found", "no such request"), 9},
		{problem(409, "already_released", "x"), 9},
		{problem(422, "approval_job_not_found", "approval job 'x' not found in workflow"), 9},
		{problem(429, "rate_limited", "x"), 10},
		{problem(500, "internal", "x"), 10},
		{problem(502, "circleci_unauthorized", "403 Forbidden"), 10},
		{problem(503, "circleci_unavailable", "x"), 10},
		{reply{200, "not a request"}, 1},
		{reply{301, ""}, 1},
	} {
		t.Run(fmt.Sprint(tt.answer.status, " ", tt.code), func(t *testing.T) {
			t.Parallel()
			g := serve(t, map[string][]reply{
				"POST ": {tt.answer}, "GET ": {tt.answer}, "GET /R1": {tt.answer}, "POST /R1/cancel": {tt.answer}, "POST /verify": {tt.answer},
			})
			for _, args := range []string{
				"deploy-approval request --app myapp", "deploy-approval wait R1", "deploy-approval show R1", "deploy-approval show --app myapp",
				"deploy-approval list", "deploy-approval cancel R1 --reason x", "deploy-approval verify --app myapp", "deploy --app myapp -- false",
			} {
				got := run(t, g.env(circle...), strings.Fields("--retry-for 0 "+args)...)
				if got.code != tt.code || got.stdout != "" || !strings.HasPrefix(got.stderr, "rack-gateway: ") {
					t.Errorf("%s: got %+v; want exit %d", args, got, tt.code)
				}
			}
		})
	}
}

func TestNoConnection(t *testing.T) {
	t.Parallel()
	g := serve(t, nil)
	g.Close()
	got := run(t, g.env(circle...), "deploy-approval", "request", "--app", "myapp", "--retry-for", "700ms")
	if got.code != 10 || !strings.Contains(got.stderr, "trying again in") {
		t.Errorf("got %+v; want exit 10 after another try", got)
	}
}

func TestRequestIsRetried(t *testing.T) {
	t.Parallel()
	g := serve(t, map[string][]reply{"POST ": {problem(503, "circleci_unavailable", "CircleCI cannot be asked now"), {201, request("pending")}}})
	got := run(t, g.env(circle...), "deploy-approval", "request", "--app", "myapp")
	if got.code != 0 || got.stdout != "R1\n" || len(g.calls()) != 2 {
		t.Errorf("got %+v after %d calls; want success after two", got, len(g.calls()))
	}
}

func TestWaitFollowsChanges(t *testing.T) {
	t.Parallel()
	rejected := request("rejected")
	rejected.Decisions = []webhook.Decision{{Action: "reject", Name: "bea", Reason: "wait for\x1b[2J the migration"}}
	g := serve(t, map[string][]reply{"GET /R1": {{200, request("pending")}, {500, ""}, {200, rejected}}, "GET ": {{200, webhook.Page{Requests: []webhook.Request{request("pending")}}}}})
	got := run(t, g.env(circle...), "deploy-approval", "wait", "--app", "myapp", "-o", "json", "--timeout", "30s")
	var r webhook.Request
	if err := json.Unmarshal([]byte(got.stdout), &r); err != nil || got.code != 3 || r.Status != "rejected" {
		t.Fatalf("got %+v; want exit 3 and the request", got)
	}
	if !strings.Contains(got.stderr, `rejected by bea: wait for\u001b[2J the migration`) || !strings.Contains(got.stderr, "still waiting") {
		t.Errorf("stderr %q; want the failed poll, who rejected and why, harmless", got.stderr)
	}
	calls := g.calls()
	if calls[0] != "GET ?app=myapp&environment=default&limit=1&workflow_id="+workflow || !strings.Contains(calls[1], "status=pending&wait=") {
		t.Errorf("calls %q; want this workflow's request, then polls", calls)
	}
}

func TestCancelAndVerify(t *testing.T) {
	t.Parallel()
	g := serve(t, map[string][]reply{"POST /R1/cancel": {{200, request("canceled")}}, "POST /verify": {{200, verified()}}})
	if got := run(t, g.env(), "deploy-approval", "cancel", "R1", "--reason", "mistake"); got.code != 0 || got.stdout != "canceled\n" {
		t.Errorf("cancel: got %+v", got)
	}
	var receipt struct {
		Leaf string
		Seq  int64
	}
	got := run(t, g.env(circle...), "deploy-approval", "verify", "--app", "myapp", "-e", "production")
	if err := json.Unmarshal([]byte(got.stdout), &receipt); err != nil || got.code != 0 || receipt.Leaf != `{"seq":7,"request":"R1"}` {
		t.Errorf("verify: got %+v, %v; want the receipt", got, err)
	}
	want := []string{`POST /R1/cancel {"reason":"mistake"}`, `POST /verify {"app":"myapp","environment":"production","git_commit":"` + commit + `","workflow_id":"` + workflow + `"}`}
	if diff := gocmp.Diff(want, g.calls()); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

// The job's log says where the card is, once, also when Slack is slower than CI.
func TestTheCardIsNamed(t *testing.T) {
	t.Parallel()
	bare := request("pending")
	bare.Slack = webhook.Slack{}
	for name, answers := range map[string]map[string][]reply{
		"request":        {"POST ": {{201, bare}}, "GET /R1": {{200, bare}, {200, request("pending")}}},
		"request --wait": {"POST ": {{201, bare}}, "GET /R1": {{200, request("pending")}, {200, request("approved")}}},
		"wait":           {"GET ": {{200, webhook.Page{Requests: []webhook.Request{request("pending")}}}}, "GET /R1": {{200, request("approved")}}},
	} {
		g := serve(t, answers)
		got := run(t, g.env(circle...), append([]string{"deploy-approval"}, strings.Fields(name+" --app myapp")...)...)
		if got.code != 0 || strings.Count(got.stderr, "Card: "+card+"\n") != 1 {
			t.Errorf("%s: got %+v; want the card's link once", name, got)
		}
	}
	g := serve(t, map[string][]reply{"POST ": {{201, bare}}}) // and reading it fails
	if got := run(t, g.env(circle...), "deploy-approval", "request", "--app", "myapp"); got.code != 0 || got.stdout != "R1\n" {
		t.Errorf("without a card: got %+v; want success", got)
	}
}

func TestLongMessagesAreCut(t *testing.T) {
	t.Parallel()
	g := serve(t, map[string][]reply{"POST ": {{201, request("pending")}}})
	for length, want := range map[int]int{2000: 2000, 2001: 2000, 5000: 2000} {
		got := run(t, g.env(circle...), "deploy-approval", "request", "--app", "myapp", "--message", strings.Repeat("ä", length))
		calls := g.calls()
		var body webhook.CreateBody
		if err := json.Unmarshal([]byte(strings.TrimPrefix(calls[len(calls)-1], "POST ")), &body); err != nil {
			t.Fatal(err)
		}
		if got.code != 0 || len([]rune(body.Message)) != want || strings.Contains(got.stderr, "characters") != (length > want) {
			t.Errorf("%d characters: sent %d, %q; want %d", length, len([]rune(body.Message)), got.stderr, want)
		}
	}
}

// People see #7, so they may write it.
func TestNumbersWithASign(t *testing.T) {
	t.Parallel()
	g := serve(t, map[string][]reply{"GET /7": {{200, request("approved")}}, "POST /7/cancel": {{200, request("canceled")}}})
	for _, args := range []string{"show #7", "wait #7", "cancel #7 --reason x"} {
		if got := run(t, g.env(), append([]string{"deploy-approval"}, strings.Fields(args)...)...); got.code != 0 {
			t.Errorf("%s: got %+v; want exit 0", args, got)
		}
	}
}

func TestHelpVersionCompletion(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"version":                             "rack-gateway ",
		"--version":                           "rack-gateway ",
		"help deploy-approval wait":           "Do not use --until released",
		"deploy-approval request --help":      "--ci-metadata",
		"--help":                              "Exit codes:",
		"completion bash":                     "bash completion",
		"__complete deploy-approval wait --u": "--until",
		"__complete deploy-approval wait --until fin":  "finished\n",
		"__complete deploy-approval list --status dep": "deployed\n",
		"__complete deploy-approval show --output j":   "json\n",
	} {
		got := run(t, nil, strings.Fields(args)...)
		if got.code != 0 || !strings.Contains(got.stdout, want) {
			t.Errorf("%s: exit %d, stdout %.200q; want %q in it", args, got.code, got.stdout, want)
		}
	}
	for _, args := range []string{"", "deploy-approval"} {
		if got := run(t, nil, strings.Fields(args)...); got.code != 2 || got.stdout != "" || !strings.Contains(got.stderr, "Available Commands") {
			t.Errorf("%q: exit %d, stdout %q; want exit 2 and the help on stderr", args, got.code, got.stdout)
		}
	}
}
