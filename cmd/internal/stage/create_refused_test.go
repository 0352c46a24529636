package stage_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// filing is one create call.
type filing struct {
	webhook.CreateBody
	workflow string
	token    string
}

func (f filing) args() []string {
	args := []string{"deploy-approval", "request", "--retry-for", "0", "--app", f.App, "--git-commit", f.GitCommit, "--ci-metadata", f.metadata()}
	for flag, value := range map[string]string{"--environment": f.Environment, "--branch": f.Branch, "--tag": f.Tag, "--message": f.Message} {
		if value != "" {
			args = append(args, flag, value)
		}
	}
	return args
}

func (f filing) metadata() string { return fmt.Sprintf(`{"workflow_id":%q}`, f.workflow) }

func (f filing) body() string {
	f.Metadata = json.RawMessage(f.metadata())
	raw, err := json.Marshal(f.CreateBody)
	if err != nil {
		panic(err) // strings and an object always marshal
	}
	return string(raw)
}

// workflow adds a workflow whose gate waits behind request_approval.
func (p *play) workflow(pipe circlecitest.Pipeline, jobs []circlecitest.Job) string {
	if pipe.Project == "" {
		pipe.Project = stage.Project
	}
	if pipe.Revision == "" {
		pipe.Revision = stage.Revision
	}
	pipe.ActorLogin = stage.Starter
	return p.Circle.AddWorkflow(circlecitest.Workflow{Pipeline: p.Circle.AddPipeline(pipe).ID, Jobs: jobs})
}

func (p *play) plain(pipe circlecitest.Pipeline) string {
	return p.workflow(pipe, circlecitest.DeployJobs(stage.Gate))
}

// ready runs a workflow up to its gate.
func (p *play) ready(workflow string) string {
	p.t.Helper()
	for _, job := range []string{"test", "build", "request_approval"} {
		p.ok(p.Circle.Succeed(workflow, job))
	}
	return workflow
}

func gate() circlecitest.Job { return circlecitest.Job{Name: stage.Gate, Type: "approval"} }

