package stage_test

import (
	"strings"
	"testing"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// A normal deploy is told in five replies, each of them once.
func TestNormalDeployHasFiveReplies(t *testing.T) {
	t.Parallel()
	for _, http := range []bool{false, true} {
		t.Run(map[bool]string{false: "socket", true: "http"}[http], func(t *testing.T) {
			p := setup(t, stage.Options{HTTP: http})
			a := p.askOnHold()
			p.looked() // or the second line says that the gate has to be reached first
			p.approve(stage.Ana, a, "approve")
			p.becomes(a, approvals.Released)
			if r := p.Client(p.ctx, a.workflow, "deploy", "--app", stage.App, "--", "true"); r.Code != 0 {
				t.Fatalf("deploy: got %+v", r)
			}
			p.ok(p.Circle.Succeed(a.workflow, "deploy"))
			p.becomes(a, approvals.Deployed)
			p.replied(a, "Deployed: ")
			want := []string{
				"Asked by ci-myapp for ", "⟦<@U0ANA>⟧ approved with a code. CircleCI may run approve_deploy_production until ",
				"Released: CircleCI accepted the approval (attempt 1) and opened approve_deploy_production.", "The deploy job asked, and its answer was yes.", "Deployed: deploy finished",
			}
			thread := p.Slack.Thread(a.card.Channel, a.card.TS)
			if len(thread) != len(want) {
				t.Fatalf("got %d replies:\n%s", len(thread), p.thread(a))
			}
			for i, m := range thread {
				if text := slacktest.Text(m.Blocks); !strings.HasPrefix(text, want[i]) {
					t.Errorf("reply %d: got %q; want %q", i+1, text, want[i])
				}
			}
		})
	}
}
