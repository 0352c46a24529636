package circlecitest_test

import (
	"slices"
	"testing"

	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
)

func TestWorkflowMovesOn(t *testing.T) {
	t.Parallel()
	w := setup(t)
	check := func(step string, want ...string) {
		t.Helper()
		if got := w.statuses(w.workflow); !slices.Equal(got, want) {
			t.Errorf("%s: got %v; want %v", step, got, want)
		}
	}
	check("start", "running", "blocked", "blocked", "blocked", "blocked", "running")
	w.hold(t)
	check("held", "success", "success", "success", "on_hold", "blocked", "on_hold")
	must(t, w.ApproveAs("alice", w.workflow, gate))
	check("approved", "success", "success", "success", "success", "running", "running")
	must(t, w.Succeed(w.workflow, "deploy"))
	check("deployed", "success", "success", "success", "success", "success", "success")
	if err := w.ApproveAs("alice", w.workflow, gate); err == nil {
		t.Error("second approval: got nil; want a refusal")
	}
}

func TestEndings(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		opts circlecitest.Options
		act  func(*testing.T, *world)
		want []string
	}{
		{"build fails", circlecitest.Options{}, func(t *testing.T, w *world) {
			must(t, w.Fail(w.workflow, "test"))
		}, []string{"failed", "not_run", "not_run", "not_run", "not_run", "failed"}},
		{"build fails, blocked stays", circlecitest.Options{BlockedStays: true}, func(t *testing.T, w *world) {
			must(t, w.Fail(w.workflow, "test"))
		}, []string{"failed", "blocked", "blocked", "blocked", "blocked", "failed"}},
		{"gate cancelled", circlecitest.Options{}, func(t *testing.T, w *world) {
			w.hold(t)
			must(t, w.CancelJobAs("alice", w.workflow, gate))
		}, []string{"success", "success", "success", "canceled", "not_run", "canceled"}},
		{"workflow cancelled", circlecitest.Options{}, func(t *testing.T, w *world) {
			must(t, w.CancelWorkflowAs("alice", w.workflow))
		}, []string{"canceled", "not_run", "not_run", "not_run", "not_run", "canceled"}},
		{"deploy infrastructure fails", circlecitest.Options{}, func(t *testing.T, w *world) {
			w.hold(t)
			must(t, w.ApproveAs("alice", w.workflow, gate))
			must(t, w.SetJobStatus(w.workflow, "deploy", "infrastructure_fail"))
		}, []string{"success", "success", "success", "success", "infrastructure_fail", "failed"}},
		{"blocked gate cancelled", circlecitest.Options{CancelBlocked: true}, func(t *testing.T, w *world) {
			must(t, w.CancelJobAs("alice", w.workflow, gate))
			for _, job := range []string{"test", "build", "request_approval"} {
				must(t, w.Succeed(w.workflow, job))
			}
		}, []string{"success", "success", "success", "canceled", "not_run", "canceled"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.Configure(func(o *circlecitest.Options) { *o = tt.opts })
			tt.act(t, w)
			if got := w.statuses(w.workflow); !slices.Equal(got, tt.want) {
				t.Errorf("got %v; want %v", got, tt.want)
			}
		})
	}
}

func TestFailingWhileAGateWaits(t *testing.T) {
	t.Parallel()
	w := setup(t)
	id := w.add(circlecitest.Job{Name: "lint"}, circlecitest.Job{Name: gate, Type: "approval"})
	must(t, w.Fail(id, "lint"))
	if got, want := w.statuses(id), []string{"failed", "on_hold", "failing"}; !slices.Equal(got, want) {
		t.Errorf("got %v; want %v", got, want)
	}
}

func TestRequiresStatuses(t *testing.T) {
	t.Parallel()
	w := setup(t)
	id := w.add(
		circlecitest.Job{Name: gate, Type: "approval"},
		circlecitest.Job{Name: "deploy", Requires: []circlecitest.Require{{Job: gate, Statuses: []string{"success", "canceled"}}}},
		circlecitest.Job{Name: "report", Requires: []circlecitest.Require{{Job: "deploy", Statuses: []string{"terminal"}}}},
		circlecitest.Job{Name: "odd", Requires: circlecitest.Requires("filtered-away")},
	)
	must(t, w.CancelJobAs("alice", id, gate))
	if got, want := w.statuses(id), []string{"canceled", "running", "blocked", "running", "running"}; !slices.Equal(got, want) {
		t.Errorf("got %v; want %v", got, want)
	}
	must(t, w.SetJobStatus(id, "deploy", "timedout"))
	if got := w.JobStatus(id, "report"); got != "running" {
		t.Errorf("got report %s; want running", got)
	}
}

func TestRestrictedContext(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ approver, want string }{{"bot", "running"}, {"alice", "unauthorized"}} {
		w := setup(t)
		id := w.add(
			circlecitest.Job{Name: gate, Type: "approval"},
			circlecitest.Job{Name: "prepare", Requires: circlecitest.Requires(gate)},
			circlecitest.Job{Name: "deploy", Requires: circlecitest.Requires("prepare"), Group: "deployers"},
		)
		must(t, w.ApproveAs(tt.approver, id, gate))
		must(t, w.Succeed(id, "prepare"))
		if got := w.JobStatus(id, "deploy"); got != tt.want {
			t.Errorf("approved by %s: got deploy %s; want %s", tt.approver, got, tt.want)
		}
		if got := w.WorkflowStatus(id); got != tt.want {
			t.Errorf("approved by %s: got workflow %s; want %s", tt.approver, got, tt.want)
		}
	}
}

func TestRerun(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.hold(t)
	if _, err := w.Rerun(w.workflow, false); err == nil {
		t.Error("rerun of a held workflow: got nil; want a refusal")
	}
	must(t, w.ApproveAs("alice", w.workflow, gate))
	must(t, w.Fail(w.workflow, "deploy"))
	for _, tt := range []struct {
		fromFailed bool
		want       []string
	}{
		{false, []string{"running", "blocked", "blocked", "blocked", "blocked", "running"}},
		{true, []string{"success", "success", "success", "success", "running", "running"}},
	} {
		id, err := w.Rerun(w.workflow, tt.fromFailed)
		must(t, err)
		if got := w.statuses(id); !slices.Equal(got, tt.want) {
			t.Errorf("from failed %v: got %v; want %v", tt.fromFailed, got, tt.want)
		}
		was, _ := w.Job(w.workflow, gate)
		if now, _ := w.Job(id, gate); now.ApprovalRequestID == was.ApprovalRequestID {
			t.Errorf("from failed %v: got the old gate's id; want a new one", tt.fromFailed)
		}
	}
}
