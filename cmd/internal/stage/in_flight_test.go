package stage_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/totp"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// What changes while a request is open: settings over a restart, apps, people,
// groups, authenticators, tokens.

// restart starts the daemon anew with other settings of the app.
func (p *play) restart(kv ...string) {
	p.t.Helper()
	p.Stop()
	p.SetEnv(settings(kv...).Env...)
	p.start()
}

// rename takes the app out of the settings and puts it back under another name,
// or with the names swapped the other way.
func (p *play) rename(from, to string) {
	p.t.Helper()
	p.Stop()
	env := p.Environ()
	for i, kv := range env {
		if rest, found := strings.CutPrefix(kv, "RGW_APP_"+from+"_"); found {
			env[i] = "RGW_APP_" + to + "_" + rest
		}
	}
	p.start()
}

// released checks that a request was released by our one call.
func (p *play) released(a asked) {
	p.t.Helper()
	p.becomes(a, approvals.Released)
	p.releasedOnce(a, 1)
}

// TestSettingsOfTheCreationStay changes what is stored with a request while it waits.
func TestSettingsOfTheCreationStay(t *testing.T) {
	t.Parallel()
	const other = "C0OTHER"
	for _, tt := range []struct {
		name   string
		made   []string // settings at the creation
		change []string // settings while it waits
		then   func(*play, asked)
	}{
		{"gate name", nil, []string{"CIRCLECI_APPROVAL_JOB_NAME=another_gate"}, func(p *play, a asked) {
			p.approve(stage.Ana, a, "approve")
			p.released(a)
			if r := p.get(a.id); r.Gate.JobName != stage.Gate {
				p.t.Errorf("got gate %s; want %s", r.Gate.JobName, stage.Gate)
			}
		}},
		{"project", nil, []string{"VCS_REPO=MyOrg/another"}, func(p *play, a asked) {
			p.approve(stage.Ana, a, "approve")
			p.released(a)
			p.cardSays(a, closed, "Released: myapp", "https://github.com/MyOrg/myapp/commit/"+stage.Revision)
		}},
		{"channel", nil, []string{"SLACK_CHANNEL=" + other}, func(p *play, a asked) {
			p.approve(stage.Ana, a, "approve")
			p.released(a)
			p.inOrder(a, "Asked by", "CircleCI may run", "Released")
			p.cardSays(a, closed, "Released: myapp")
			if m := p.Slack.AllMessages(other); len(m) != 0 {
				p.t.Errorf("got %d messages in the new channel; want none of the old request", len(m))
			}
			id, err := p.Request(p.ctx, p.Pipeline(stage.Number+1))
			p.ok(err)
			_, err = p.Slack.WaitMessage(p.ctx, other, func(m slacktest.Message) bool {
				return m.Metadata != nil && m.Metadata.EventPayload["request_id"] == id
			})
			p.ok(err)
		}},
		{"pending_ttl", []string{"PENDING_TTL=6h"}, []string{"PENDING_TTL=1m"}, func(p *play, a asked) {
			if r := p.get(a.id); r.ExpiresAt.Sub(*r.CreatedAt) != 6*time.Hour {
				p.t.Errorf("got %s until the expiry; want 6h", r.ExpiresAt.Sub(*r.CreatedAt))
			}
			p.approve(stage.Ana, a, "approve")
			p.released(a)
		}},
		{"auto-approve was on", nil, []string{"CIRCLECI_AUTO_APPROVE_ON_APPROVAL=false"}, func(p *play, a asked) {
			p.approve(stage.Ana, a, "approve")
			p.released(a)
		}},
		{"auto-approve was off", []string{"CIRCLECI_AUTO_APPROVE_ON_APPROVAL=false"}, []string{"CIRCLECI_AUTO_APPROVE_ON_APPROVAL=true"}, func(p *play, a asked) {
			p.approve(stage.Ana, a, "approve")
			p.cardSays(a, closed, "now approve approve_deploy_production in CircleCI")
			p.looked()
			p.ok(p.Circle.ApproveAs("bea", a.workflow, stage.Gate))
			p.becomes(a, approvals.Released)
			if n := p.Circle.Count("approve"); n != 0 {
				p.t.Errorf("got %d approve calls of ours; want none", n)
			}
		}},
		{"required_approvals was more", []string{"REQUIRED_APPROVALS=2"}, []string{"REQUIRED_APPROVALS=1"}, func(p *play, a asked) {
			p.approve(stage.Ana, a, "approve")
			p.cardSays(a, open, "1 of 2 approvals: ⟦<@U0ANA>⟧")
			p.approve(stage.Bea, a, "approve")
			p.released(a)
		}},
		{"on_close", nil, []string{"ON_CLOSE=nothing"}, func(p *play, a asked) {
			p.reject(stage.Bea, a, "no")
			p.gateIs(a, "canceled")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := prepare(t, settings(tt.made...))
			p.Slack.SetChannel(slacktest.Channel{ID: other, Name: "other", Members: []string{p.Slack.Config().BotUserID, stage.Ana}})
			p.start()
			a := p.askOnHold()
			p.replied(a, "Asked by")
			p.restart(tt.change...)
			tt.then(p, a)
		})
	}
}

