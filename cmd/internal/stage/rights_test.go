package stage_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

const (
	dan    = "U0DAN"
	admins = "S0ADMINS" // a user group
)

// hire puts somebody into the channel and makes him an admin who has a code.
func (p *play) hire(id, login string) {
	p.t.Helper()
	p.join(slacktest.User{ID: id, RealName: strings.TrimPrefix(id, "U0")})
	p.ok(p.Admin(p.ctx, id, strings.TrimPrefix(id, "U0"), login))
}

func (p *play) join(u slacktest.User) {
	p.t.Helper()
	p.Slack.SetUser(u)
	p.ok(p.Slack.EditChannel(stage.Channel, func(c *slacktest.Channel) { c.Members = append(c.Members, u.ID) }))
}

// asOf makes what Slack said of people and groups as old as that.
func (p *play) asOf(age time.Duration) {
	p.t.Helper()
	p.ok(p.database().Update(p.ctx, func(tx approvals.Tx) error {
		people, err := tx.AllKept("person")
		if err != nil {
			return err
		}
		for _, state := range people {
			var person approvals.Person
			if err := json.Unmarshal(state, &person); err != nil {
				return err
			}
			if err := sealed(tx, standing+person.SlackID, &person.Standing); err != nil {
				return err
			}
			person.Standing.CheckedAt = time.Now().Add(-age)
			if err := seal(tx, standing+person.SlackID, person.Standing); err != nil {
				return err
			}
		}
		return nil
	}))
}

// groupAsOf makes what Slack said of the approvers' group as old as that.
func (p *play) groupAsOf(age time.Duration) {
	p.t.Helper()
	p.ok(p.database().Update(p.ctx, func(tx approvals.Tx) error {
		var g approvals.Group
		if err := sealed(tx, group+admins, &g); err != nil {
			return err
		}
		g.CheckedAt = time.Now().Add(-age)
		return seal(tx, group+admins, g)
	}))
}

