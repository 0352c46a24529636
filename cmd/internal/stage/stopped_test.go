package stage_test

import (
	"strings"
	"testing"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// A gate that somebody opened in CircleCI deploys nothing: the deploy job says why
// and what to do, and the thread and the card say that it was stopped.
func TestDeployJobBehindAGateThatSomebodyOpened(t *testing.T) {
	p := setup(t, stage.Options{})
	a := p.askOnHold()
	p.ok(p.Circle.ApproveAs("mallory", a.workflow, stage.Gate))
	p.becomes(a, approvals.Bypassed)
	r := p.Client(p.ctx, a.workflow, "deploy", "--app", stage.App, "--", "echo", "deployed")
	if r.Code != 9 || r.Stdout != "" {
		t.Errorf("got %+v; want exit 9 and no deploy", r)
	}
	for _, want := range []string{
		"rack-gateway: Not deploying: nobody approved request #1 here; its gate was opened in CircleCI by mallory (not_approved)", "Card: https://", "Next: rerun the workflow from start",
	} {
		if !strings.Contains(r.Stderr, want) {
			t.Errorf("got stderr %q; want %q in it", r.Stderr, want)
		}
	}
	p.replied(a, "The deploy job asked and was stopped: nobody approved this here.")
	p.cardSays(a, closed, "The deploy job asked and was stopped.")
	p.happened(a, approvals.EventVerifyRefused, 1)

	// A rerun from failed has no request of its own.
	rerun := p.Pipeline(stage.Number + 1)
	if r := p.Client(p.ctx, rerun, "deploy-approval", "verify", "--app", stage.App); r.Code != 9 || !strings.Contains(r.Stderr, "a rerun needs an approval of its own") {
		t.Errorf("a workflow without a request: got %+v", r)
	}
	events := p.log()
	if last := events[len(events)-1]; last.Type != approvals.EventVerifyRefused || last.Data["workflow_id"] != rerun {
		t.Errorf("the newest event is %+v; want the refusal", last)
	}
}