// TestSettingsThatAreReadLive changes who may approve, and how many must, while a
// request waits for votes.
func TestSettingsThatAreReadLive(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		made   []string
		before func(*play, asked)
		change []string
		then   func(*play, asked)
	}{
		{"approvers", nil, nil, []string{"APPROVERS=" + stage.Bea}, func(p *play, a asked) {
			if said := p.refused(stage.Ana, a, "approve"); !strings.Contains(said, "Only <@U0BEA> can approve") {
				p.t.Errorf("got %q; want that only Bea can", said)
			}
			p.untouched(a)
			p.approve(stage.Bea, a, "approve")
		}},
		{"approvers, after a first vote", []string{"REQUIRED_APPROVALS=2"}, func(p *play, a asked) { p.approve(stage.Ana, a, "approve") },
			[]string{"APPROVERS=" + stage.Bea + "," + dan}, func(p *play, a asked) {
				p.approve(stage.Bea, a, "approve")
				p.cardSays(a, open, "1 of 2 approvals still count")
				p.approve(dan, a, "approve")
			}},
		{"allow_self_approval, switched on", nil, nil, []string{"ALLOW_SELF_APPROVAL=true"}, func(p *play, a asked) {
			p.approve(stage.Alice, a, "approve")
		}},
		{"allow_self_approval, switched off", []string{"ALLOW_SELF_APPROVAL=true"}, nil, []string{"ALLOW_SELF_APPROVAL=false"}, func(p *play, a asked) {
			if said := p.refused(stage.Alice, a, "approve"); !strings.Contains(said, "You started this pipeline") {
				p.t.Errorf("got %q; want that the starter cannot", said)
			}
			p.untouched(a)
			p.approve(stage.Bea, a, "approve")
		}},
		{"allow_self_approval, switched off after the starter's vote", []string{"ALLOW_SELF_APPROVAL=true", "REQUIRED_APPROVALS=2"},
			func(p *play, a asked) { p.approve(stage.Alice, a, "approve") }, []string{"ALLOW_SELF_APPROVAL=false"}, func(p *play, a asked) {
				p.approve(stage.Bea, a, "approve")
				p.cardSays(a, open, "1 of 2 approvals still count")
				p.approve(stage.Ana, a, "approve")
			}},
		{"required_approvals is more", nil, nil, []string{"REQUIRED_APPROVALS=2"}, func(p *play, a asked) {
			p.approve(stage.Ana, a, "approve")
			p.cardSays(a, open, "1 of 2 approvals: ⟦<@U0ANA>⟧")
			if r := p.get(a.id); r.Status != approvals.Pending {
				p.t.Errorf("got %s; want pending", r.Status)
			}
			p.approve(stage.Bea, a, "approve")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := prepare(t, settings(tt.made...))
			p.hire(dan, "dan")
			p.start()
			a := p.askOnHold()
			p.replied(a, "Asked by")
			if tt.before != nil {
				tt.before(p, a)
			}
			p.restart(tt.change...)
			tt.then(p, a)
			p.released(a)
		})
	}
}

