package circleci_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
)

func TestApprove(t *testing.T) {
	t.Parallel()
	w := setup(t)
	id := w.hold(t)
	if err := w.Approve(ctx(t), w.workflow, id); err != nil {
		t.Fatal(err)
	}
	if got, _ := w.Job(w.workflow, gate); got.Status != "success" || got.ApprovedBy != "rack-gateway-bot" {
		t.Errorf("got gate %+v; want success by the bot", got)
	}
	if got := w.JobStatus(w.workflow, "deploy"); got != "running" {
		t.Errorf("got deploy %s; want running", got)
	}
	jobs, err := w.Jobs(ctx(t), w.workflow)
	if err != nil || jobs[3].ApprovedBy != w.bot.ID {
		t.Errorf("got %+v, %v; want approved by %s", jobs, err, w.bot.ID)
	}

	e := asError(t, w.Approve(ctx(t), w.workflow, id))
	if e.Status != http.StatusBadRequest || e.Message != "400 Bad Request: Invalid approval job state" || e.Temporary() {
		t.Errorf("second approval: got %+v; want a final 400", e)
	}
	if got := w.Approvals(w.workflow); len(got) != 2 || !got[0].Took || got[1].Took {
		t.Errorf("got approvals %+v; want one that took and one that did not", got)
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.hold(t)
	g, _ := w.Job(w.workflow, gate)
	if err := w.CancelJob(ctx(t), g.ID); err != nil {
		t.Fatal(err)
	}
	f, err := w.Facts(ctx(t), w.workflow)
	if err != nil || f.WorkflowStatus != "canceled" {
		t.Errorf("got facts %+v, %v; want a workflow that is canceled", f, err)
	}

	second := w.AddWorkflow(circlecitest.Workflow{Pipeline: w.pipeline.ID, Jobs: circlecitest.DeployJobs(gate)})
	if err := w.CancelWorkflow(ctx(t), second); err != nil {
		t.Fatal(err)
	}
	f, err = w.Facts(ctx(t), second)
	if err != nil || f.WorkflowStatus != "canceled" || f.CanceledBy != "rack-gateway-bot" {
		t.Errorf("got facts %+v, %v; want a workflow that the bot canceled", f, err)
	}
}

// A lost answer hides an effect; only the list tells the two apart.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		fault circlecitest.Fault
		took  bool
	}{
		{"dropped before", circlecitest.Fault{Op: "approve", Drop: true}, false},
		{"dropped after", circlecitest.Fault{Op: "approve", Drop: true, When: circlecitest.After}, true},
		{"502 before", circlecitest.Fault{Op: "approve", Status: 502, Body: "<html>Bad Gateway</html>"}, false},
		{"502 after", circlecitest.Fault{Op: "approve", Status: 502, When: circlecitest.After}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			id := w.hold(t)
			w.Inject(tt.fault)
			e := asError(t, w.Approve(ctx(t), w.workflow, id))
			if !e.Temporary() || e.Status != tt.fault.Status {
				t.Errorf("got %+v; want a temporary error with status %d", e, tt.fault.Status)
			}
			if strings.Contains(e.Error(), "<") {
				t.Errorf("got %q; want no HTML", e)
			}
			if got := w.JobStatus(w.workflow, gate) == "success"; got != tt.took {
				t.Errorf("took effect: got %v; want %v", got, tt.took)
			}
			if got := w.Count("approve"); got != 1 {
				t.Errorf("got %d POSTs; want 1", got)
			}
		})
	}
}
