package stage_test

import (
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

func (p *play) failedWith(r webhook.Request, code, detail string) {
	p.t.Helper()
	if string(r.Failure.Code) != code || !strings.Contains(string(r.Failure.Detail), detail) {
		p.t.Errorf("got failure %+v; want %s: %s", r.Failure, code, detail)
	}
}

func TestBypassIsNamedWithinTwoPolls(t *testing.T) {
	p := setup(t, stage.Options{})
	a := p.askOnHold()
	began := time.Now()
	p.ok(p.Circle.ApproveAs("mallory", a.workflow, stage.Gate))
	r := p.becomes(a, approvals.Bypassed)
	p.replied(a, "mallory approved approve_deploy_production in CircleCI, not here")
	// Two polls of a second, and Slack's pace of a reply a second.
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("got it told after %s; want two poll intervals", took)
	}
	if r.Gate.ApprovedBy != "mallory" || r.Gate.Status != "success" {
		t.Errorf("got gate %+v; want success by mallory", r.Gate)
	}
	p.cardSays(a, closed, "Approved outside: myapp", "mallory")
	if n := p.Circle.Count("approve"); n != 0 {
		t.Errorf("got %d approve calls; want none", n)
	}
}

func TestApprovalByTheMachineUserWithoutADecisionIsABypass(t *testing.T) {
	p := setup(t, stage.Options{})
	a := p.askOnHold()
	p.ok(p.Circle.ApproveAs(stage.MachineUser, a.workflow, stage.Gate))
	p.becomes(a, approvals.Bypassed)
	p.replied(a, stage.MachineUser)
}

func TestGateApprovedByAHumanAfterTheDecisionIsABypass(t *testing.T) {
	p := setup(t, stage.Options{})
	a := p.askOnHold()
	p.Circle.Inject(circlecitest.Fault{Op: "approve", Count: -1, Status: 500})
	p.approve(stage.Ana, a, "approve")
	p.ok(p.Circle.Wait(p.ctx, func() bool { return p.Circle.Count("approve") == 1 }))
	p.ok(p.Circle.ApproveAs("mallory", a.workflow, stage.Gate))
	p.becomes(a, approvals.Bypassed)
	p.cardSays(a, closed, "Approved outside: myapp", "mallory")
}

func TestApprovalInCircleCIAfterARejectRaisesAnAlarm(t *testing.T) {
	p := setup(t, settings("ON_CLOSE=nothing"))
	a := p.askOnHold()
	p.reject(stage.Bea, a, "no")
	p.becomes(a, approvals.Rejected)
	p.ok(p.Circle.ApproveAs("mallory", a.workflow, stage.Gate))
	p.Stop()
	// A closed request is looked at every five minutes: this brings it forward.
	p.ok(p.database().Update(p.ctx, func(tx approvals.Tx) error {
		return lookNow(tx, a.workflow)
	}))
	p.start()
	p.replied(a, "was approved in CircleCI by mallory although this request is rejected")
	_, err := p.Slack.WaitMessage(p.ctx, stage.Channel, func(m slacktest.Message) bool {
		return m.ThreadTS == "" && strings.Contains(m.Text, "mallory")
	})
	if err != nil {
		t.Errorf("no alarm in the channel: %v", err)
	}
	if r := p.get(a.id); r.Status != approvals.Rejected {
		t.Errorf("got %s; want rejected", r.Status)
	}
}

func TestEndedInCircleCIByAPerson(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*play, asked) error{
		"job":      func(p *play, a asked) error { return p.Circle.CancelJobAs("bea", a.workflow, stage.Gate) },
		"workflow": func(p *play, a asked) error { return p.Circle.CancelWorkflowAs("bea", a.workflow) },
	} {
		t.Run(name, func(t *testing.T) {
			p := setup(t, stage.Options{})
			a := p.askOnHold()
			p.ok(end(p, a))
			p.failedWith(p.becomes(a, approvals.Canceled), "workflow_ended", "cancelled")
			p.cardSays(a, closed, "Withdrawn: myapp", "by bea")
			p.replied(a, "by bea")
		})
	}
}