// TestRefusedCreateStoresAndPostsNothing runs each refusal through the client and
// again through the bare API.
func TestRefusedCreateStoresAndPostsNothing(t *testing.T) {
	o := settings("ALLOWED_BRANCHES=main,release/*,tag:v*,pull/*", "ALLOWED_TRIGGERS=webhook,explicit")
	o.Env = append(o.Env,
		"RGW_APP_OTHER_SETTING_VCS_REPO=MyOrg/other", "RGW_APP_OTHER_SETTING_CIRCLECI_APPROVAL_JOB_NAME=hold",
		"RGW_APP_APP_SETTING_VCS_REPO=MyOrg/app", "RGW_APP_APP_SETTING_CIRCLECI_PROJECT_SLUG=circleci/4tXr/9pLk", "RGW_APP_APP_SETTING_CIRCLECI_APPROVAL_JOB_NAME="+stage.Gate,
		"RGW_RATE_LIMIT=0")
	p := setup(t, o)
	p.Circle.AddProject(circlecitest.Project{Slug: "gh/MyOrg/foreign"})
	p.Circle.AddProject(circlecitest.Project{Slug: "circleci/4tXr/9pLk"})
	auditor, err := p.NewToken(p.ctx, "auditor", "--role", "auditor", "--app", stage.App)
	p.ok(err)
	revoked, err := p.NewToken(p.ctx, "revoked", "--role", "cicd", "--app", stage.App)
	p.ok(err)
	p.operator("token", "revoke", "revoked")
	expired, err := p.NewToken(p.ctx, "expired", "--role", "cicd", "--app", stage.App, "--expires", "1s")
	p.ok(err)
	p.until("the token has expired", func() bool {
		status, _ := p.call(http.MethodGet, "/deploy-approval-requests", expired, "", "")
		return status == http.StatusUnauthorized
	})
	everything, err := p.NewToken(p.ctx, "all", "--role", "cicd", "--all-apps")
	p.ok(err)

	wf := func(pipe circlecitest.Pipeline) func(*filing) {
		return func(f *filing) { f.workflow = p.plain(pipe) }
	}
	jobs := func(jobs ...circlecitest.Job) func(*filing) {
		return func(f *filing) { f.workflow = p.workflow(circlecitest.Pipeline{}, jobs) }
	}
	with := func(change func(*filing)) func(*filing) {
		return func(f *filing) { f.workflow = p.plain(circlecitest.Pipeline{}); change(f) }
	}
	fault := func(faults ...circlecitest.Fault) func(*filing) {
		return with(func(f *filing) {
			for _, x := range faults {
				x.ID, x.Count = f.workflow, -1
				p.Circle.Inject(x)
			}
		})
	}
	for _, tt := range []struct {
		name   string
		make   func(*filing)
		status int
		code   approvals.Code
		exit   int // of the client; 0 = it is not asked, because it never sends this
		text   string
		event  bool // one request.refused
	}{
		{"workflow of another repository", wf(circlecitest.Pipeline{Project: "gh/MyOrg/foreign"}), 422, "workflow_wrong_project", 9, "gh/MyOrg/foreign", true},
		{"pipeline of a fork", wf(circlecitest.Pipeline{OriginURL: "https://github.com/mallory/myapp"}), 422, "workflow_wrong_project", 9, "fork", true},
		{"pull request of an unknown repository", func(f *filing) {
			f.App, f.token = "app", everything
			f.workflow = p.plain(circlecitest.Pipeline{Project: "circleci/4tXr/9pLk", NoVCS: true, Branch: "pull/77"})
		}, 422, "workflow_wrong_project", 9, "counts as a fork", true},
		{"started through the API", wf(circlecitest.Pipeline{TriggerType: "api"}), 422, "trigger_not_allowed", 9, "webhook, explicit", true},
		{"configuration through the API", wf(circlecitest.Pipeline{ConfigSource: "api"}), 422, "config_not_from_commit", 9, "sent through the API", true},
		{"configuration of another commit", wf(circlecitest.Pipeline{ConfigRevision: strings.Repeat("f", 40)}), 422, "config_not_from_commit", 9, "fffff", true},
		{"another commit", with(func(f *filing) { f.GitCommit = "ffffffff" }), 422, "commit_mismatch", 9, "ffffffff", true},
		{"another commit of the same beginning", with(func(f *filing) { f.GitCommit = stage.Revision[:39] + "0" }), 422, "commit_mismatch", 9, stage.Revision, true},
		{"commit too short", with(func(f *filing) { f.GitCommit = "1a2b3c" }), 400, "invalid", 9, "git_commit", true},
		{"commit too long", with(func(f *filing) { f.GitCommit = stage.Revision + "0" }), 400, "invalid", 9, "git_commit", true},
		{"commit is no hex", with(func(f *filing) { f.GitCommit = "1a2b3cz" }), 400, "invalid", 9, "git_commit", true},
		{"another branch", with(func(f *filing) { f.Branch = "release/2" }), 422, "branch_mismatch", 9, `branch "main"`, true},
		{"branch for a tag pipeline", func(f *filing) {
			f.workflow, f.Branch = p.plain(circlecitest.Pipeline{Tag: "v1.0"}), "main"
		}, 422, "branch_mismatch", 9, `tag "v1.0"`, true},
		{"another tag", func(f *filing) { f.workflow, f.Tag = p.plain(circlecitest.Pipeline{Tag: "v1.0"}), "v2.0" }, 422, "branch_mismatch", 9, `tag "v1.0"`, true},
		{"branch and tag", with(func(f *filing) { f.Branch, f.Tag = "main", "v1" }), 400, "invalid", 9, "tag", true},
		{"branch that is not allowed", wf(circlecitest.Pipeline{Branch: "feature/x"}), 422, "branch_not_allowed", 9, "release/*", true},
		{"tag that is not allowed", wf(circlecitest.Pipeline{Tag: "beta"}), 422, "branch_not_allowed", 9, `tag "beta"`, true},
		{"tag named as an allowed branch", wf(circlecitest.Pipeline{Tag: "main"}), 422, "branch_not_allowed", 9, `tag "main"`, true},
		{"unknown workflow", func(f *filing) { f.workflow = circlecitest.NewID() }, 422, "workflow_not_found", 9, "workflow not found", true},
		{"workflow id is no id", func(f *filing) { f.workflow = "../../me" }, 400, "invalid", 9, "workflow_id", true},
		{"canceled workflow", with(func(f *filing) { p.ok(p.Circle.CancelWorkflowAs("ana", f.workflow)) }), 422, "workflow_finished", 9, "canceled", true},
		{"canceled gate", with(func(f *filing) {
			p.ready(f.workflow)
			p.ok(p.Circle.CancelJobAs("ana", f.workflow, stage.Gate))
		}), 422, "workflow_finished", 9, "canceled", true},
		{"failed before the gate", with(func(f *filing) { p.ok(p.Circle.Fail(f.workflow, "test")) }), 422, "workflow_finished", 9, "failed", true},
		{"gate approved without a request", with(func(f *filing) {
			p.ready(f.workflow)
			p.ok(p.Circle.ApproveAs("mallory", f.workflow, stage.Gate))
		}), 409, "already_released", 9, "approved already", true},
		{"gate missing", jobs(circlecitest.Job{Name: "build"}), 422, "approval_job_not_found", 9, "approval job '" + stage.Gate + "' not found in workflow", true},
		{"gate in other case", jobs(circlecitest.Job{Name: strings.ToUpper(stage.Gate), Type: "approval"}), 422, "approval_job_not_found", 9, "not found in workflow", true},
		{"two gates of that name", jobs(gate(), gate()), 422, "approval_job_ambiguous", 9, stage.Gate, true},
		{"build job of that name", jobs(circlecitest.Job{Name: stage.Gate}), 422, "approval_job_not_found", 9, stage.Gate, true},
		{"unknown token", with(func(f *filing) { f.token = flip(p.Token) }), 401, "unauthorized", 8, "token", false},
		{"malformed token", with(func(f *filing) { f.token = "secret" }), 401, "unauthorized", 8, "token", false},
		{"revoked token", with(func(f *filing) { f.token = revoked }), 401, "unauthorized", 8, "token", false},
		{"expired token", with(func(f *filing) { f.token = expired }), 401, "unauthorized", 8, "token", false},
		{"token of an auditor", with(func(f *filing) { f.token = auditor }), 403, "forbidden", 8, "auditor", true},
		{"app outside of the token", with(func(f *filing) { f.App = "other" }), 403, "forbidden", 8, `not for app "other"`, true},
		{"unknown app", with(func(f *filing) { f.token, f.App = everything, "nothing" }), 404, "app_unknown", 9, "nothing", true},
		{"unknown environment", with(func(f *filing) { f.Environment = "moon" }), 404, "environment_unknown", 9, "moon", true},
		{"app is no name", with(func(f *filing) { f.App = "My App" }), 400, "invalid", 9, "app", true},
		{"message too long", with(func(f *filing) { f.Message = strings.Repeat("ü", 2001) }), 400, "invalid", 0, "", true},
		{"CircleCI 401", fault(circlecitest.Fault{Op: "workflow", Status: 401, Body: `{"message":"Invalid token provided."}`}), 502, "circleci_unauthorized", 10, "401 Unauthorized", true},
		{"CircleCI 403", fault(circlecitest.Fault{Op: "workflow", Status: 403, Body: `{"message":"Permission denied."}`}), 502, "circleci_unauthorized", 10, "403 Forbidden", true},
		{"CircleCI 403 on the jobs", fault(circlecitest.Fault{Op: "jobs", Status: 403, Body: `{}`}), 502, "circleci_unauthorized", 10, "403 Forbidden", true},
		{"CircleCI 404", fault(circlecitest.Fault{Op: "workflow", Status: 404, Body: `{"message":"Not found"}`}), 422, "workflow_not_found", 9, "workflow not found", true},
		{"CircleCI 429 in plain text", fault(circlecitest.Fault{
			Op: "workflow", Status: 429, Body: "Rate limit exceeded", Header: http.Header{"Content-Type": {"text/plain"}}, RetryAfter: "1",
		}), 503, "circleci_unavailable", 10, "CircleCI cannot be asked now", false},
		{"CircleCI 500", fault(circlecitest.Fault{Op: "workflow", Status: 500, Body: "<html>oops</html>"}), 503, "circleci_unavailable", 10, "CircleCI cannot be asked now", false},
		{"CircleCI 500 on the jobs", fault(circlecitest.Fault{Op: "jobs", Status: 500}), 503, "circleci_unavailable", 10, "CircleCI cannot be asked now", false},
		{"CircleCI drops the connection", fault(circlecitest.Fault{Op: "workflow", Drop: true}), 503, "circleci_unavailable", 10, "CircleCI cannot be asked now", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := &play{Stage: p.Stage, t: t, ctx: p.ctx}
			f := filing{CreateBody: webhook.CreateBody{App: stage.App, GitCommit: stage.Revision}, token: p.Token}
			tt.make(&f)
			if tt.exit != 0 {
				r := p.ClientAs(p.ctx, f.token, "", f.args()...)
				if r.Code != tt.exit || !strings.Contains(r.Stderr, tt.text) || !strings.Contains(r.Stderr, string(tt.code)) {
					t.Errorf("client: got exit %d, %q; want %d, %q and %q", r.Code, r.Stderr, tt.exit, tt.text, tt.code)
				}
				if r.Stdout != "" {
					t.Errorf("client: got stdout %q; want none", r.Stdout)
				}
			}
			before := p.refusals()
			status, problem := p.call("POST", "/deploy-approval-requests", f.token, "application/json", f.body())
			if status != tt.status || problem.Code != tt.code || problem.Status != tt.status || problem.RequestID == "" {
				t.Errorf("api: got %d %+v; want %d %s", status, problem, tt.status, tt.code)
			}
			if got := p.refusals()[len(before):]; tt.event != slices.Equal(got, []string{string(tt.code)}) || !tt.event && len(got) > 0 {
				t.Errorf("log: got refusals %v; want one (%t) of %s", got, tt.event, tt.code)
			}
			p.nothingFiled()
		})
	}
}

