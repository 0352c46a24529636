package stage_test

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// readyz asks /readyz.
func (p *play) readyz() (status int, r webhook.Readiness) {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.ctx, http.MethodGet, p.Health+"/readyz", nil)
	p.ok(err)
	res, err := http.DefaultClient.Do(req)
	p.ok(err)
	defer res.Body.Close()
	p.ok(json.NewDecoder(res.Body).Decode(&r))
	return res.StatusCode, r
}

// slackIs waits until /readyz says this of Slack: "" means that all is well. Trouble
// of Slack alone never makes the daemon unavailable.
func (p *play) slackIs(want ...string) {
	p.t.Helper()
	for {
		code, r := p.readyz()
		if code != http.StatusOK {
			p.t.Fatalf("got %d %+v; want 200", code, r)
		}
		slack := r.Parts["slack"]
		said := r.Status == webhook.StatusDegraded && slack.Status == webhook.StatusDegraded
		for _, text := range want {
			said = said && strings.Contains(slack.Detail, text)
		}
		if len(want) == 0 {
			said = slack.Status == webhook.StatusOK && slack.Detail == ""
		}
		if said {
			p.t.Logf("/readyz: %+v", slack)
			return
		}
		p.pause("/readyz says of Slack %+v; want %q", slack, want)
	}
}

// checked runs the operator's check and wants a fault that says this.
func (p *play) checked(want ...string) {
	p.t.Helper()
	r := p.Operator(p.ctx, "", "check")
	if r.Code != 1 {
		p.t.Errorf("check: got exit %d; want 1:\n%s", r.Code, r.Stdout)
	}
	for line := range strings.Lines(r.Stdout) {
		found := strings.HasPrefix(line, "FAULT")
		for _, text := range want {
			found = found && strings.Contains(line, text)
		}
		if found {
			p.t.Logf("check: %s", line)
			return
		}
	}
	p.t.Errorf("check: got\n%s\nwant a fault with %q", r.Stdout, want)
}

// askedAnew lets the daemon ask Slack about everybody.
func (p *play) askedAnew() {
	p.t.Helper()
	p.asOf(3 * time.Minute) // who was confirmed just now may be skipped
	p.operator("user", "add", "--slack-id", stage.Bea)
}