func TestEndedInCircleCIBeforeTheGateWasReached(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		end  func(*play, asked) error
		want string
	}{
		"cancelled":     {func(p *play, a asked) error { return p.Circle.CancelWorkflowAs("bea", a.workflow) }, "The workflow was cancelled in CircleCI by bea"},
		"a job failed":  {func(p *play, a asked) error { return p.Circle.Fail(a.workflow, "request_approval") }, "failed in CircleCI before it reached"},
		"stays blocked": {func(p *play, a asked) error { return p.Circle.Fail(a.workflow, "request_approval") }, "failed"},
	} {
		t.Run(name, func(t *testing.T) {
			p := setup(t, stage.Options{})
			if name == "stays blocked" {
				p.Circle.Configure(func(o *circlecitest.Options) { o.BlockedStays = true })
			}
			a := p.ask()
			p.ok(tt.end(p, a))
			p.becomes(a, approvals.Canceled)
			p.replied(a, tt.want)
			p.cardSays(a, closed, "Withdrawn: myapp")
		})
	}
}

// TestChangedFactsCloseTheRequest lets CircleCI tell another story right before
// the gate is approved.
func TestChangedFactsCloseTheRequest(t *testing.T) {
	p := setup(t, stage.Options{})
	a := p.ask()
	p.ok(p.Circle.EditPipeline(a.workflow, func(pipe *circlecitest.Pipeline) { pipe.Revision = strings.Repeat("f", 40) }))
	p.approve(stage.Ana, a, "approve")
	p.ok(p.Circle.Succeed(a.workflow, "request_approval"))
	p.failedWith(p.becomes(a, approvals.Canceled), "facts_changed", "changed in CircleCI")
	p.replied(a, "changed in CircleCI since the request was made")
	p.cardSays(a, closed, "Withdrawn: myapp")
	if n := p.Circle.Count("approve"); n != 0 {
		t.Errorf("got %d approve calls; want none", n)
	}
}

func TestExpiredRequestIsClosedAndItsGateCancelled(t *testing.T) {
	p := setup(t, briefly())
	a := p.askOnHold()
	p.becomes(a, approvals.Expired)
	p.gateIs(a, "canceled")
	p.replied(a, "Expired: nobody decided")
	p.cardSays(a, closed, "Expired: myapp", "Nobody decided by")
}

func TestNewerPipelineSupersedes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		o     stage.Options
		newer circlecitest.Pipeline
		want  approvals.Status // of the older one
	}{
		{"same branch", stage.Options{}, circlecitest.Pipeline{Number: 2000}, approvals.Superseded},
		{"other branch", stage.Options{}, circlecitest.Pipeline{Number: 2000, Branch: "release/1"}, approvals.Pending},
		{"other branch, per environment", settings("SUPERSEDE=environment"), circlecitest.Pipeline{Number: 2000, Branch: "release/1"}, approvals.Superseded},
		{"off", settings("SUPERSEDE=off"), circlecitest.Pipeline{Number: 2000}, approvals.Pending},
		{"older pipeline asked later", stage.Options{}, circlecitest.Pipeline{Number: 1000}, approvals.Pending},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := setup(t, tt.o)
			a := p.askOnHold()
			newer := p.plain(tt.newer)
			_, id := p.again(newer, nil)
			b := asked{newer, id, p.card(id)}
			p.becomes(a, tt.want)
			p.cardSays(b, open, "Deploy myapp?")
			if tt.want == approvals.Pending {
				if tt.newer.Number == 1000 {
					p.cardSays(b, open, "A newer request is open (#1)")
				}
				p.untouched(a)
				return
			}
			p.gateIs(a, "canceled")
			p.cardSays(a, closed, "Superseded: myapp", "#2")
			p.replied(a, "Superseded", "Told CircleCI to cancel")
			p.approve(stage.Ana, b, "approve")
			p.ok(p.Circle.Succeed(b.workflow, "test"))
		})
	}
}

func TestApprovedRequestIsNotSuperseded(t *testing.T) {
	p := setup(t, stage.Options{})
	a := p.ask()
	p.approve(stage.Ana, a, "approve")
	p.askFor(p.Pipeline(stage.Number + 1))
	p.ok(p.Circle.Succeed(a.workflow, "request_approval"))
	p.becomes(a, approvals.Released)
}

