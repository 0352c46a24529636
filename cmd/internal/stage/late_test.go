package stage_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/totp"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// TestTooLateIsToldInTheModal ends a request while somebody has its modal open.
func TestTooLateIsToldInTheModal(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		end  func(*play, asked)
		to   approvals.Status
		want string
	}{
		{"approved", func(p *play, a asked) { p.approve(stage.Bea, a, "approve") }, approvals.Released, "⟦<@U0BEA>⟧ already approved this"},
		{"rejected", func(p *play, a asked) { p.reject(stage.Bea, a, "not today") }, approvals.Rejected, "⟦<@U0BEA>⟧ rejected this"},
		{"expired", func(*play, asked) {}, approvals.Expired, "expired"},
		{"superseded", func(p *play, a asked) { p.askFor(p.Pipeline(stage.Number + 1)) }, approvals.Superseded, "#2"},
		{"withdrawn", func(p *play, a asked) {
			if r := p.Client(p.ctx, "", "deploy-approval", "cancel", a.id, "--reason", "wrong commit"); r.Code != 0 {
				p.t.Fatalf("cancel: got %+v; want exit 0", r)
			}
		}, approvals.Canceled, "wrong commit"},
		{"bypassed", func(p *play, a asked) { p.ok(p.Circle.ApproveAs("mallory", a.workflow, stage.Gate)) }, approvals.Bypassed, "mallory approved this in CircleCI, not here"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var o stage.Options
			if tt.to == approvals.Expired {
				o = briefly()
			}
			p := setup(t, o)
			a := p.askOnHold()
			view := p.press(stage.Ana, a, "approve")
			carried := p.press(stage.Alice, a, "reject")
			tt.end(p, a)
			p.becomes(a, tt.to)
			posts := p.Circle.Count("approve")
			p.updated(p.submit(stage.Ana, view, p.code(stage.Ana)), tt.want)
			got, err := p.Slack.Submit(p.ctx, stage.Alice, carried.ID, slacktest.Values{"reason": {"text": "too late"}})
			p.ok(err)
			p.updated(got, "")
			if r := p.get(a.id); r.Status != tt.to && r.Status != approvals.Deployed {
				t.Errorf("got %s; want %s", r.Status, tt.to)
			}
			if n := p.Circle.Count("approve"); n != posts {
				t.Errorf("got %d approve calls; want %d", n, posts)
			}
			if n := p.count(a, approvals.EventCodeFailed); n != 0 {
				t.Errorf("got %d failures counted; want none", n)
			}
		})
	}
}

func TestClickOnAnOldCardSaysHowItEnded(t *testing.T) {
	p := setup(t, stage.Options{})
	a := p.askOnHold()
	p.reject(stage.Bea, a, "wait for the migration")
	p.becomes(a, approvals.Rejected)
	old := p.Slack.Revisions(a.card.Channel, a.card.TS)[0]
	said := p.refusedClick(slacktest.ButtonClick{User: stage.Ana, ActionID: "approve", Seen: &old}, a)
	if !strings.Contains(said, "<@U0BEA> rejected this") || !strings.Contains(said, "wait for the migration") {
		t.Errorf("got %q; want who rejected and why", said)
	}
}

func TestTwoApprovalsNeedTwoPeople(t *testing.T) {
	p := setup(t, settings("REQUIRED_APPROVALS=2"))
	p.operator("user", "add", "--slack-id", stage.Ana)
	a := p.askOnHold()
	p.cardSays(a, open, "Needs 2 approvals")
	p.approve(stage.Ana, a, "approve")
	p.cardSays(a, open, "1 of 2 approvals: ⟦<@U0ANA>⟧")
	if said := p.refused(stage.Ana, a, "approve"); !strings.Contains(said, "approved this already") {
		t.Errorf("Ana again: got %q; want that it needs another person", said)
	}
	if r := p.get(a.id); r.Status != approvals.Pending || len(r.Decisions) != 1 || r.RequiredApprovals != 2 {
		t.Errorf("got %s %+v; want pending with one vote", r.Status, r.Decisions)
	}
	if n := p.Circle.Count("approve"); n != 0 {
		t.Errorf("got %d approve calls; want none", n)
	}
	p.approve(stage.Bea, a, "approve")
	r := p.becomes(a, approvals.Released)
	if len(r.Decisions) != 2 {
		t.Errorf("got %+v; want two votes", r.Decisions)
	}
	p.replied(a, "⟦<@U0ANA>⟧ approved with a code (1 of 2)", "⟦<@U0BEA>⟧ approved with a code (2 of 2). ")
	p.releasedOnce(a, 1)
}