// TestTroubleOfSlackIsNamed breaks what an operator has to mend: a request waits
// undecided, /readyz and check say what to do, and once it is mended the card
// comes, once, and nothing is said any more.
func TestTroubleOfSlackIsNamed(t *testing.T) {
	t.Parallel()
	channel := func(edit func(*slacktest.Channel)) func(*play) {
		return func(p *play) { p.ok(p.Slack.EditChannel(stage.Channel, edit)) }
	}
	token := func(code string) func(*play) {
		return func(p *play) { p.Slack.RefuseToken(p.Slack.Config().BotToken, code) }
	}
	people := []string{stage.Ana, stage.Bea, stage.Alice, stage.Carl}
	invited := func(p *play) {
		p.Slack.SetChannel(slacktest.Channel{ID: stage.Channel, Name: "deploys", Members: append(people, p.Slack.Config().BotUserID)})
	}
	for _, tt := range []struct {
		name         string
		broken, mend func(*play)
		ready, check []string
	}{
		{"not invited", channel(func(c *slacktest.Channel) { c.Members = people }), invited,
			[]string{"C0DEPLOYS", "not_in_channel", "/invite"}, []string{"C0DEPLOYS", "not in #deploys", "/invite"}},
		{"private and not invited", channel(func(c *slacktest.Channel) { c.Members, c.IsPrivate = people, true }), invited,
			[]string{"C0DEPLOYS", "is private", "/invite"}, []string{"C0DEPLOYS", "is private", "/invite"}},
		{"archived", channel(func(c *slacktest.Channel) { c.IsArchived = true }), invited,
			[]string{"C0DEPLOYS", "archived", "unarchive it"}, []string{"#deploys is archived", "unarchive it"}},
		{"bot token revoked", token("token_revoked"), token(""),
			[]string{"token_revoked", "SLACK_BOT_TOKEN", "restart"}, []string{"slack token", "token_revoked", "SLACK_BOT_TOKEN"}},
		{"app removed", token("account_inactive"), token(""),
			[]string{"account_inactive", "install it again", "SLACK_BOT_TOKEN"}, []string{"slack token", "account_inactive"}},
		{"scope taken away", func(p *play) {
			p.Slack.SetScopes("commands", "users:read", "usergroups:read", "channels:read", "groups:read")
		},
			func(p *play) { p.Slack.SetScopes(slacktest.DefaultScopes()...) },
			[]string{"missing_scope", "chat:write", "re-install"}, []string{"slack scopes", "chat:write", "re-install"}},
		{"outage", func(p *play) { p.Slack.SetOutage(true) }, func(p *play) { p.Slack.SetOutage(false) },
			[]string{"cannot be reached"}, []string{"slack token", "cannot be reached"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := setup(t, stage.Options{})
			p.slackIs()
			tt.broken(p)
			workflow := p.Pipeline(stage.Number)
			id, err := p.Request(p.ctx, workflow)
			p.ok(err)
			p.slackIs(tt.ready...)
			p.checked(tt.check...)
			r := p.get(id)
			p.until("a failure is recorded", func() bool { r = p.get(id); return r.Failure.Code != "" })
			if r.Status != approvals.Pending {
				t.Errorf("got %s; want pending", r.Status)
			}
			p.failedWith(r, "card_not_posted", tt.ready[0])
			tt.mend(p)
			p.askedAnew()
			a := asked{workflow, id, p.card(id)}
			p.ok(p.Slack.WaitSockets(p.ctx, 1))
			p.slackIs()
			p.replied(a, "Asked by")
			if n := len(p.cards()); n != 1 {
				t.Errorf("got %d cards; want 1", n)
			}
			p.approve(stage.Ana, a, "approve")
			p.becomes(a, approvals.Approved)
		})
	}
}

// TestPeopleWhoCannotBeLookedUpAreNamed fails the look-ups behind the right to
// decide: before it stops counting, the operator can know.
func TestPeopleWhoCannotBeLookedUpAreNamed(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		fault slacktest.Fault
		want  []string
	}{
		{"users", slacktest.Fault{Method: "users.info", Error: "missing_scope"}, []string{"people", "missing_scope", "re-install"}},
		{"users, no answer", slacktest.Fault{Method: "users.info", Status: 503}, []string{"people", "503"}},
		{"list of groups", slacktest.Fault{Method: "usergroups.list", Error: "missing_scope"}, []string{"group S0ADMINS", "missing_scope"}},
		{"list of groups, no answer", slacktest.Fault{Method: "usergroups.list", Drop: slacktest.DropBefore}, []string{"group S0ADMINS", "cannot be reached"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := prepare(t, settings("APPROVERS="+admins+","+stage.Ana))
			p.Slack.SetUserGroup(slacktest.UserGroup{ID: admins, Handle: "deploy-admins", Users: []string{stage.Bea}})
			p.start()
			p.grouped()
			p.slackIs()
			mend := p.Slack.AddFault(tt.fault)
			p.Stop()
			p.ok(p.Start(p.ctx))
			p.slackIs(tt.want...)
			a := p.askOnHold()
			p.approve(stage.Ana, a, "approve") // what was known stays good for half an hour
			p.becomes(a, approvals.Released)
			mend()
			p.askedAnew()
			p.slackIs()
		})
	}
}

