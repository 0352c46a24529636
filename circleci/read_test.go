package circleci_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rack-gateway/rack-gateway-approvals/circleci"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
)

func TestReadsFacts(t *testing.T) {
	t.Parallel()
	w := setup(t)
	c := ctx(t)

	me, err := w.Me(c)
	if err != nil {
		t.Fatal(err)
	}
	if want := (circleci.User{ID: w.bot.ID, Login: "rack-gateway-bot", Name: "Rack Gateway"}); me != want {
		t.Errorf("got me %+v; want %+v", me, want)
	}
	alice, err := w.User(c, w.alice.ID)
	if err != nil {
		t.Fatal(err)
	}
	if alice.Login != "alice" {
		t.Errorf("got user %+v; want alice", alice)
	}

	wf, err := w.Workflow(c, w.workflow)
	if err != nil {
		t.Fatal(err)
	}
	if wf.CreatedAt.IsZero() || wf.StoppedAt != nil {
		t.Errorf("got created %v, stopped %v; want a time and nil", wf.CreatedAt, wf.StoppedAt)
	}
	wf.CreatedAt = time.Time{}
	want := circleci.Workflow{
		ID: w.workflow, Name: "deploy", Status: "running", PipelineID: w.pipeline.ID, PipelineNumber: 1234,
		ProjectSlug: "gh/MyOrg/myapp", StartedBy: w.alice.ID,
	}
	if diff := cmp.Diff(want, wf); diff != "" {
		t.Errorf("workflow (-want +got):\n%s", diff)
	}

	p, err := w.Pipeline(c, w.pipeline.ID)
	if err != nil {
		t.Fatal(err)
	}
	if !p.CreatedAt.Equal(w.pipeline.CreatedAt.Truncate(time.Second)) {
		t.Errorf("got created %v; want %v to the second", p.CreatedAt, w.pipeline.CreatedAt)
	}
	p.CreatedAt = time.Time{}
	wantPipeline := circleci.Pipeline{
		ID: w.pipeline.ID, Number: 1234, ProjectSlug: "gh/MyOrg/myapp", TriggerType: "webhook", ActorLogin: "alice",
		VCS: &circleci.VCS{
			Provider: "GitHub", OriginURL: "https://github.com/MyOrg/myapp", TargetURL: "https://github.com/MyOrg/myapp",
			Revision: w.pipeline.Revision, Branch: "main", Subject: "Fix it",
		},
	}
	if diff := cmp.Diff(wantPipeline, p); diff != "" {
		t.Errorf("pipeline (-want +got):\n%s", diff)
	}

	values, err := w.PipelineValues(c, w.pipeline.ID)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"pipeline.git.revision": w.pipeline.Revision, "pipeline.git.branch": "main", "pipeline.number": "1234",
	} {
		if got := values[name]; got != want {
			t.Errorf("%s: got %q; want %q", name, got, want)
		}
	}

	for _, slug := range []string{"gh/MyOrg/myapp", "github/MyOrg/myapp"} {
		project, err := w.Project(c, slug)
		if err != nil {
			t.Fatal(err)
		}
		wantProject := circleci.Project{
			ID: w.project.ID, Slug: "gh/MyOrg/myapp", Name: "myapp", VCSURL: "https://github.com/MyOrg/myapp",
			Provider: "GitHub", DefaultBranch: "main",
		}
		if project != wantProject {
			t.Errorf("got project %+v; want %+v", project, wantProject)
		}
	}
}