// TestCardShowsTheSettingsInForce changes what is read live while nobody decides.
func TestCardShowsTheSettingsInForce(t *testing.T) {
	p := setup(t, stage.Options{})
	a := p.askOnHold()
	p.cardSays(a, open, "Needs 1 approval with a code from an admin")
	p.restart("REQUIRED_APPROVALS=2")
	p.cardSays(a, open, "Needs 2 approvals with a code from different admins")
	p.restart("REQUIRED_APPROVALS=2", "APPROVERS="+stage.Bea+","+stage.Ana)
	p.cardSays(a, open, "Needs 2 approvals with a code from", stage.Bea)
}

// TestVoteThatStoppedCountingIsNotReleased takes the right from the only voter
// between the decision and the release, in each way there is.
func TestVoteThatStoppedCountingIsNotReleased(t *testing.T) {
	t.Parallel()
	inGroup := func(p *play) {
		p.Slack.SetUserGroup(slacktest.UserGroup{ID: admins, Handle: "deploy-admins", Users: []string{stage.Ana, stage.Bea}})
	}
	refresh := func(p *play) { p.operator("user", "add", "--slack-id", stage.Bea) } // asks Slack anew
	for _, tt := range []struct {
		name   string
		made   []string
		before func(*play)
		voter  string
		lose   func(*play)
		detail string
		again  []string // who retries
	}{
		{"left the approvers' group", []string{"APPROVERS=" + admins}, inGroup, stage.Ana, func(p *play) {
			p.ok(p.Slack.EditUserGroup(admins, func(g *slacktest.UserGroup) { g.Users = []string{stage.Bea} }))
			refresh(p)
			p.members(stage.Bea)
		}, "only 0 of 1", []string{stage.Bea}},
		{"the approvers' group was disabled", []string{"APPROVERS=" + admins + "," + stage.Bea}, inGroup, stage.Ana, func(p *play) {
			p.ok(p.Slack.EditUserGroup(admins, func(g *slacktest.UserGroup) { g.Disabled = true }))
			refresh(p)
			p.members()
		}, "only 0 of 1", []string{stage.Bea}},
		{"deactivated in Slack", nil, nil, stage.Ana, func(p *play) {
			p.ok(p.Slack.EditUser(stage.Ana, func(u *slacktest.User) { u.Deleted = true }))
			refresh(p)
			p.seen(stage.Ana, "deactivated")
		}, "only 0 of 1", []string{stage.Bea}},
		{"made a guest", nil, nil, stage.Ana, func(p *play) {
			p.ok(p.Slack.EditUser(stage.Ana, func(u *slacktest.User) { u.IsRestricted = true }))
			refresh(p)
			p.seen(stage.Ana, "guest")
		}, "only 0 of 1", []string{stage.Bea}},
		{"found to be the starter", nil, nil, stage.Ana, func(p *play) {
			p.operator("user", "add", "--slack-id", stage.Ana, "--vcs-login", strings.ToUpper(stage.Starter))
		}, "only 0 of 1", []string{stage.Bea}},
		{"authenticator taken away", nil, nil, stage.Ana, func(p *play) { p.operator("user", "reset", "--slack-id", stage.Ana) }, "only 0 of 1", []string{stage.Bea}},
		{"removed as an approver", nil, nil, stage.Ana, func(p *play) { p.restart("APPROVERS=" + stage.Bea) }, "only 0 of 1", []string{stage.Bea}},
		{"allow_self_approval was switched off", []string{"ALLOW_SELF_APPROVAL=true"}, nil, stage.Alice, func(p *play) {
			p.restart("ALLOW_SELF_APPROVAL=false")
		}, "only 0 of 1", []string{stage.Bea}},
		{"more approvals are required", nil, nil, stage.Ana, func(p *play) { p.restart("REQUIRED_APPROVALS=2") }, "only 1 of 2", []string{stage.Ana, stage.Bea}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := prepare(t, settings(tt.made...))
			if tt.before != nil {
				tt.before(p)
			}
			p.start()
			if tt.before != nil {
				p.grouped()
			}
			a := p.ask()
			p.approve(tt.voter, a, "approve")
			p.becomes(a, approvals.Approved)
			tt.lose(p)
			p.ok(p.Circle.Succeed(a.workflow, "request_approval"))
			p.failedWith(p.becomes(a, approvals.Undeliverable), "quorum_lost", tt.detail)
			if n := p.Circle.Count("approve"); n != 0 {
				t.Errorf("got %d approve calls; want none", n)
			}
			p.cardSays(a, retry, "Could not release: myapp", tt.detail)
			p.replied(a, "Could not release", tt.detail)
			p.approve(tt.again[0], a, "retry")
			for _, user := range tt.again[1:] { // the first vote reopened the request
				p.cardSays(a, open, "1 of 2 approvals: ")
				p.approve(user, a, "approve")
			}
			p.released(a)
		})
	}
}