// TestWhatIsNotSetUpIsNamedBeforeTheFirstCard starts with a bot that was not invited.
func TestWhatIsNotSetUpIsNamedBeforeTheFirstCard(t *testing.T) {
	p := prepare(t, stage.Options{})
	channel := p.Slack.Channels()[stage.Channel]
	p.ok(p.Slack.EditChannel(stage.Channel, func(c *slacktest.Channel) { c.Members = []string{stage.Ana} }))
	p.Slack.SetScopes("chat:write", "commands", "users:read", "usergroups:read", "channels:read")
	p.start()
	p.slackIs("channel C0DEPLOYS: the bot is not in #deploys", "/invite", "scopes", "groups:read", "re-install")
	p.Slack.SetChannel(channel)
	p.Slack.SetScopes(slacktest.DefaultScopes()...)
	p.operator("user", "add", "--slack-id", stage.Bea) // any refresh looks again
	p.slackIs()
}

// TestPassingTroubleIsForgotten fails the last call of a story once.
func TestPassingTroubleIsForgotten(t *testing.T) {
	p := setup(t, stage.Options{})
	a := p.askOnHold()
	p.approve(stage.Ana, a, "approve")
	p.cardSays(a, closed, "Released: myapp")
	p.replied(a, "Released")
	p.Slack.AddFault(slacktest.Fault{Method: "chat.update", Status: 500, Times: 3})
	p.ok(p.Circle.Succeed(a.workflow, "deploy"))
	p.replied(a, "Deployed")
	p.cardSays(a, closed, "Deployed: myapp")
	p.slackIs()
}

// TestDecisionsAreTakenWhateverSlackRefusesToShow refuses every message from the
// first vote to the release: the decision counts, and the thread tells it later.
func TestDecisionsAreTakenWhateverSlackRefusesToShow(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		fault slacktest.Fault
	}{
		{"429", slacktest.Fault{Status: http.StatusTooManyRequests, RetryAfter: 1}},
		{"500", slacktest.Fault{Status: 500}},
		{"lost before", slacktest.Fault{Drop: slacktest.DropBefore}},
		{"answers lost", slacktest.Fault{Drop: slacktest.DropAfter}},
		{"fatal_error", slacktest.Fault{Error: "fatal_error"}},
		{"not_in_channel", slacktest.Fault{Error: "not_in_channel"}},
		{"channel_not_found", slacktest.Fault{Error: "channel_not_found"}},
		{"is_archived", slacktest.Fault{Error: "is_archived"}},
		{"is_inactive", slacktest.Fault{Error: "is_inactive"}},
		{"restricted_action", slacktest.Fault{Error: "restricted_action_read_only_channel"}},
		{"missing_scope", slacktest.Fault{Error: "missing_scope"}},
		{"token_revoked", slacktest.Fault{Error: "token_revoked"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := setup(t, settings("REQUIRED_APPROVALS=2"))
			a := p.askOnHold()
			p.replied(a, "Asked by")
			tt.fault.Match = func(c slacktest.Call) bool { return strings.HasPrefix(c.Method, "chat.") }
			mend := p.Slack.AddFault(tt.fault)
			p.approve(stage.Ana, a, "approve")
			p.approve(stage.Bea, a, "approve")
			p.becomes(a, approvals.Released)
			p.releasedOnce(a, 1)
			mend()
			p.inOrder(a, "Asked by", "approved with a code (1 of 2)", "approved with a code (2 of 2). CircleCI may run", "Released")
			p.cardSays(a, closed, "Released: myapp")
			if n := len(p.cards()); n != 1 {
				t.Errorf("got %d cards; want 1", n)
			}
			p.slackIs()
		})
	}
}