// flip changes the last character of a token.
func flip(token string) string {
	last := "a"
	if strings.HasSuffix(token, last) {
		last = "b"
	}
	return token[:len(token)-1] + last
}

// refusals are the reasons of all refused creates.
func (p *play) refusals() []string {
	p.t.Helper()
	var reasons []string
	for _, e := range p.log() {
		if e.Type == approvals.EventRefused {
			reasons = append(reasons, e.Reason)
		}
	}
	return reasons
}

// nothingFiled checks that there is neither a request nor a message.
func (p *play) nothingFiled() {
	p.t.Helper()
	page, err := p.client().List(p.ctx, webhook.ListQuery{Limit: 10})
	p.ok(err)
	if len(page.Requests) != 0 {
		p.t.Fatalf("got %d requests; want none", len(page.Requests))
	}
	if m := p.Slack.AllMessages(stage.Channel); len(m) != 0 {
		p.t.Fatalf("got %d messages in the channel; want none", len(m))
	}
}

func TestUnreadableCreateBodyIsRefused(t *testing.T) {
	p := setup(t, stage.Options{})
	f := filing{CreateBody: webhook.CreateBody{App: stage.App, GitCommit: stage.Revision}, workflow: p.Pipeline(stage.Number)}
	good := f.body()
	edit := func(old, with string) string { return strings.Replace(good, old, with, 1) }
	for _, tt := range []struct {
		name, contentType, body string
		status                  int
		code                    approvals.Code
	}{
		{"no JSON", "application/json", "{", 400, "invalid"},
		{"empty", "application/json", "", 400, "invalid"},
		{"an array", "application/json", "[]", 400, "invalid"},
		{"null", "application/json", "null", 400, "invalid"},
		{"duplicate key", "application/json", edit(`{"app"`, `{"app":"x","app"`), 400, "invalid"},
		{"key in other case", "application/json", edit(`"git_commit"`, `"Git_Commit"`), 400, "invalid"},
		{"duplicate key inside", "application/json", edit(`{"workflow_id"`, `{"workflow_id":"x","workflow_id"`), 400, "invalid"},
		{"unknown field", "application/json", edit(`{"app"`, `{"approve":true,"app"`), 400, "invalid"},
		{"second document", "application/json", good + "{}", 400, "invalid"},
		{"wrong type", "application/json", edit(`"app":"myapp"`, `"app":7`), 400, "invalid"},
		{"metadata is a string", "application/json", edit(f.metadata(), `"x"`), 400, "invalid"},
		{"pipeline number is a word", "application/json", edit(`{"workflow_id"`, `{"pipeline_number":"one","workflow_id"`), 400, "invalid"},
		{"metadata too large", "application/json", edit(`{"workflow_id"`, `{"x":"`+strings.Repeat("x", 8<<10)+`","workflow_id"`), 400, "invalid"},
		{"too large", "application/json", edit(`{"app"`, `{"message":"`+strings.Repeat("x", 64<<10)+`","app"`), 413, "too_large"},
		{"other content type", "text/plain", good, 415, "unsupported_media_type"},
		{"form", "application/x-www-form-urlencoded", good, 415, "unsupported_media_type"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := &play{Stage: p.Stage, t: t, ctx: p.ctx}
			before := len(p.refusals())
			status, problem := p.call("POST", "/deploy-approval-requests", p.Token, tt.contentType, tt.body)
			if status != tt.status || problem.Code != tt.code {
				t.Errorf("got %d %+v; want %d %s", status, problem, tt.status, tt.code)
			}
			if got := p.refusals()[before:]; !slices.Equal(got, []string{string(tt.code)}) {
				t.Errorf("log: got refusals %v; want one of %s", got, tt.code)
			}
			p.nothingFiled()
		})
	}
	if status, _ := p.call("POST", "/deploy-approval-requests", p.Token, "application/json", good); status != 201 {
		t.Errorf("good body: got %d; want 201", status)
	}
}
