package stage_test

import (
	"strings"
	"testing"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// gateIs waits for a status of the gate.
func (p *play) gateIs(a asked, want string) {
	p.t.Helper()
	if err := p.Circle.Wait(p.ctx, func() bool { return p.Circle.JobStatus(a.workflow, stage.Gate) == want }); err != nil {
		p.t.Fatalf("gate: got %s; want %s", p.Circle.JobStatus(a.workflow, stage.Gate), want)
	}
}

func TestRejectIsShownAndClosesTheGate(t *testing.T) {
	t.Parallel()
	accepts := func(status string) []circlecitest.Job {
		jobs := circlecitest.DeployJobs(stage.Gate)
		jobs[4].Requires = []circlecitest.Require{{Job: stage.Gate, Statuses: []string{"success", status}}}
		return jobs
	}
	for _, tt := range []struct {
		name     string
		o        stage.Options
		jobs     []circlecitest.Job
		reached  bool
		cancel   string // the call
		gate     string
		workflow string
		thread   string
	}{
		{"cancel_job", stage.Options{}, nil, true, "cancel-job", "canceled", "canceled", "to cancel the job approve_deploy_production"},
		{"cancel_workflow", settings("ON_CLOSE=cancel_workflow"), nil, true, "cancel-workflow", "canceled", "canceled", "to cancel the workflow"},
		{"cancel_workflow before the gate is reached", settings("ON_CLOSE=cancel_workflow"), nil, false, "cancel-workflow", "", "canceled", "to cancel the workflow"},
		{"cancel_job when a job accepts canceled", stage.Options{}, accepts("canceled"), true, "cancel-workflow", "canceled", "canceled", "to cancel the workflow"},
		{"cancel_job when a job accepts any end", stage.Options{}, accepts("terminal"), true, "cancel-workflow", "canceled", "canceled", "to cancel the workflow"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := setup(t, tt.o)
			jobs := tt.jobs
			if jobs == nil {
				jobs = circlecitest.DeployJobs(stage.Gate)
			}
			workflow := p.workflow(circlecitest.Pipeline{}, jobs)
			if tt.reached {
				p.ready(workflow)
			}
			a := p.askFor(workflow)
			p.reject(stage.Bea, a, "wait for the <!channel> & *migration*")
			r := p.becomes(a, approvals.Rejected)
			if len(r.Decisions) != 1 || r.Decisions[0].Action != "reject" || r.Decisions[0].SlackUser != stage.Bea || r.Decisions[0].MFA != "" {
				t.Errorf("got %+v; want the reject of Bea, without a code", r.Decisions)
			}
			p.ok(p.Circle.Wait(p.ctx, func() bool { return p.Circle.WorkflowStatus(workflow) == tt.workflow }))
			if tt.gate != "" {
				p.gateIs(a, tt.gate)
			}
			p.replied(a, "⟦<@U0BEA>⟧ rejected: “wait for the <!channel> & *migration*”", tt.thread)
			p.cardSays(a, closed, "Rejected: myapp", "Rejected by ⟦<@U0BEA>⟧", "migration", "was cancelled")
			if n := p.Circle.Count(tt.cancel); n != 1 {
				t.Errorf("got %d calls of %s; want 1", n, tt.cancel)
			}
			if n := p.Circle.Count("approve"); n != 0 || p.Circle.JobStatus(workflow, "deploy") == "running" {
				t.Errorf("got %d approve calls, deploy %s; want none", n, p.Circle.JobStatus(workflow, "deploy"))
			}
		})
	}
}

func TestRejectOfABlockedGateCancelsItOnceItIsReached(t *testing.T) {
	p := setup(t, stage.Options{})
	a := p.ask()
	p.reject(stage.Bea, a, "wait")
	p.becomes(a, approvals.Rejected)
	p.cardSays(a, closed, "Rejected: myapp")
	if n := p.Circle.Count("cancel-job") + p.Circle.Count("cancel-workflow"); n != 0 {
		t.Errorf("got %d cancel calls while the gate is blocked; want none", n)
	}
	p.ok(p.Circle.Succeed(a.workflow, "request_approval"))
	p.gateIs(a, "canceled")
	p.replied(a, "Told CircleCI to cancel")
}