// members waits until the daemon knows exactly these members of the group.
func (p *play) members(want ...string) {
	p.t.Helper()
	for {
		g := p.approvers()
		if slices.Equal(g.Members, want) {
			return
		}
		p.pause("the group has %v; want %v", g.Members, want)
	}
}

// TestGroupThatChangesBetweenTwoVotes takes the first voter out of the group.
func TestGroupThatChangesBetweenTwoVotes(t *testing.T) {
	p := prepare(t, settings("APPROVERS="+admins, "REQUIRED_APPROVALS=2"))
	p.Slack.SetUserGroup(slacktest.UserGroup{ID: admins, Handle: "deploy-admins", Users: []string{stage.Ana, stage.Bea}})
	p.hire(dan, "dan")
	p.start()
	p.grouped()
	a := p.askOnHold()
	p.approve(stage.Ana, a, "approve")
	p.ok(p.Slack.EditUserGroup(admins, func(g *slacktest.UserGroup) { g.Users = []string{stage.Bea, dan} }))
	p.operator("user", "add", "--slack-id", stage.Bea) // asks Slack anew
	p.members(stage.Bea, dan)
	p.approve(stage.Bea, a, "approve")
	p.cardSays(a, open, "1 of 2 approvals still count")
	if r := p.get(a.id); r.Status != approvals.Pending {
		t.Fatalf("got %s; want pending", r.Status)
	}
	p.approve(dan, a, "approve") // joined after the request was made
	p.released(a)
}

// TestAuthenticatorThatIsReplacedWhileItsModalIsOpen lets only the new one count.
func TestAuthenticatorThatIsReplacedWhileItsModalIsOpen(t *testing.T) {
	p := setup(t, stage.Options{})
	a := p.askOnHold()
	view := p.press(stage.Ana, a, "approve")
	old := p.code(stage.Ana)
	secret := totp.NewSecret()
	if r := p.Operator(p.ctx, secret.Base32()+"\n", "user", "enroll", "--slack-id", stage.Ana, "--secret-stdin"); r.Code != 0 {
		t.Fatalf("user enroll: got %+v; want exit 0", r)
	}
	if got := p.submit(stage.Ana, view, old); got.Closed || !strings.Contains(got.Errors["totp"], "not right") {
		t.Fatalf("a code of the old one: got %+v; want an inline error", got)
	}
	p.untouched(a)
	if got := p.submit(stage.Ana, view, secret.At(p.codes[stage.Ana])); !got.Closed {
		t.Fatalf("a code of the new one: got %+v; want it accepted", got)
	}
	p.released(a)
	p.cardSays(a, closed, "⟦<@U0ANA>⟧ set up a new authenticator")
}

