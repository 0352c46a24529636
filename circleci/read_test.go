package circleci_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/circleci"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
)

func TestFacts(t *testing.T) {
	t.Parallel()
	w := setup(t)
	f, err := w.Facts(ctx(t), w.workflow)
	if err != nil {
		t.Fatal(err)
	}
	want := approvals.Facts{
		WorkflowID: w.workflow, WorkflowName: "deploy", PipelineID: w.pipeline.ID, PipelineNumber: 1234, Project: "gh/MyOrg/myapp",
		Revision: w.pipeline.Revision, Branch: "main", Origin: "https://github.com/MyOrg/myapp", Target: "https://github.com/MyOrg/myapp",
		Trigger: "webhook", Actor: "alice", StartedBy: "alice", StartedByID: w.alice.ID, WorkflowStatus: approvals.WorkflowRunning,
		Subject: "Fix it", Config: sha("version: 2.1\n"),
	}
	if diff := cmp.Diff(want, f); diff != "" {
		t.Errorf("facts (-want +got):\n%s", diff)
	}
}

func TestFactsOfOtherPipelines(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.AddProject(circlecitest.Project{Slug: "circleci/4tXr/9pLk"})
	app := w.AddPipeline(circlecitest.Pipeline{Project: "circleci/4tXr/9pLk", NoVCS: true, Branch: "release/1", ActorLogin: "alice"})
	id := w.AddWorkflow(circlecitest.Workflow{Pipeline: app.ID, Jobs: circlecitest.DeployJobs(gate)})
	f, err := w.Facts(ctx(t), id)
	if err != nil || f.Revision != app.Revision || f.Branch != "release/1" || f.Origin != "" || f.Target != "" {
		t.Errorf("GitHub App: got %+v, %v; want revision and branch without URLs", f, err)
	}

	fork := w.AddPipeline(circlecitest.Pipeline{Project: "gh/MyOrg/myapp", Tag: "v1", OriginURL: "https://github.com/mallory/myapp", ActorLogin: "alice"})
	id = w.AddWorkflow(circlecitest.Workflow{Pipeline: fork.ID, Jobs: circlecitest.DeployJobs(gate)})
	f, err = w.Facts(ctx(t), id)
	if err != nil || f.Tag != "v1" || f.Branch != "" || !f.Fork() {
		t.Errorf("fork with tag: got %+v, %v; want tag v1, no branch, a fork", f, err)
	}
}