// TestEveryMethodMayBeLimited answers the first calls of one method with 429.
func TestEveryMethodMayBeLimited(t *testing.T) {
	t.Parallel()
	for _, method := range []string{
		"auth.test", "users.info", "usergroups.list", "conversations.info", "apps.connections.open",
		"chat.postMessage", "chat.update", "chat.getPermalink", "conversations.history", "conversations.replies",
	} {
		t.Run(method, func(t *testing.T) {
			p := prepare(t, settings("APPROVERS="+admins+","+stage.Ana))
			p.Slack.SetUserGroup(slacktest.UserGroup{ID: admins, Handle: "deploy-admins", Users: []string{stage.Bea}})
			p.Slack.AddFault(slacktest.Fault{Method: method, Status: http.StatusTooManyRequests, RetryAfter: 1, Times: 2})
			if strings.HasPrefix(method, "conversations.") { // only looked into before a second try
				p.Slack.AddFault(slacktest.Fault{Method: "chat.postMessage", Times: 2, Drop: slacktest.DropAfter})
			}
			p.start()
			a := p.askOnHold()
			p.replied(a, "Asked by")
			p.approve(stage.Ana, a, "approve")
			p.becomes(a, approvals.Released)
			p.inOrder(a, "Asked by", "approved with a code", "Released")
			p.cardSays(a, closed, "Released: myapp")
			if n := len(p.cards()); n != 1 {
				t.Errorf("got %d cards; want 1", n)
			}
			p.releasedOnce(a, 1)
		})
	}
}

// TestModalThatSlackRefusesToOpenSaysWhy: only what passes is worth another press.
func TestModalThatSlackRefusesToOpenSaysWhy(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		fault slacktest.Fault
		says  string
		ready string // "" = nothing to mend
	}{
		{"expired_trigger_id", slacktest.Fault{Error: "expired_trigger_id"}, "Press the button again", ""},
		{"500", slacktest.Fault{Status: 500}, "Press the button again", ""},
		{"no answer", slacktest.Fault{Drop: slacktest.DropBefore}, "Press the button again", ""},
		{"429", slacktest.Fault{Status: 429, RetryAfter: 20}, "Press the button again in 20 s", ""},
		{"token_revoked", slacktest.Fault{Error: "token_revoked"}, "Ask the operator", "token_revoked"},
		{"account_inactive", slacktest.Fault{Error: "account_inactive"}, "Ask the operator", "account_inactive"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := setup(t, stage.Options{})
			a := p.askOnHold()
			p.replied(a, "Asked by")
			tt.fault.Method = "views.open"
			mend := p.Slack.AddFault(tt.fault)
			said := p.refused(stage.Ana, a, "approve")
			if !strings.Contains(said, tt.says) || !strings.Contains(said, "Nothing was counted") {
				t.Errorf("got %q; want %q", said, tt.says)
			}
			if tt.ready != "" {
				p.slackIs(tt.ready)
			}
			p.untouched(a)
			mend()
			if tt.name == "429" {
				// Until then nobody is sent to Slack in vain.
				if said := p.refused(stage.Bea, a, "approve"); !strings.Contains(said, "Press the button again in") {
					t.Errorf("Bea: got %q; want when to press again", said)
				}
				return
			}
			p.approve(stage.Ana, a, "approve")
			p.becomes(a, approvals.Released)
			p.slackIs()
		})
	}
}

// TestDeletedCardIsRepliedToInTheChannel tells the rest of the story in the channel, where each line
// names its request.
func TestDeletedCardIsRepliedToInTheChannel(t *testing.T) {
	p := setup(t, stage.Options{})
	a := p.askOnHold()
	p.replied(a, "Asked by")
	view := p.press(stage.Ana, a, "approve")
	p.Slack.RemoveMessage(a.card.Channel, a.card.TS)
	if got := p.submit(stage.Ana, view, p.code(stage.Ana)); !got.Closed {
		t.Fatalf("got %+v; want it accepted", got)
	}
	p.becomes(a, approvals.Released)
	for _, text := range []string{"approved with a code", "Released"} {
		m, err := p.Slack.WaitMessage(p.ctx, stage.Channel, func(m slacktest.Message) bool {
			return m.ThreadTS == "" && strings.Contains(m.Text, text) && strings.Contains(m.Text, "#1")
		})
		p.ok(err)
		t.Logf("channel: %s", m.Text)
	}
	if n := len(p.cards()); n != 0 {
		t.Errorf("got %d cards; want none posted in its place", n)
	}
	p.slackIs()
}

