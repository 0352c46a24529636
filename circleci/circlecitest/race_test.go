package circlecitest_test

import (
	"sync"
	"testing"
)

func TestManyApproversOneApproval(t *testing.T) {
	t.Parallel()
	w := setup(t)
	g := w.hold(t)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			w.call(t, "bot-token", "POST", "/api/v2/workflow/"+w.workflow+"/approve/"+g.ApprovalRequestID)
			_ = w.ApproveAs("alice", w.workflow, gate) // refused to all but the first
			w.gateStatus(t)
			w.Snapshot()
			w.Calls()
		})
	}
	wg.Wait()
	took := 0
	for _, a := range w.Approvals(w.workflow) {
		if a.Took {
			took++
		}
	}
	if took != 1 {
		t.Errorf("got %d approvals that took; want 1", took)
	}
}