func TestWithdrawClosesGateAndCard(t *testing.T) {
	p := setup(t, stage.Options{})
	a := p.askOnHold()
	r := p.Client(p.ctx, "", "deploy-approval", "cancel", a.id, "--reason", "wrong commit")
	if r.Code != 0 || r.Stdout != "canceled\n" {
		t.Fatalf("got %+v; want exit 0", r)
	}
	p.gateIs(a, "canceled")
	p.cardSays(a, closed, "Withdrawn: myapp", "Withdrawn by ci-myapp", "wrong commit")
	p.replied(a, "wrong commit")
	p.failedWith(p.get(a.id), "withdrawn", "wrong commit")
}

func TestUndeliverableIsRetriedWithAFreshCode(t *testing.T) {
	p := setup(t, stage.Options{})
	a := p.askOnHold()
	p.Circle.Inject(circlecitest.Fault{Op: "approve", Status: 403, Body: `{"message":"Permission denied."}`})
	p.approve(stage.Ana, a, "approve")
	p.failedWith(p.becomes(a, approvals.Undeliverable), "circleci_refused", "403 Forbidden")
	p.cardSays(a, retry, "Could not release: myapp", "403 Forbidden")
	p.replied(a, "Could not release")
	if r := p.Client(p.ctx, "", "deploy-approval", "wait", a.id); r.Code != 11 {
		t.Errorf("wait: got %+v; want exit 11", r)
	}
	view := p.press(stage.Bea, a, "retry")
	if view.CallbackID != "approve_request" {
		t.Fatalf("got modal %s; want approve_request", view.CallbackID)
	}
	if got := p.submit(stage.Bea, view, p.code(stage.Bea)); !got.Closed {
		t.Fatalf("got %+v; want it accepted", got)
	}
	r := p.becomes(a, approvals.Released)
	if len(r.Decisions) != 1 || r.Decisions[0].SlackUser != stage.Bea {
		t.Errorf("got %+v; want the fresh vote of Bea alone", r.Decisions)
	}
	p.releasedOnce(a, 2)
	p.cardSays(a, closed, "Released: myapp", "⟦<@U0BEA>⟧")
}

func TestQuorumLostBeforeTheReleaseIsUndeliverable(t *testing.T) {
	p := setup(t, stage.Options{})
	a := p.ask()
	p.approve(stage.Ana, a, "approve")
	p.becomes(a, approvals.Approved)
	p.operator("user", "remove", "--slack-id", stage.Ana)
	p.ok(p.Circle.Succeed(a.workflow, "request_approval"))
	p.failedWith(p.becomes(a, approvals.Undeliverable), "quorum_lost", "")
	if n := p.Circle.Count("approve"); n != 0 {
		t.Errorf("got %d approve calls; want none", n)
	}
	p.cardSays(a, retry, "Could not release: myapp")
	p.approve(stage.Bea, a, "retry")
	p.becomes(a, approvals.Released)
	p.releasedOnce(a, 1)
}

// looked waits until a look at the job lists that began after now is over. It is what
// tells apart who opened the gate before the decision from who did after it.
func (p *play) looked() {
	p.t.Helper()
	looks := p.Circle.Count("jobs")
	p.ok(p.Circle.Wait(p.ctx, func() bool { return p.Circle.Count("jobs") > looks+2 }))
}

func TestWithoutAutoApproveAHumanOpensTheGate(t *testing.T) {
	p := setup(t, settings("CIRCLECI_AUTO_APPROVE_ON_APPROVAL=false"))
	a := p.askOnHold()
	p.looked() // or the line says that the gate has to be reached first
	p.approve(stage.Ana, a, "approve")
	p.cardSays(a, closed, "Approved: myapp", "now approve approve_deploy_production in CircleCI")
	p.replied(a, "Now approve approve_deploy_production in CircleCI")
	p.looked()
	p.ok(p.Circle.ApproveAs("bea", a.workflow, stage.Gate))
	if r := p.becomes(a, approvals.Released); r.Gate.ApprovedBy != "bea" {
		t.Errorf("got gate %+v; want approved by bea", r.Gate)
	}
	p.replied(a, "approved in CircleCI by bea")
	p.cardSays(a, closed, "Released: myapp", "bea")
	if n := p.Circle.Count("approve"); n != 0 {
		t.Errorf("got %d approve calls; want none", n)
	}
}