// TestCardThatCannotBeEditedAnyMore leaves its buttons standing: they decide nothing.
func TestCardThatCannotBeEditedAnyMore(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"edit_window_closed", "cant_update_message"} {
		t.Run(code, func(t *testing.T) {
			p := setup(t, stage.Options{})
			a := p.askOnHold()
			p.replied(a, "Asked by")
			p.Slack.AddFault(slacktest.Fault{Method: "chat.update", Error: code})
			p.approve(stage.Ana, a, "approve")
			p.becomes(a, approvals.Released)
			p.inOrder(a, "Asked by", "approved with a code", "Released")
			p.cardSays(a, open, "Deploy myapp?")
			if said := p.refused(stage.Bea, a, "approve"); !strings.Contains(said, "<@U0ANA> already approved this") {
				t.Errorf("got %q; want who approved", said)
			}
			p.releasedOnce(a, 1)
			p.slackIs()
		})
	}
}

// TestTroubleOfTheSocketIsNamed breaks the connection that clicks come by.
func TestTroubleOfTheSocketIsNamed(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"invalid_auth", "token_revoked", "account_inactive", "missing_scope"} {
		t.Run(code, func(t *testing.T) {
			p := setup(t, stage.Options{})
			p.Slack.RefuseToken(p.Slack.Config().AppToken, code)
			p.slackIs() // what stands is not cut by it
			p.Slack.Disconnect(slacktest.RefreshRequested)
			p.slackIs("socket", code)
			p.checked("slack socket", code)
			a := p.askOnHold() // cards still come
			p.replied(a, "Asked by")
			p.Slack.RefuseToken(p.Slack.Config().AppToken, "")
			p.restart() // with the new token
			p.slackIs()
			p.approve(stage.Ana, a, "approve")
			p.becomes(a, approvals.Released)
		})
	}
	t.Run("too many sockets", func(t *testing.T) {
		p := setup(t, stage.Options{})
		p.patient()
		a := p.askOnHold()
		p.Slack.DisconnectNew(slacktest.TooManyWebsockets)
		p.Slack.Disconnect(slacktest.RefreshRequested)
		p.slackIs("socket", "too many sockets", "stop other programs")
		p.Slack.DisconnectNew("")
		p.slackIs()
		p.approve(stage.Ana, a, "approve")
		p.becomes(a, approvals.Released)
	})
}

// patient gives a test more time: connections are tried anew every 15 s.
func (p *play) patient() {
	ctx, cancel := context.WithTimeout(p.t.Context(), 2*time.Minute)
	p.t.Cleanup(cancel)
	p.ctx = ctx
}

// TestDecisionWhoseAnswerIsLostStands hangs up on a submission before its answer:
// the person sees an error, and at the next press what became of it.
func TestDecisionWhoseAnswerIsLostStands(t *testing.T) {
	p := setup(t, stage.Options{HTTP: true})
	a := p.askOnHold()
	view := p.press(stage.Ana, a, "approve")
	d, _, err := p.Slack.PrepareSubmit(stage.Ana, view.ID, slacktest.Values{"totp": {"code": p.code(stage.Ana)}})
	p.ok(err)
	req, err := p.Slack.SignedRequest(p.ctx, d, time.Now())
	p.ok(err)
	conn, err := net.Dial("tcp", req.URL.Host)
	p.ok(err)
	p.ok(req.Write(conn))
	p.ok(conn.Close())
	p.becomes(a, approvals.Released)
	p.releasedOnce(a, 1)
	if n := p.count(a, approvals.EventVoted); n != 1 {
		t.Errorf("got %d votes; want 1", n)
	}
	p.updated(p.submit(stage.Ana, view, p.code(stage.Ana)), "⟦<@U0ANA>⟧ already approved this")
}
