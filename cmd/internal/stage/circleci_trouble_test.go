package stage_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// TestReleaseThroughTroubleAtCircleCI approves while CircleCI misbehaves; the gate
// takes exactly one approval, after so many calls.
func TestReleaseThroughTroubleAtCircleCI(t *testing.T) {
	t.Parallel()
	text := http.Header{"Content-Type": {"text/plain"}}
	for _, tt := range []struct {
		name   string
		faults []circlecitest.Fault
		opts   func(*circlecitest.Options)
		posts  int
	}{
		{"answer of the approval is lost", []circlecitest.Fault{{Op: "approve", When: circlecitest.After, Drop: true}}, nil, 1},
		{"approval took effect and said 500", []circlecitest.Fault{{Op: "approve", When: circlecitest.After, Status: 500}}, nil, 1},
		{"approval took effect and said 404", []circlecitest.Fault{{Op: "approve", When: circlecitest.After, Status: 404, Body: `{}`}}, nil, 1},
		{"answer is lost and the list lags", []circlecitest.Fault{{Op: "approve", When: circlecitest.After, Drop: true}},
			func(o *circlecitest.Options) { o.ListLag = 4 * time.Second }, 1},
		{"the list lags", nil, func(o *circlecitest.Options) { o.ListLagReads = 4 }, 1},
		{"500 before the effect", []circlecitest.Fault{{Op: "approve", Status: 500}}, nil, 2},
		{"connection dropped before the effect", []circlecitest.Fault{{Op: "approve", Drop: true}}, nil, 2},
		{"429 with Retry-After", []circlecitest.Fault{{Op: "approve", Status: 429, RetryAfter: "2", Body: "Rate limit exceeded", Header: text}}, nil, 2},
		{"look-ups fail first", []circlecitest.Fault{
			{Op: "jobs", Status: 401, Body: `{}`}, {Op: "jobs", Status: 403, Body: `{}`}, {Op: "jobs", Status: 404, Body: `{}`},
			{Op: "jobs", Status: 429, RetryAfter: "1", Body: "slow down", Header: text}, {Op: "jobs", Status: 502, Body: "<html>"}, {Op: "jobs", Drop: true},
		}, nil, 1},
		{"facts cannot be read first", []circlecitest.Fault{{Op: "workflow", Status: 404, Body: `{}`}, {Op: "pipeline", Status: 500}}, nil, 1},
		{"one empty list of jobs", []circlecitest.Fault{{Op: "jobs", Status: 200, Body: `{"items":[],"next_page_token":null}`}}, nil, 1},
		{"many pages", nil, func(o *circlecitest.Options) { o.PageSize = 1 }, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := setup(t, stage.Options{})
			a := p.askOnHold()
			if tt.opts != nil {
				p.Circle.Configure(tt.opts)
			}
			p.Circle.Inject(tt.faults...)
			p.approve(stage.Ana, a, "approve")
			p.becomes(a, approvals.Released)
			p.replied(a, "Released")
			p.releasedOnce(a, tt.posts)
			if n := p.count(a, approvals.EventAttempt); n != tt.posts {
				t.Errorf("got %d attempts recorded; want %d", n, tt.posts)
			}
			p.cardSays(a, closed, "Released: myapp")
		})
	}
}

func TestRetryAfterIsKept(t *testing.T) {
	p := setup(t, stage.Options{})
	a := p.askOnHold()
	p.Circle.Inject(circlecitest.Fault{Op: "approve", Status: 429, RetryAfter: "3"})
	p.approve(stage.Ana, a, "approve")
	p.becomes(a, approvals.Released)
	var at []time.Time
	for _, c := range p.Circle.Calls() {
		if c.Op == "approve" {
			at = append(at, c.At)
		}
	}
	if len(at) != 2 || at[1].Sub(at[0]) < 3*time.Second {
		t.Errorf("got calls at %v; want two, 3 s apart", at)
	}
}

// TestRejectedTokenNeverClosesARequest takes the machine user's access away for
// some polls.
func TestRejectedTokenNeverClosesARequest(t *testing.T) {
	t.Parallel()
	for name, breakIt := range map[string]func(*play){
		"401": func(p *play) { p.Circle.Inject(circlecitest.Fault{Status: 401, Body: `{}`, Count: -1}) },
		"403": func(p *play) { p.Circle.Inject(circlecitest.Fault{Status: 403, Body: `{}`, Count: -1}) },
		"404": func(p *play) { p.Circle.SetAccess(stage.MachineUser, circlecitest.None) },
	} {
		t.Run(name, func(t *testing.T) {
			p := setup(t, settings("SUPERSEDE=off"))
			pending, approved := p.askOnHold(), p.ask()
			p.approve(stage.Ana, approved, "approve")
			p.becomes(approved, approvals.Approved)
			breakIt(p)
			looks := p.Circle.Count("jobs")
			p.ok(p.Circle.Wait(p.ctx, func() bool { return p.Circle.Count("jobs") > looks+5 }))
			if r := p.get(pending.id); r.Status != approvals.Pending {
				t.Errorf("got %s; want pending", r.Status)
			}
			if r := p.get(approved.id); r.Status != approvals.Approved {
				t.Errorf("got %s; want approved", r.Status)
			}
			p.Circle.ClearFaults()
			p.Circle.SetAccess(stage.MachineUser, circlecitest.Write)
			p.ok(p.Circle.Succeed(approved.workflow, "request_approval"))
			p.becomes(approved, approvals.Released)
			p.approve(stage.Bea, pending, "approve")
			p.becomes(pending, approvals.Released)
		})
	}
}