// Who started a workflow may have left. The facts are read all the same, and say who it was by the id.
func TestUnreadableLogins(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]circlecitest.Fault{
		"gone":      {Status: 404, Body: `{"message":"User not found"}`},
		"forbidden": {Status: 403, Body: `{"message":"Permission denied"}`},
		"throttled": {Status: 429, Body: "Rate exceeded", RetryAfter: "7"},
		"broken":    {Status: 500, Body: "<html>"},
		"no answer": {Drop: true},
		"no JSON":   {Status: 200, Body: "<html>"},
		"too long":  {Status: 200, Body: `{"id":"ALICE","login":"` + strings.Repeat("x", 101) + `"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			if err := w.CancelWorkflowAs("alice", w.workflow); err != nil {
				t.Fatal(err)
			}
			fault.Op, fault.Count, fault.Body = "user", -1, strings.ReplaceAll(fault.Body, "ALICE", w.alice.ID)
			w.Inject(fault)
			f, err := w.Facts(ctx(t), w.workflow)
			if err != nil || f.StartedBy != "" || f.StartedByID != w.alice.ID || f.CanceledBy != w.alice.ID || f.Actor != "alice" {
				t.Errorf("got %+v, %v; want facts without a login, with the ids", f, err)
			}
			w.ClearFaults()
			if f, err = w.Facts(ctx(t), w.workflow); err != nil || f.StartedBy != "alice" || f.CanceledBy != "alice" {
				t.Errorf("afterwards: got %+v, %v; want the logins", f, err)
			}
		})
	}
}

// A caller that gave up gets no facts in which a login is missing for no other reason.
func TestFactsEndWithTheirContext(t *testing.T) {
	t.Parallel()
	w := setup(t)
	c, cancel := context.WithCancel(ctx(t))
	w.SetHook(func(op string, _ circlecitest.Phase) {
		if op == "user" {
			cancel()
		}
	})
	w.Inject(circlecitest.Fault{Op: "user", Delay: time.Minute})
	if f, err := w.Facts(c, w.workflow); !errors.Is(err, context.Canceled) {
		t.Errorf("got %+v, %v; want context.Canceled", f, err)
	}
}

func TestWhoIsAskedOnce(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.Inject(circlecitest.Fault{Op: "me", Status: 500}, circlecitest.Fault{Op: "user", Status: 500})
	if _, err := w.Self(ctx(t)); asError(t, err).Status != 500 {
		t.Errorf("self: got %v; want 500", err)
	}
	if _, err := w.Login(ctx(t), w.alice.ID); asError(t, err).Status != 500 {
		t.Errorf("login: got %v; want 500", err)
	}
	for range 3 {
		if self, err := w.Self(ctx(t)); err != nil || self != w.bot.ID {
			t.Errorf("self: got %q, %v; want %s", self, err, w.bot.ID)
		}
		if login, err := w.Login(ctx(t), w.alice.ID); err != nil || login != "alice" {
			t.Errorf("login: got %q, %v; want alice", login, err)
		}
		if login, err := w.Login(ctx(t), ""); err != nil || login != "" {
			t.Errorf("login of nobody: got %q, %v; want none", login, err)
		}
	}
	if me, user := w.Count("me"), w.Count("user"); me != 2 || user != 2 {
		t.Errorf("got %d calls of me, %d of user; want the failed one and one more", me, user)
	}
	if me, err := w.Me(ctx(t)); err != nil || me != (circleci.User{ID: w.bot.ID, Login: "rack-gateway-bot"}) || w.Count("me") != 3 {
		t.Errorf("me: got %+v, %v after %d calls; want the bot, asked again", me, err, w.Count("me"))
	}
}

func TestSameProject(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.AddProject(circlecitest.Project{Slug: "circleci/4tXr/9pLk"})
	for _, tt := range []struct {
		a, b  string
		want  bool
		calls int
	}{
		{"gh/MyOrg/myapp", "github/myorg/MyApp", true, 0},
		{"gh/MyOrg/myapp", "gh/MyOrg/other", false, 0},
		{"gh/MyOrg/myapp", "circleci/4tXr/9pLk", false, 2},
		{"circleci/4tXr/9pLk", "gh/MyOrg/myapp", false, 0}, // both are known by now
	} {
		before := w.Count("project")
		got, err := w.SameProject(ctx(t), tt.a, tt.b)
		if calls := w.Count("project") - before; err != nil || got != tt.want || calls != tt.calls {
			t.Errorf("%s and %s: got %v, %v in %d calls; want %v in %d", tt.a, tt.b, got, err, calls, tt.want, tt.calls)
		}
	}
	if _, err := w.SameProject(ctx(t), "circleci/a/b", "gh/MyOrg/myapp"); asError(t, err).Status != 404 {
		t.Errorf("unknown project: got %v; want 404", err)
	}
}

func TestJobs(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 2, 5} {
		w := setup(t)
		w.Configure(func(o *circlecitest.Options) { o.PageSize = size })
		id := w.hold(t)
		jobs, err := w.Jobs(ctx(t), w.workflow)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, j := range jobs {
			names = append(names, j.Name+" "+j.Type+" "+string(j.Status))
		}
		want := []string{
			"test build success", "build build success", "request_approval build success",
			gate + " approval on_hold", "deploy build blocked",
		}
		if diff := cmp.Diff(want, names); diff != "" {
			t.Fatalf("page size %d: jobs (-want +got):\n%s", size, diff)
		}
		g, before := jobs[3], jobs[2]
		if g.ApprovalRequestID != id || !g.StoppedAt.IsZero() || g.ApprovedBy != "" || g.Project != "gh/MyOrg/myapp" {
			t.Errorf("got gate %+v; want request id %s, no end, nobody, our project", g, id)
		}
		if want := map[string][]string{before.ID: {"success"}}; !cmp.Equal(g.Needs, want) {
			t.Errorf("got needs %v; want %v", g.Needs, want)
		}
		if before.StoppedAt.IsZero() {
			t.Errorf("got job %+v; want an end", before)
		}
	}
}

func TestJobsBeyondTheCap(t *testing.T) {
	t.Parallel()
	w := setup(t)
	var many []circlecitest.Job
	for range 101 {
		many = append(many, circlecitest.Job{Name: "shard"})
	}
	wf := w.AddWorkflow(circlecitest.Workflow{Pipeline: w.pipeline.ID, Jobs: many})
	w.Configure(func(o *circlecitest.Options) { o.PageSize = 1 })
	if jobs, err := w.Jobs(ctx(t), wf); err == nil || jobs != nil {
		t.Errorf("101 pages: got %d jobs, error %v; want an error and no jobs", len(jobs), err)
	}
	w.Configure(func(o *circlecitest.Options) { o.PageSize = 2 })
	if jobs, err := w.Jobs(ctx(t), wf); err != nil || len(jobs) != 101 {
		t.Errorf("51 pages: got %d jobs, error %v; want 101", len(jobs), err)
	}
}

func TestWorkflows(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.Configure(func(o *circlecitest.Options) { o.PageSize = 1 })
	w.AddWorkflow(circlecitest.Workflow{Pipeline: w.pipeline.ID, Name: "setup", Tag: "setup", Jobs: circlecitest.DeployJobs(gate)})
	if err := w.Fail(w.workflow, "test"); err != nil {
		t.Fatal(err)
	}
	rerun, err := w.Rerun(w.workflow, false)
	if err != nil {
		t.Fatal(err)
	}
	all, err := w.Workflows(ctx(t), w.pipeline.ID)
	if err != nil || len(all) != 2 {
		t.Fatalf("got %+v, %v; want two", all, err)
	}
	first, second := all[0], all[1]
	if first.ID != w.workflow || first.Name != "deploy" || first.CreatedAt.IsZero() || first.StoppedAt.IsZero() {
		t.Errorf("got first %+v; want the one that failed, with its name and times", first)
	}
	if second.ID != rerun || !second.StoppedAt.IsZero() {
		t.Errorf("got second %+v; want the rerun, which goes on", second)
	}
}

func TestWorkflowsAreSorted(t *testing.T) {
	t.Parallel()
	workflow := func(last, hour, pipeline string) string {
		return `{"id":"` + someID[:35] + last + `","name":"deploy","status":"success","pipeline_id":"` + pipeline + `","created_at":"2026-11-24T` + hour + `:00:00Z","stopped_at":null}`
	}
	items := workflow("3", "11", someID) + "," + workflow("1", "09", strings.ToUpper(someID)) + "," + workflow("2", "10", someID)
	c := clientOf(t, func(*http.Request) *http.Response { return answer(200, "", `{"items":[`+items+`]}`) })
	all, err := c.Workflows(ctx(t), someID)
	if err != nil || len(all) != 3 || !slices.IsSortedFunc(all, func(a, b approvals.WorkflowRef) int { return a.CreatedAt.Compare(b.CreatedAt) }) {
		t.Errorf("got %+v, %v; want three, oldest first", all, err)
	}
	items += "," + workflow("4", "12", someID[:35]+"0")
	if _, err := c.Workflows(ctx(t), someID); !errors.Is(err, approvals.ErrCIUnusable) {
		t.Errorf("a workflow of another pipeline: got %v; want an error", err)
	}
}

func TestPipelines(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.Configure(func(o *circlecitest.Options) { o.PageSize = 2 })
	now := time.Now().Truncate(time.Second)
	for i := range 9 {
		w.AddPipeline(circlecitest.Pipeline{Project: "gh/MyOrg/myapp", Number: int64(100 - i), CreatedAt: now.Add(-time.Duration(i+1) * time.Hour)})
	}
	w.AddProject(circlecitest.Project{Slug: "gh/MyOrg/other"})
	w.AddPipeline(circlecitest.Pipeline{Project: "gh/MyOrg/other", Number: 7})
	for _, tt := range []struct {
		slug  string
		since time.Time
		want  []int64
		calls int
	}{
		{"gh/MyOrg/myapp", time.Time{}, []int64{1234, 100, 99, 98, 97, 96, 95, 94, 93, 92}, 5},
		{"github/MyOrg/myapp", now.Add(-3 * time.Hour), []int64{1234, 100, 99, 98}, 3},
		{"gh/MyOrg/myapp", now.Add(time.Hour), nil, 1},
		{"gh/MyOrg/other", time.Time{}, []int64{7}, 1},
	} {
		before := w.Count("project-pipelines")
		all, err := w.Pipelines(ctx(t), tt.slug, tt.since)
		if err != nil {
			t.Fatal(err)
		}
		var got []int64
		for _, p := range all {
			got = append(got, p.Number)
		}
		if calls := w.Count("project-pipelines") - before; !slices.Equal(got, tt.want) || calls != tt.calls {
			t.Errorf("%s since %s: got %v in %d calls; want %v in %d", tt.slug, tt.since, got, calls, tt.want, tt.calls)
		}
	}
	if _, err := w.Pipelines(ctx(t), "gh/MyOrg/nothing", time.Time{}); asError(t, err).Status != 404 {
		t.Errorf("got %v; want 404", err)
	}
}

// A pipeline that cannot be used is an error that hides none of the others: the
// caller says what is missing.
func TestPipelinesWithHoles(t *testing.T) {
	t.Parallel()
	w := setup(t)
	const id = "5034460f-c7c4-4c43-9457-de07e2029e%02d"
	item := func(n int) string {
		return fmt.Sprintf(`{"id":"`+id+`","project_slug":"gh/MyOrg/myapp","number":%d,"state":"created","created_at":"2026-11-23T09:30:00Z","trigger":{"type":"webhook"},"vcs":{}}`, n, n)
	}
	page := func(next string, items ...string) circlecitest.Fault {
		return circlecitest.Fault{Op: "project-pipelines", Status: 200, Body: `{"items":[` + strings.Join(items, ",") + `],"next_page_token":` + next + `}`}
	}
	for name, tt := range map[string]struct {
		pages []circlecitest.Fault
		want  []int64
		says  string
	}{
		"malformed item": {[]circlecitest.Fault{page(`"next"`, item(9), `{"number":8}`, item(7)), page("null", item(6))}, []int64{9, 7, 6}, "item 2 on page 1: it has no id"},
		"malformed page": {[]circlecitest.Fault{page(`"next"`, item(9)), page("null", `"x"`)}, []int64{9}, "fields of another type"},
		"refused page":   {[]circlecitest.Fault{page(`"next"`, item(9)), {Op: "project-pipelines", Status: 500}}, []int64{9}, "500 Internal Server Error"},
	} {
		w.Inject(tt.pages...)
		all, err := w.Pipelines(ctx(t), "gh/MyOrg/myapp", time.Time{})
		var got []int64
		for _, p := range all {
			got = append(got, p.Number)
		}
		if !slices.Equal(got, tt.want) || !strings.Contains(asError(t, err).Error(), tt.says) {
			t.Errorf("%s: got %v, %v; want %v, %q", name, got, err, tt.want, tt.says)
		}
		w.ClearFaults()
	}
}

func TestUnknownStatusesAreText(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for _, err := range []error{w.SetWorkflowStatus(w.workflow, "queued"), w.SetJobStatus(w.workflow, "test", "dreaming")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	f, err := w.Facts(ctx(t), w.workflow)
	if err != nil || f.WorkflowStatus != "queued" || f.WorkflowStatus.Final() {
		t.Errorf("got workflow status %q, %v; want queued, not final", f.WorkflowStatus, err)
	}
	jobs, err := w.Jobs(ctx(t), w.workflow)
	if err != nil || jobs[0].Status != "dreaming" {
		t.Errorf("got jobs %+v, %v; want the first dreaming", jobs, err)
	}
}

func TestInvalidArgumentsAreNotSent(t *testing.T) {
	t.Parallel()
	w := setup(t)
	c := ctx(t)
	good := circlecitest.NewID()
	for _, bad := range []string{"", "1234", "../me", good + "/x", good + "\n", strings.ReplaceAll(good, "-", "")} {
		calls := map[string]error{}
		if bad != "" {
			_, calls["login"] = w.Login(c, bad)
		}
		_, calls["facts"] = w.Facts(c, bad)
		_, calls["jobs"] = w.Jobs(c, bad)
		_, calls["workflows"] = w.Workflows(c, bad)
		_, calls["project"] = w.ProjectID(c, bad)
		_, calls["pipelines"] = w.Pipelines(c, bad, time.Time{})
		calls["approve"] = w.Approve(c, bad, good)
		calls["approve gate"] = w.Approve(c, good, bad)
		calls["cancel job"] = w.CancelJob(c, bad)
		calls["cancel workflow"] = w.CancelWorkflow(c, bad)
		for name, err := range calls {
			e := asError(t, err)
			if !errors.Is(err, approvals.ErrCIInvalid) || e.Status != 0 || e.Temporary() || e.Message == "" {
				t.Errorf("%s(%q): got %+v; want a final error that says why", name, bad, e)
			}
		}
	}
	if got := w.Calls(); len(got) != 0 {
		t.Errorf("got %d calls; want none", len(got))
	}
}