// TestAppThatIsGone takes the app out of the settings while it has requests.
func TestAppThatIsGone(t *testing.T) {
	t.Parallel()
	gone := func(p *play, a asked) {
		p.t.Helper()
		p.failedWith(p.becomes(a, approvals.Canceled), "app_removed", "settings")
		p.cardSays(a, closed, "Withdrawn: myapp", "settings")
		p.replied(a, "settings")
	}
	t.Run("pending", func(t *testing.T) {
		p := setup(t, stage.Options{})
		a := p.askOnHold()
		view := p.press(stage.Ana, a, "approve")
		p.rename("MYAPP", "RENAMED")
		gone(p, a)
		p.gateIs(a, "canceled")
		p.updated(p.submit(stage.Ana, view, p.code(stage.Ana)), "This was closed")
		if n := p.Circle.Count("approve"); n != 0 {
			t.Errorf("got %d approve calls; want none", n)
		}
	})
	t.Run("pending, and it comes back", func(t *testing.T) {
		p := setup(t, settings("ON_CLOSE=nothing"))
		a := p.askOnHold()
		p.rename("MYAPP", "RENAMED")
		gone(p, a)
		p.rename("RENAMED", "MYAPP")
		b := p.askFor(a.workflow)
		if b.id == a.id {
			t.Fatal("got the request that was closed; want a new one")
		}
		p.approve(stage.Ana, b, "approve")
		p.released(b)
	})
	t.Run("approved, gate not reached", func(t *testing.T) {
		p := setup(t, stage.Options{})
		a := p.ask()
		p.approve(stage.Ana, a, "approve")
		p.becomes(a, approvals.Approved)
		p.rename("MYAPP", "RENAMED")
		p.ok(p.Circle.Succeed(a.workflow, "request_approval"))
		gone(p, a)
		p.gateIs(a, "canceled")
		if n := p.Circle.Count("approve"); n != 0 {
			t.Errorf("got %d approve calls; want none", n)
		}
	})
	t.Run("released", func(t *testing.T) {
		p := setup(t, stage.Options{})
		a := p.askOnHold()
		p.approve(stage.Ana, a, "approve")
		p.becomes(a, approvals.Released)
		p.rename("MYAPP", "RENAMED")
		p.ok(p.Circle.Succeed(a.workflow, "deploy"))
		p.becomes(a, approvals.Deployed)
		p.cardSays(a, closed, "Deployed: myapp")
	})
	t.Run("its environment alone", func(t *testing.T) {
		p := prepare(t, stage.Options{Env: []string{"RGW_APP_MYAPP_ENV_PRODUCTION_SETTING_CIRCLECI_APPROVAL_JOB_NAME=approve_production"}})
		p.start()
		workflow := p.ready(p.workflow(circlecitest.Pipeline{}, circlecitest.DeployJobs("approve_production")))
		r := p.Client(p.ctx, workflow, append(stage.RequestArgs(workflow), "--environment", "production")...)
		if r.Code != 0 {
			t.Fatalf("request: got %+v; want exit 0", r)
		}
		a := asked{workflow, strings.TrimSpace(r.Stdout), p.card(strings.TrimSpace(r.Stdout))}
		p.rename("MYAPP_ENV_PRODUCTION", "MYAPP_ENV_STAGING")
		gone(p, a)
	})
}

// TestRequestOutlivesItsToken revokes the token that filed a request.
func TestRequestOutlivesItsToken(t *testing.T) {
	p := setup(t, stage.Options{})
	a := p.askOnHold()
	p.operator("token", "revoke", "ci-myapp")
	if r := p.Client(p.ctx, "", "deploy-approval", "cancel", a.id, "--reason", "no"); r.Code != 8 {
		t.Errorf("cancel with the revoked token: got %+v; want exit 8", r)
	}
	p.approve(stage.Ana, a, "approve")
	var err error
	p.Token, err = p.NewToken(p.ctx, "ci-myapp-2", "--role", "cicd", "--app", stage.App)
	p.ok(err)
	p.released(a)
	p.inOrder(a, "Asked by ci-myapp", "CircleCI may run", "Released")
}

// pause is a moment of a wait; when the test's time is over, it says what was awaited.
func (p *play) pause(format string, args ...any) {
	p.t.Helper()
	select {
	case <-p.ctx.Done():
		p.t.Fatalf(format, args...)
	case <-time.After(20 * time.Millisecond):
	}
}