func TestTwoModalsOfOnePersonAreOneVote(t *testing.T) {
	p := setup(t, settings("REQUIRED_APPROVALS=2"))
	a := p.askOnHold()
	first := p.press(stage.Ana, a, "approve")
	_, err := p.Slack.Click(p.ctx, stage.Ana, a.card.Channel, a.card.TS, "approve")
	p.ok(err)
	p.ok(p.Slack.Wait(p.ctx, func() bool { return p.Slack.View(stage.Ana).ID != first.ID }))
	second := p.Slack.View(stage.Ana)
	if got := p.submit(stage.Ana, second, p.code(stage.Ana)); !got.Closed {
		t.Fatalf("got %+v; want the vote accepted", got)
	}
	said := p.refused(stage.Ana, a, "approve")
	if !strings.Contains(said, "approved this already") {
		t.Errorf("got %q; want approved already", said)
	}
	if r := p.get(a.id); r.Status != approvals.Pending || len(r.Decisions) != 1 {
		t.Errorf("got %s %+v; want pending with one vote", r.Status, r.Decisions)
	}
}

func TestVoteOfARemovedAdminDoesNotCount(t *testing.T) {
	p := setup(t, settings("REQUIRED_APPROVALS=2"))
	p.hire(dan, "dan")
	p.ok(p.Confirmed(p.ctx))
	a := p.askOnHold()
	p.approve(stage.Ana, a, "approve")
	p.operator("user", "remove", "--slack-id", stage.Ana)
	p.approve(stage.Bea, a, "approve")
	if r := p.get(a.id); r.Status != approvals.Pending {
		t.Fatalf("got %s; want pending", r.Status)
	}
	p.approve(dan, a, "approve")
	p.becomes(a, approvals.Released)
	p.releasedOnce(a, 1)
}

// TestSameSubmissionTwiceIsOneDecision is Slack delivering again.
func TestSameSubmissionTwiceIsOneDecision(t *testing.T) {
	p := setup(t, stage.Options{})
	a := p.askOnHold()
	view := p.press(stage.Ana, a, "approve")
	d, _, err := p.Slack.PrepareSubmit(stage.Ana, view.ID, slacktest.Values{"totp": {"code": p.code(stage.Ana)}})
	p.ok(err)
	for range 2 {
		_, err := p.Slack.Deliver(p.ctx, d)
		p.ok(err)
	}
	p.becomes(a, approvals.Released)
	p.releasedOnce(a, 1)
	if n := p.count(a, approvals.EventVoted); n != 1 {
		t.Errorf("got %d votes; want 1", n)
	}
	if n := p.count(a, approvals.EventCodeFailed); n != 0 {
		t.Errorf("got %d failures; want none", n)
	}
}

func TestTwentyAdminsDecideAtOnce(t *testing.T) {
	const n = 20
	p := prepare(t, stage.Options{})
	people := make([]string, n)
	for i := range people {
		people[i] = fmt.Sprintf("U0ADMIN%02d", i)
		p.hire(people[i], fmt.Sprintf("login%d", i))
	}
	p.start()
	a := p.askOnHold()
	views := make([]*slacktest.View, n)
	for i, id := range people {
		views[i] = p.press(id, a, "approve")
	}
	type answer struct {
		user string
		got  slacktest.SubmitResult
		err  error
	}
	answers := make(chan answer)
	for i, id := range people {
		go func() {
			got, err := p.Submit(p.ctx, id, views[i], p.Code(id, time.Now()))
			answers <- answer{id, got, err}
		}()
	}
	accepted := ""
	for range people {
		x := <-answers
		p.ok(x.err)
		switch {
		case x.got.Closed && accepted == "":
			accepted = x.user
		case x.got.Closed:
			t.Errorf("%s and %s were both accepted; want one", accepted, x.user)
		default:
			p.updated(x.got, "already approved this")
		}
	}
	r := p.becomes(a, approvals.Released)
	if len(r.Decisions) != 1 || r.Decisions[0].SlackUser != accepted {
		t.Errorf("got decisions %+v; want one of %s", r.Decisions, accepted)
	}
	p.releasedOnce(a, 1)
	if failed := p.count(a, approvals.EventCodeFailed); failed != 0 {
		t.Errorf("got %d failures; want none", failed)
	}
	p.ok(p.database().View(p.ctx, func(tx approvals.Tx) error {
		for _, id := range people {
			var a struct {
				Version  int64         `json:"version"`
				Throttle totp.Throttle `json:"throttle"`
			}
			if err := sealed(tx, authenticator+id, &a); err != nil {
				return err
			}
			if a.Version == 0 || a.Throttle.Failures != 0 {
				t.Errorf("%s: got %+v; want an authenticator without failures", id, a)
			}
		}
		return nil
	}))
	if votes := p.count(a, approvals.EventVoted); votes != 1 {
		t.Errorf("got %d votes; want 1", votes)
	}
}