func TestWithoutAutoApproveAnEarlyHumanIsABypass(t *testing.T) {
	p := setup(t, settings("CIRCLECI_AUTO_APPROVE_ON_APPROVAL=false"))
	a := p.askOnHold()
	p.ok(p.Circle.ApproveAs("bea", a.workflow, stage.Gate))
	p.becomes(a, approvals.Bypassed)
}

func TestOutcomeOfTheDeploy(t *testing.T) {
	t.Parallel()
	behind := func(jobs ...circlecitest.Job) []circlecitest.Job {
		return append(circlecitest.DeployJobs(stage.Gate)[:4], jobs...)
	}
	after := circlecitest.Requires(stage.Gate)
	for _, tt := range []struct {
		name   string
		jobs   []circlecitest.Job
		end    map[string]string
		want   approvals.Status
		detail string
	}{
		{"succeeded", nil, map[string]string{"deploy": "success"}, approvals.Deployed, "deploy"},
		{"failed", nil, map[string]string{"deploy": "failed"}, approvals.DeployFailed, "job deploy: failed"},
		{"canceled", nil, map[string]string{"deploy": "canceled"}, approvals.DeployFailed, "canceled"},
		{"timed out", nil, map[string]string{"deploy": "timedout"}, approvals.DeployFailed, "timedout"},
		{"restricted context refuses the machine user", behind(circlecitest.Job{Name: "deploy", Requires: after, Group: "deployers"}), nil, approvals.DeployFailed, "unauthorized"},
		{"one of two failed", behind(circlecitest.Job{Name: "deploy", Requires: after}, circlecitest.Job{Name: "migrate", Requires: after}),
			map[string]string{"deploy": "success", "migrate": "failed"}, approvals.DeployFailed, "migrate"},
		{"through another job", behind(circlecitest.Job{Name: "deploy", Requires: after}, circlecitest.Job{Name: "smoke", Requires: circlecitest.Requires("deploy")}),
			map[string]string{"deploy": "success", "smoke": "success"}, approvals.Deployed, "smoke"},
		{"up to the next gate", behind(circlecitest.Job{Name: "deploy", Requires: after}, circlecitest.Job{Name: "hold", Type: "approval", Requires: circlecitest.Requires("deploy")},
			circlecitest.Job{Name: "more", Requires: circlecitest.Requires("hold")}), map[string]string{"deploy": "success"}, approvals.Deployed, "deploy"},
		{"rollback job did not have to run", behind(circlecitest.Job{Name: "deploy", Requires: after},
			circlecitest.Job{Name: "rollback", Requires: []circlecitest.Require{{Job: "deploy", Statuses: []string{"failed"}}}}),
			map[string]string{"deploy": "success"}, approvals.Deployed, "deploy"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := setup(t, stage.Options{})
			jobs := tt.jobs
			if jobs == nil {
				jobs = circlecitest.DeployJobs(stage.Gate)
			}
			a := p.askFor(p.ready(p.workflow(circlecitest.Pipeline{}, jobs)))
			p.approve(stage.Ana, a, "approve")
			p.gateIs(a, "success")
			for _, j := range jobs {
				if status := tt.end[j.Name]; status != "" {
					p.ok(p.Circle.SetJobStatus(a.workflow, j.Name, status))
				}
			}
			r := p.becomes(a, tt.want)
			if !strings.Contains(string(r.Deploy.Detail), tt.detail) || r.Deploy.FinishedAt == nil || r.ClosedAt == nil {
				t.Errorf("got deploy %+v; want %q, finished", r.Deploy, tt.detail)
			}
			if tt.want == approvals.DeployFailed {
				p.cardSays(a, closed, "Deploy failed: myapp", tt.detail)
				p.replied(a, "Deploy failed")
			}
			p.releasedOnce(a, 1)
		})
	}
}

func TestGateWithoutJobsBehindStaysReleased(t *testing.T) {
	p := setup(t, stage.Options{})
	a := p.askFor(p.ready(p.workflow(circlecitest.Pipeline{}, circlecitest.DeployJobs(stage.Gate)[:4])))
	p.approve(stage.Ana, a, "approve")
	p.becomes(a, approvals.Released)
	p.replied(a, "Released")
	if r := p.Client(p.ctx, "", "deploy-approval", "wait", a.id, "--until", "released"); r.Code != 0 || r.Stdout != "released\n" {
		t.Errorf("got %+v; want released", r)
	}
}