func TestRejectWithOnCloseNothingLeavesTheGate(t *testing.T) {
	p := setup(t, settings("ON_CLOSE=nothing"))
	a := p.askOnHold()
	p.reject(stage.Bea, a, "wait")
	p.becomes(a, approvals.Rejected)
	p.cardSays(a, closed, "Rejected: myapp")
	looks := p.Circle.Count("jobs")
	b := p.askFor(p.Pipeline(stage.Number + 1)) // the daemon goes on
	p.ok(p.Circle.Wait(p.ctx, func() bool { return p.Circle.Count("jobs") > looks+2 }))
	p.cardSays(b, open)
	if got := p.Circle.JobStatus(a.workflow, stage.Gate); got != "on_hold" || p.Circle.Count("cancel-job")+p.Circle.Count("cancel-workflow") != 0 {
		t.Errorf("got gate %s; want on_hold and no cancel call", got)
	}
}

func TestRefusedCancelIsTold(t *testing.T) {
	p := setup(t, stage.Options{})
	a := p.askOnHold()
	p.Circle.Inject(circlecitest.Fault{Op: "cancel-job", Count: -1, Status: 403, Body: `{"message":"Permission denied."}`})
	p.reject(stage.Bea, a, "wait")
	p.replied(a, "did not let me cancel")
}

func TestCancelIsRepeatedUntilCircleCIAnswers(t *testing.T) {
	p := setup(t, stage.Options{})
	a := p.askOnHold()
	p.Circle.Inject(circlecitest.Fault{Op: "cancel-job", Count: 2, Status: 500})
	p.reject(stage.Bea, a, "wait")
	p.gateIs(a, "canceled")
	p.replied(a, "Told CircleCI to cancel")
}

func TestWhoMayReject(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		before func(*play)
		user   string
	}{
		{"the starter", nil, stage.Alice},
		{"no login on record", func(p *play) { p.hire(dan, "") }, dan},
		{"no authenticator", func(p *play) {
			p.join(slacktest.User{ID: dan})
			p.operator("user", "add", "--slack-id", dan)
		}, dan},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := prepare(t, stage.Options{})
			if tt.before != nil {
				tt.before(p)
			}
			p.start()
			a := p.askOnHold()
			p.reject(tt.user, a, "no")
			p.becomes(a, approvals.Rejected)
		})
	}
}

func TestWhoMayNotReject(t *testing.T) {
	p := setup(t, settings("APPROVERS="+stage.Bea))
	a := p.askOnHold()
	if said := p.refused(stage.Carl, a, "reject"); !strings.Contains(said, "not an admin") {
		t.Errorf("Carl: got %q; want not an admin", said)
	}
	if said := p.refused(stage.Ana, a, "reject"); !strings.Contains(said, "can reject deploys of myapp") {
		t.Errorf("Ana: got %q; want who can", said)
	}
	p.replied(a, "⟦<@U0CARL>⟧ pressed Reject and was refused")
	p.untouched(a)
}

func TestRejectAsksForACodeWhenSetSo(t *testing.T) {
	p := setup(t, settings("MFA_ON_REJECT=true"))
	a := p.askOnHold()
	view := p.press(stage.Bea, a, "reject")
	send := func(code string) slacktest.SubmitResult {
		got, err := p.Slack.Submit(p.ctx, stage.Bea, view.ID, slacktest.Values{"reason": {"text": "no"}, "totp": {"code": code}})
		p.ok(err)
		return got
	}
	if got := send(p.Code(stage.Ana, p.codes[stage.Ana])); got.Closed || got.Errors["totp"] == "" {
		t.Fatalf("wrong code: got %+v; want an inline error", got)
	}
	p.untouched(a)
	if got := send(p.code(stage.Bea)); !got.Closed {
		t.Fatalf("right code: got %+v; want it accepted", got)
	}
	r := p.becomes(a, approvals.Rejected)
	if r.Decisions[0].MFA != "totp" {
		t.Errorf("got %+v; want totp", r.Decisions[0])
	}
	p.replied(a, "rejected with a code")
}

func TestRejectNeedsAReason(t *testing.T) {
	p := setup(t, stage.Options{})
	a := p.askOnHold()
	view := p.press(stage.Bea, a, "reject")
	for name, reason := range map[string]string{"empty": "", "blank": "   \n", "too long": strings.Repeat("x", 501)} {
		got, err := p.Slack.Submit(p.ctx, stage.Bea, view.ID, slacktest.Values{"reason": {"text": reason}})
		p.ok(err)
		if got.Closed || got.Errors["reason"] == "" {
			t.Errorf("%s: got %+v; want an error at the reason", name, got)
		}
	}
	p.untouched(a)
}