func TestApproveAgainstRejectAtOnceIsOneDecision(t *testing.T) {
	p := setup(t, stage.Options{})
	a := p.askOnHold()
	yes, no := p.press(stage.Ana, a, "approve"), p.press(stage.Bea, a, "reject")
	results := make(chan slacktest.SubmitResult, 2)
	code := p.code(stage.Ana)
	go func() {
		got, _ := p.Submit(p.ctx, stage.Ana, yes, code)
		results <- got
	}()
	go func() {
		got, _ := p.Slack.Submit(p.ctx, stage.Bea, no.ID, slacktest.Values{"reason": {"text": "no"}})
		results <- got
	}()
	first, second := <-results, <-results
	if first.Closed == second.Closed {
		t.Fatalf("got %+v and %+v; want exactly one accepted", first, second)
	}
	p.ok(p.Circle.Wait(p.ctx, func() bool { s := p.Circle.JobStatus(a.workflow, stage.Gate); return s == "success" || s == "canceled" }))
	if n := p.count(a, approvals.EventApproved) + p.count(a, approvals.EventRejected); n != 1 {
		t.Errorf("got %d decisions; want 1", n)
	}
}

func TestTwoEnvironmentsOfOneWorkflow(t *testing.T) {
	const staging, production = "approve_staging", "approve_production"
	var o stage.Options
	for env, gate := range map[string]string{"STAGING": staging, "PRODUCTION": production} {
		o.Env = append(o.Env, "RGW_APP_MYAPP_ENV_"+env+"_SETTING_CIRCLECI_APPROVAL_JOB_NAME="+gate)
	}
	p := setup(t, o)
	ask := [2]string{circlecitest.NewID(), circlecitest.NewID()}
	workflow := p.workflow(circlecitest.Pipeline{}, []circlecitest.Job{
		{Name: "ask_staging", ID: ask[0]},
		{Name: staging, Type: "approval", Requires: circlecitest.Requires("ask_staging")},
		{Name: "deploy_staging", Requires: circlecitest.Requires(staging)},
		{Name: "ask_production", ID: ask[1], Requires: circlecitest.Requires("deploy_staging")},
		{Name: production, Type: "approval", Requires: circlecitest.Requires("ask_production")},
		{Name: "deploy_production", Requires: circlecitest.Requires(production)},
	})
	file := func(env, job string) asked {
		r := p.Client(p.ctx, "", "deploy-approval", "request", "--app", stage.App, "--environment", env, "--git-commit", stage.Revision,
			"--ci-metadata", fmt.Sprintf(`{"workflow_id":%q,"job_id":%q}`, workflow, job))
		if r.Code != 0 {
			t.Fatalf("%s: got %+v; want exit 0", env, r)
		}
		id := strings.TrimSpace(r.Stdout)
		return asked{workflow, id, p.card(id)}
	}
	first := file("staging", ask[0])
	p.cardSays(first, open, "Deploy myapp to staging?")
	p.approve(stage.Ana, first, "approve")
	p.ok(p.Circle.Succeed(workflow, "ask_staging"))
	p.becomes(first, approvals.Released)
	p.ok(p.Circle.Succeed(workflow, "deploy_staging"))
	second := file("production", ask[1])
	p.becomes(first, approvals.Deployed)
	p.cardSays(second, open, "Deploy myapp to production?")
	if got := p.Circle.JobStatus(workflow, production); got != "blocked" {
		t.Fatalf("got production gate %s; want blocked", got)
	}
	p.approve(stage.Bea, second, "approve")
	p.ok(p.Circle.Succeed(workflow, "ask_production"))
	p.becomes(second, approvals.Released)
	p.ok(p.Circle.Fail(workflow, "deploy_production"))
	p.becomes(second, approvals.DeployFailed)
	if r := p.get(first.id); r.Status != approvals.Deployed || r.Gate.JobName != staging {
		t.Errorf("got staging %s, gate %s; want deployed, %s", r.Status, r.Gate.JobName, staging)
	}
}