// seen waits until the daemon knows what Slack says of somebody.
func (p *play) seen(user, problem string) {
	p.t.Helper()
	for {
		var found approvals.Standing
		p.ok(p.database().View(p.ctx, func(tx approvals.Tx) error { return sealed(tx, standing+user, &found) }))
		if strings.Contains(found.Problem, problem) && found.Problem != "" {
			return
		}
		select {
		case <-p.ctx.Done():
			p.t.Fatalf("%s: got %q; want %q", user, found.Problem, problem)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// TestWhoMayNotApproveIsToldWhyAndNothingChanges presses Approve as each of those
// who must not.
func TestWhoMayNotApproveIsToldWhyAndNothingChanges(t *testing.T) {
	t.Parallel()
	onlyBea := settings("APPROVERS=" + stage.Bea)
	group := settings("APPROVERS=" + admins)
	for _, tt := range []struct {
		name   string
		o      stage.Options
		before func(*play) // without a daemon
		after  func(*play) // with the card
		user   string
		says   []string
		thread string // "" = the thread does not mention it
	}{
		{"not an admin", stage.Options{}, nil, nil, stage.Carl, []string{"Only admins", "rack-gatewayd user add --slack-id U0CARL"}, "not an admin"},
		{"not an admin, approvers are named", onlyBea, nil, nil, stage.Carl, []string{"Only <@U0BEA>", "not an admin"}, "not an admin"},
		{"removed admin", stage.Options{}, nil, func(p *play) { p.operator("user", "remove", "--slack-id", stage.Ana) }, stage.Ana, []string{"Only admins"}, "not an admin"},
		{"don’t have an authenticator", stage.Options{}, nil, func(p *play) {
			p.join(slacktest.User{ID: dan})
			p.operator("user", "add", "--slack-id", dan, "--vcs-login", "dan")
			p.ok(p.Confirmed(p.ctx))
		}, dan, []string{"don’t have an authenticator", "rack-gatewayd user enroll --slack-id U0DAN"}, ""},
		{"authenticator was reset", stage.Options{}, nil, func(p *play) { p.operator("user", "reset", "--slack-id", stage.Ana) }, stage.Ana, []string{"don’t have an authenticator"}, ""},
		{"never confirmed by Slack", stage.Options{}, nil, func(p *play) {
			p.Slack.AddFault(slacktest.Fault{Method: "users.info", Status: 500})
			p.hire(dan, "dan")
		}, dan, []string{"been able to check your Slack account", "Ask the operator"}, ""},
		{"confirmed too long ago", stage.Options{}, nil, func(p *play) { p.asOf(31 * time.Minute) }, stage.Ana, []string{"been able to check your Slack account since", "Ask the operator"}, ""},
		{"guest", stage.Options{}, func(p *play) {
			p.ok(p.Slack.EditUser(stage.Ana, func(u *slacktest.User) { u.IsRestricted = true }))
		}, func(p *play) { p.seen(stage.Ana, "guest") }, stage.Ana, []string{"Slack says about your account", "full, active members"}, "not a full, active member"},
		{"became a guest later", stage.Options{}, nil, func(p *play) {
			p.ok(p.Slack.EditUser(stage.Ana, func(u *slacktest.User) { u.IsUltraRestricted = true }))
			p.operator("user", "add", "--slack-id", stage.Ana) // asks Slack anew
			p.seen(stage.Ana, "guest")
		}, stage.Ana, []string{"Slack says about your account"}, "not a full, active member"},
		{"the starter", stage.Options{}, nil, nil, stage.Alice, []string{"You started this pipeline", "Any other admin can", "You can still reject"}, "started this pipeline"},
		{"the starter, approvers are named", settings("APPROVERS=" + stage.Bea + "," + stage.Alice), nil, nil, stage.Alice, []string{"You started this pipeline", "<@U0BEA>"}, "started this pipeline"},
		{"no login on record", stage.Options{}, func(p *play) { p.hire(dan, "") }, nil, dan, []string{"I don’t know your GitHub or Bitbucket username", "--vcs-login", "You can still reject"}, "username at the code host"},
		{"not an approver of this app", onlyBea, nil, nil, stage.Ana, []string{"Only <@U0BEA> can approve deploys of myapp"}, "not an approver"},
		{"not in the group", group, func(p *play) {
			p.Slack.SetUserGroup(slacktest.UserGroup{ID: admins, Handle: "deploy-admins", Users: []string{stage.Bea}})
		}, func(p *play) { p.grouped() }, stage.Ana, []string{"Only", admins}, "not an approver"},
		{"group never read", group, func(p *play) {
			p.Slack.AddFault(slacktest.Fault{Method: "usergroups.list", Status: 500})
		}, nil, stage.Ana, []string{"been able to reload", admins, "Ask the operator"}, ""},
		{"group read too long ago", group, func(p *play) {
			p.Slack.SetUserGroup(slacktest.UserGroup{ID: admins, Handle: "deploy-admins", Users: []string{stage.Ana}})
		}, func(p *play) {
			p.grouped()
			p.groupAsOf(31 * time.Minute)
		}, stage.Ana, []string{"been able to reload", "since"}, ""},
		{"group is disabled", group, func(p *play) {
			p.Slack.SetUserGroup(slacktest.UserGroup{ID: admins, Handle: "deploy-admins", Users: []string{stage.Ana}, Disabled: true})
		}, func(p *play) { p.grouped() }, stage.Ana, []string{"Only", admins}, "not an approver"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := prepare(t, tt.o)
			if tt.before != nil {
				tt.before(p)
			}
			p.start()
			a := p.askOnHold()
			if tt.after != nil {
				tt.after(p)
			}
			said := p.refused(tt.user, a, "approve")
			for _, want := range tt.says {
				if !strings.Contains(said, want) {
					t.Errorf("got %q; want %q in it", said, want)
				}
			}
			if tt.thread != "" {
				p.replied(a, tt.thread)
			}
			p.refused(tt.user, a, "approve")
			p.untouched(a)
			p.cardSays(a, open)
			want := map[bool]int{true: 1, false: 0}[tt.thread != ""]
			if got := strings.Count(p.thread(a), "was refused"); got != want {
				t.Errorf("got %d refusals in the thread after two clicks; want %d:\n%s", got, want, p.thread(a))
			}
			p.happened(a, approvals.EventClickRefused, 1) // the second one is only counted
		})
	}
}

// grouped waits until the daemon read the group.
func (p *play) grouped() {
	p.t.Helper()
	for {
		if !p.approvers().CheckedAt.IsZero() {
			return
		}
		select {
		case <-p.ctx.Done():
			p.t.Fatal("the group was never read")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func TestAnotherWorkspaceIsRefused(t *testing.T) {
	p := setup(t, stage.Options{})
	a := p.askOnHold()
	for name, click := range map[string]slacktest.ButtonClick{
		"the payload's team": {User: stage.Ana, ActionID: "approve", Team: "T0OTHER"},
		"the user's team":    {User: stage.Ana, ActionID: "approve", UserTeam: "T0OTHER", Team: p.Slack.Config().TeamID},
		"reject as well":     {User: stage.Ana, ActionID: "reject", Team: "T0OTHER"},
	} {
		if said := p.refusedClick(click, a); !strings.Contains(said, "another Slack workspace") {
			t.Errorf("%s: got %q; want another Slack workspace", name, said)
		}
	}
	p.replied(a, "not a member of this workspace")
	p.untouched(a)
}

func TestAlteredButtonDecidesNothing(t *testing.T) {
	p := setup(t, settings("SUPERSEDE=off"))
	a, b := p.askOnHold(), p.ask()
	for name, value := range map[string]string{"another request": b.id, "no request": "NOSUCHREQUEST", "no id": "<!channel> '; --", "empty": ""} {
		said := p.refusedClick(slacktest.ButtonClick{User: stage.Ana, ActionID: "approve", Value: &value}, a)
		if !strings.Contains(said, "not the card of this request") && !strings.Contains(said, "don’t know this request") {
			t.Errorf("%s: got %q; want a refusal of the button", name, said)
		}
	}
	p.untouched(a)
	p.untouched(b)
}

// TestRightIsJudgedAgainAtTheCode opens a modal with the right and loses it.
func TestRightIsJudgedAgainAtTheCode(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		lose func(*play)
		want string
	}{
		{"removed", func(p *play) { p.operator("user", "remove", "--slack-id", stage.Ana) }, "Only admins"},
		{"reset", func(p *play) { p.operator("user", "reset", "--slack-id", stage.Ana) }, "don’t have an authenticator"},
		{"made a guest", func(p *play) {
			p.ok(p.Slack.EditUser(stage.Ana, func(u *slacktest.User) { u.IsRestricted = true }))
			p.operator("user", "add", "--slack-id", stage.Ana)
			p.seen(stage.Ana, "guest")
		}, "full, active members"},
		{"not confirmed any more", func(p *play) { p.asOf(time.Hour) }, "been able to check your Slack account"},
		{"found to be the starter", func(p *play) {
			p.operator("user", "add", "--slack-id", stage.Ana, "--vcs-login", strings.ToUpper(stage.Starter))
		}, "You started this pipeline"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := setup(t, stage.Options{})
			a := p.askOnHold()
			view := p.press(stage.Ana, a, "approve")
			tt.lose(p)
			p.updated(p.submit(stage.Ana, view, p.code(stage.Ana)), tt.want)
			p.untouched(a)
			if n := p.count(a, approvals.EventCodeFailed); n != 0 {
				t.Errorf("got %d failures counted; want none", n)
			}
		})
	}
}

// TestWhoMayApprove are those who are allowed by a setting or the facts.
func TestWhoMayApprove(t *testing.T) {
	t.Parallel()
	inGroup := func(p *play) {
		p.Slack.SetUserGroup(slacktest.UserGroup{ID: admins, Handle: "deploy-admins", Users: []string{stage.Ana}})
	}
	for _, tt := range []struct {
		name   string
		o      stage.Options
		before func(*play)
		user   string
	}{
		{"the starter with allow_self_approval", settings("ALLOW_SELF_APPROVAL=true"), nil, stage.Alice},
		{"no login with allow_self_approval", settings("ALLOW_SELF_APPROVAL=true"), func(p *play) { p.hire(dan, "") }, dan},
		{"named approver", settings("APPROVERS=" + stage.Bea + "," + stage.Ana), nil, stage.Ana},
		{"member of the approvers' group", settings("APPROVERS=" + admins), inGroup, stage.Ana},
		{"named beside a group that cannot be read", settings("APPROVERS=" + admins + "," + stage.Ana), nil, stage.Ana},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := prepare(t, tt.o)
			if tt.before != nil {
				tt.before(p)
			}
			p.start()
			if slices.Contains(tt.o.Env, "RGW_APP_MYAPP_SETTING_APPROVERS="+admins) {
				p.grouped()
			}
			a := p.askOnHold()
			p.approve(tt.user, a, "approve")
			r := p.becomes(a, approvals.Released)
			if len(r.Decisions) != 1 || r.Decisions[0].SlackUser != tt.user || r.Decisions[0].MFA != "totp" {
				t.Errorf("got decisions %+v; want one of %s with a code", r.Decisions, tt.user)
			}
			p.releasedOnce(a, 1)
		})
	}
}

func TestSelfApprovalIsMarkedInTheLog(t *testing.T) {
	p := setup(t, settings("ALLOW_SELF_APPROVAL=true"))
	a := p.askOnHold()
	p.approve(stage.Alice, a, "approve")
	p.becomes(a, approvals.Released)
	for _, e := range p.log() {
		if e.Type == approvals.EventApproved && e.Data["self_approval"] != "true" {
			t.Errorf("got %v; want self_approval true", e.Data)
		}
	}
}

// TestAdminsKeepTheirRightOverARestart lets Slack be slow to say which workspace
// it is.
func TestAdminsKeepTheirRightOverARestart(t *testing.T) {
	p := setup(t, stage.Options{})
	a := p.askOnHold()
	p.Stop()
	p.Slack.AddFault(slacktest.Fault{Method: "auth.test", Times: 1, Delay: time.Second})
	p.ok(p.Start(p.ctx))
	p.approve(stage.Ana, a, "approve")
	p.becomes(a, approvals.Released)
}