// TestListWithoutTheGateTwiceClosesTheRequest lets the gate be gone for longer than
// one odd answer lasts.
func TestListWithoutTheGateTwiceClosesTheRequest(t *testing.T) {
	p := setup(t, stage.Options{})
	a := p.askOnHold()
	began := time.Now()
	p.Circle.Inject(circlecitest.Fault{Op: "jobs", Count: -1, Status: 200, Body: `{"items":[],"next_page_token":null}`})
	p.failedWith(p.becomes(a, approvals.Canceled), "facts_changed", "not found in workflow")
	if took := time.Since(began); took < 10*time.Second {
		t.Errorf("got it closed after %s; want a second look 10 s later", took)
	}
	p.cardSays(a, closed, "Withdrawn: myapp")
}

func TestRefusalOfTheApprovalWhoseGateOpenedIsARelease(t *testing.T) {
	p := setup(t, stage.Options{})
	a := p.askOnHold()
	p.Circle.Inject(circlecitest.Fault{Op: "approve", When: circlecitest.After, Status: 403, Body: `{}`})
	p.approve(stage.Ana, a, "approve")
	p.becomes(a, approvals.Released)
	p.releasedOnce(a, 1)
}

func TestApprovalThatCircleCIForgetsIsRepeated(t *testing.T) {
	p := setup(t, stage.Options{})
	a := p.askOnHold()
	p.Circle.Configure(func(o *circlecitest.Options) { o.PendingApprove = true })
	p.approve(stage.Ana, a, "approve")
	p.ok(p.Circle.Wait(p.ctx, func() bool { return p.Circle.Count("approve") == 1 }))
	p.Circle.Configure(func(o *circlecitest.Options) { o.PendingApprove = false })
	p.becomes(a, approvals.Released)
	p.releasedOnce(a, 2)
}

func TestSilenceOfCircleCIIsTold(t *testing.T) {
	p := setup(t, stage.Options{})
	a := p.askOnHold()
	p.Circle.Inject(circlecitest.Fault{Op: "jobs", Status: 503, Count: -1})
	p.approve(stage.Ana, a, "approve")
	p.cardSays(a, closed, "Approved: myapp")
	p.replied(a, "CircleCI has not answered since")
	p.cardSays(a, closed, "the approval is kept and will be delivered")
	p.Circle.ClearFaults()
	p.becomes(a, approvals.Released)
	p.releasedOnce(a, 1)
}

func TestGateThatIsStillBlockedIsApprovedOnceItIsReached(t *testing.T) {
	p := setup(t, stage.Options{})
	p.Circle.Configure(func(o *circlecitest.Options) { o.HideBlockedRequestID = true })
	a := p.ask()
	p.approve(stage.Ana, a, "approve")
	p.cardSays(a, closed, "Approved: myapp", "waiting for CircleCI to reach approve_deploy_production")
	if n := p.Circle.Count("approve"); n != 0 {
		t.Errorf("got %d approve calls while it is blocked; want none", n)
	}
	if r := p.Client(p.ctx, a.workflow, "deploy-approval", "wait", "--app", stage.App); r.Code != 0 || r.Stdout != "approved\n" {
		t.Errorf("wait: got %+v; want approved", r)
	}
	p.ok(p.Circle.Succeed(a.workflow, "request_approval"))
	p.becomes(a, approvals.Released)
	p.releasedOnce(a, 1)
}

// TestRestartBetweenDecisionAndRelease stops the daemon in order while the gate is
// still blocked.
func TestRestartBetweenDecisionAndRelease(t *testing.T) {
	p := setup(t, stage.Options{})
	a := p.ask()
	p.approve(stage.Ana, a, "approve")
	if code := p.Stop(); code != 0 {
		t.Fatalf("stop: got exit %d; want 0", code)
	}
	p.ok(p.Circle.Succeed(a.workflow, "request_approval"))
	p.start()
	p.becomes(a, approvals.Released)
	p.replied(a, "Asked by", "approved with a code", "Released")
	p.releasedOnce(a, 1)
}