func TestPipelineKinds(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.AddProject(circlecitest.Project{Slug: "circleci/4tXr/9pLk"})
	app := w.AddPipeline(circlecitest.Pipeline{Project: "circleci/4tXr/9pLk", NoVCS: true, Branch: "release/1"})
	got, err := w.Pipeline(ctx(t), app.ID)
	if err != nil {
		t.Fatal(err)
	}
	if got.VCS != nil {
		t.Errorf("GitHub App: got VCS %+v; want nil", got.VCS)
	}
	values, err := w.PipelineValues(ctx(t), app.ID)
	if err != nil {
		t.Fatal(err)
	}
	if values["pipeline.git.revision"] != app.Revision || values["pipeline.git.branch"] != "release/1" {
		t.Errorf("GitHub App: got values %v; want revision and branch", values)
	}

	fork := w.AddPipeline(circlecitest.Pipeline{Project: "gh/MyOrg/myapp", Tag: "v1", OriginURL: "https://github.com/mallory/myapp"})
	got, err = w.Pipeline(ctx(t), fork.ID)
	if err != nil {
		t.Fatal(err)
	}
	if v := got.VCS; v == nil || v.Tag != "v1" || v.Branch != "" || v.OriginURL == v.TargetURL {
		t.Errorf("fork with tag: got %+v; want tag v1, no branch, origin unlike target", v)
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
			names = append(names, j.Name+" "+j.Type+" "+j.Status)
		}
		want := []string{
			"test build success", "build build success", "request_approval build success",
			gate + " approval on_hold", "deploy build blocked",
		}
		if diff := cmp.Diff(want, names); diff != "" {
			t.Fatalf("page size %d: jobs (-want +got):\n%s", size, diff)
		}
		g, before := jobs[3], jobs[2]
		if g.ApprovalRequestID != id || g.StartedAt != nil || g.Number != 0 || g.ApprovedBy != "" {
			t.Errorf("got gate %+v; want request id %s, no start, no number, nobody", g, id)
		}
		if !slices.Equal(g.Dependencies, []string{before.ID}) || !slices.Equal(g.Requires[before.ID], []string{"success"}) {
			t.Errorf("got dependencies %v and requires %v; want success of %s", g.Dependencies, g.Requires, before.ID)
		}
		if before.StartedAt == nil || before.StoppedAt == nil || before.Number == 0 {
			t.Errorf("got job %+v; want start, end and number", before)
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

func TestPipelineWorkflowsListsReruns(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.Configure(func(o *circlecitest.Options) { o.PageSize = 1 })
	if err := w.Fail(w.workflow, "test"); err != nil {
		t.Fatal(err)
	}
	rerun, err := w.Rerun(w.workflow, false)
	if err != nil {
		t.Fatal(err)
	}
	all, err := w.PipelineWorkflows(ctx(t), w.pipeline.ID)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, wf := range all {
		got = append(got, wf.ID+" "+wf.Status)
	}
	if want := []string{w.workflow + " failed", rerun + " running"}; !slices.Equal(got, want) {
		t.Errorf("got %v; want %v", got, want)
	}
}

func TestProjectPipelines(t *testing.T) {
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
		all, err := w.ProjectPipelines(ctx(t), tt.slug, tt.since)
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
	if _, err := w.ProjectPipelines(ctx(t), "gh/MyOrg/nothing", time.Time{}); asError(t, err).Status != 404 {
		t.Errorf("got %v; want 404", err)
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
	wf, err := w.Workflow(ctx(t), w.workflow)
	if err != nil || wf.Status != "queued" {
		t.Errorf("got workflow status %q, %v; want queued", wf.Status, err)
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
		_, calls["user"] = w.User(c, bad)
		_, calls["workflow"] = w.Workflow(c, bad)
		_, calls["jobs"] = w.Jobs(c, bad)
		_, calls["pipeline"] = w.Pipeline(c, bad)
		_, calls["values"] = w.PipelineValues(c, bad)
		_, calls["workflows"] = w.PipelineWorkflows(c, bad)
		_, calls["project"] = w.Project(c, bad)
		_, calls["project pipelines"] = w.ProjectPipelines(c, bad, time.Time{})
		calls["approve"] = w.Approve(c, bad, good)
		calls["approve gate"] = w.Approve(c, good, bad)
		calls["cancel job"] = w.CancelJob(c, bad)
		calls["cancel workflow"] = w.CancelWorkflow(c, bad)
		for name, err := range calls {
			e := asError(t, err)
			if e.Status != 0 || e.Temporary() || e.Message == "" {
				t.Errorf("%s(%q): got %+v; want a final error that says why", name, bad, e)
			}
		}
	}
	if got := w.Calls(); len(got) != 0 {
		t.Errorf("got %d calls; want none", len(got))
	}
}
