package stage_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// TestExitCodesOfAWait ends a request in every way and waits for it.
func TestExitCodesOfAWait(t *testing.T) {
	t.Parallel()
	release := func(p *play, a asked) {
		p.approve(stage.Ana, a, "approve")
		p.gateIs(a, "success")
	}
	for _, tt := range []struct {
		name  string
		until string
		end   func(*play, asked)
		code  int
		out   string
	}{
		{"approved", "approved", func(p *play, a asked) { p.approve(stage.Ana, a, "approve") }, 0, ""},
		{"released", "released", release, 0, "released"},
		{"deployed", "finished", func(p *play, a asked) { release(p, a); p.ok(p.Circle.Succeed(a.workflow, "deploy")) }, 0, "deployed"},
		{"deploy failed", "finished", func(p *play, a asked) { release(p, a); p.ok(p.Circle.Fail(a.workflow, "deploy")) }, 1, "deploy_failed"},
		{"rejected", "approved", func(p *play, a asked) { p.reject(stage.Bea, a, "no") }, 3, "rejected"},
		{"canceled", "approved", func(p *play, a asked) { p.ok(p.Circle.CancelWorkflowAs("bea", a.workflow)) }, 5, "canceled"},
		{"superseded", "approved", func(p *play, a asked) { p.askFor(p.Pipeline(stage.Number + 1)) }, 5, "superseded"},
		{"bypassed", "approved", func(p *play, a asked) { p.ok(p.Circle.ApproveAs("mallory", a.workflow, stage.Gate)) }, 6, "bypassed"},
		{"undeliverable", "released", func(p *play, a asked) {
			p.Circle.Inject(circlecitest.Fault{Op: "approve", Status: 403, Body: `{}`})
			p.approve(stage.Ana, a, "approve")
		}, 11, "undeliverable"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := setup(t, stage.Options{})
			a := p.askOnHold()
			waited := make(chan stage.Result, 1)
			go func() {
				waited <- p.Client(p.ctx, a.workflow, "deploy-approval", "wait", "--app", stage.App, "--until", tt.until)
			}()
			tt.end(p, a)
			r := <-waited
			if r.Code != tt.code || tt.out != "" && r.Stdout != tt.out+"\n" {
				t.Errorf("got %+v; want exit %d and %q", r, tt.code, tt.out)
			}
			if strings.Count(r.Stdout, "\n") != 1 {
				t.Errorf("got stdout %q; want the status alone", r.Stdout)
			}
		})
	}
}

func TestExitCodeOfAnExpiredRequest(t *testing.T) {
	p := setup(t, briefly())
	a := p.askOnHold()
	waited := make(chan stage.Result, 1)
	go func() { waited <- p.Client(p.ctx, "", "deploy-approval", "wait", a.id) }()
	p.Stop() // the wait lives through a restart of the daemon
	p.start()
	if r := <-waited; r.Code != 4 || r.Stdout != "expired\n" {
		t.Errorf("got %+v; want exit 4 and expired", r)
	}
}

func TestExitCodesOfCommands(t *testing.T) {
	p := setup(t, stage.Options{})
	a := p.askOnHold()
	unreachable := stage.Stage{URL: "http://127.0.0.1:1", Token: p.Token}
	args := func(s string) []string { return append([]string{"deploy-approval"}, strings.Fields(s)...) }
	for _, tt := range []struct {
		name   string
		client func(args ...string) stage.Result
		args   []string
		code   int
		says   string
	}{
		{"timed out", nil, args("wait " + a.id + " --timeout 1s"), 7, "timed out"},
		{"request --wait timed out", nil, append(stage.RequestArgs(a.workflow), "--wait", "--timeout", "1s"), 7, "timed out"},
		{"token is wrong", func(args ...string) stage.Result { return p.ClientAs(p.ctx, flip(p.Token), "", args...) }, args("show " + a.id), 8, "unauthorized"},
		{"unknown request", nil, args("show NOSUCHREQUEST"), 9, "not_found"},
		{"cancel of an unknown request", nil, args("cancel 999 --reason x"), 9, "not_found"},
		{"no connection", func(args ...string) stage.Result { return unreachable.Client(p.ctx, "", args...) }, args("show 1 --retry-for 0"), 10, ""},
		{"no command", nil, args("approve"), 2, ""},
		{"unknown flag", nil, args("list --nonsense"), 2, "nonsense"},
		{"metadata is no JSON", nil, args("request --app myapp --git-commit 1a2b3c4 --ci-metadata {workflow"), 2, "ci-metadata"},
		{"no id", nil, args("wait"), 2, "id"},
		{"cancel without a reason", nil, args("cancel " + a.id), 2, "--reason"},
		{"status that does not exist", nil, args("list --status nonsense"), 2, "status"},
		{"version", nil, []string{"version"}, 0, ""},
		{"help", nil, args("wait --help"), 0, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			client := tt.client
			if client == nil {
				client = func(args ...string) stage.Result { return p.Client(p.ctx, "", args...) }
			}
			r := client(tt.args...)
			if r.Code != tt.code || !strings.Contains(r.Stderr, tt.says) {
				t.Errorf("got %+v; want exit %d and %q", r, tt.code, tt.says)
			}
			if strings.Contains(r.Stdout+r.Stderr, p.Token) {
				t.Error("the token is shown")
			}
		})
	}
	p.untouched(a)
}

func TestRateLimitOfATokenIsAnswered429(t *testing.T) {
	p := setup(t, stage.Options{Env: []string{"RGW_RATE_LIMIT=3"}})
	other, err := p.NewToken(p.ctx, "other", "--role", "cicd", "--app", stage.App)
	p.ok(err)
	for range 50 {
		if r := p.Client(p.ctx, "", "deploy-approval", "list", "--retry-for", "0"); r.Code != 0 {
			if r.Code != 10 || !strings.Contains(r.Stderr, "rate_limited") {
				t.Errorf("got %+v; want exit 10 and rate_limited", r)
			}
			if r := p.ClientAs(p.ctx, other, "", "deploy-approval", "list", "--retry-for", "0"); r.Code != 0 {
				t.Errorf("another token: got %+v; want exit 0", r)
			}
			return
		}
	}
	t.Error("got 50 calls through; want a limit")
}

func TestRequestPrintsTheIDAlone(t *testing.T) {
	p := setup(t, stage.Options{})
	workflow := p.Pipeline(stage.Number)
	r := p.Client(p.ctx, workflow, stage.RequestArgs(workflow)...)
	id := strings.TrimSpace(r.Stdout)
	if r.Code != 0 || id == "" || r.Stdout != id+"\n" || strings.ContainsAny(id, " \t") {
		t.Fatalf("got %+v; want the id alone on stdout", r)
	}
	a := asked{workflow, id, p.card(id)}
	// In a CircleCI job everything but the app is known.
	r = p.Client(p.ctx, workflow, "deploy-approval", "request", "--app", stage.App)
	if r.Code != 0 || r.Stdout != id+"\n" {
		t.Errorf("from CIRCLE_*: got %+v; want %s", r, id)
	}
	r = p.Client(p.ctx, workflow, "deploy-approval", "request", "--app", stage.App, "-o", "json")
	var got webhook.Request
	if err := json.Unmarshal([]byte(r.Stdout), &got); err != nil || got.ID != a.id {
		t.Errorf("-o json: got %+v (%v); want the request", r, err)
	}
}

func TestShowAndListAgree(t *testing.T) {
	p := setup(t, settings("SUPERSEDE=off"))
	first, second := p.askOnHold(), p.ask()
	p.reject(stage.Bea, first, "no \x1b[31mred\u202e")
	p.becomes(first, approvals.Rejected)
	read := func(into any, args ...string) string {
		t.Helper()
		r := p.Client(p.ctx, first.workflow, append([]string{"deploy-approval"}, args...)...)
		if r.Code != 0 {
			t.Fatalf("%v: got %+v; want exit 0", args, r)
		}
		if into != nil {
			p.ok(json.Unmarshal([]byte(r.Stdout), into))
		}
		if strings.ContainsAny(r.Stdout, "\x1b\u202e") {
			t.Errorf("%v: controls reach the terminal: %q", args, r.Stdout)
		}
		return r.Stdout
	}
	for _, which := range [][]string{{first.id}, {"1"}, {"--app", stage.App}} {
		var r webhook.Request
		read(&r, append([]string{"show", "-o", "json"}, which...)...)
		if r.ID != first.id || r.Status != approvals.Rejected || r.Number != 1 {
			t.Errorf("show %v: got %s %s; want %s rejected", which, r.ID, r.Status, first.id)
		}
	}
	if text := read(nil, "show", first.id); !strings.Contains(text, "rejected") || !strings.Contains(text, "reject by Bea") {
		t.Errorf("show: got %q; want the reject of Bea", text)
	}
	for status, want := range map[string][]string{
		"": {second.id, first.id}, "open": {second.id}, "closed": {first.id}, "pending": {second.id}, "rejected": {first.id}, "deployed": {},
	} {
		var page webhook.Page
		read(&page, "list", "-o", "json", "--status", status)
		ids := []string{}
		for _, r := range page.Requests {
			ids = append(ids, r.ID)
		}
		if !slices.Equal(ids, want) {
			t.Errorf("list %q: got %v; want %v", status, ids, want)
		}
	}
	if text := read(nil, "list"); strings.Count(text, "\n") != 3 {
		t.Errorf("list: got %q; want a head and two lines", text)
	}
}

func TestCancelOfAClosedRequestIsAConflict(t *testing.T) {
	p := setup(t, stage.Options{})
	a := p.askOnHold()
	cancel := func() stage.Result {
		return p.Client(p.ctx, "", "deploy-approval", "cancel", a.id, "--reason", "again")
	}
	p.approve(stage.Ana, a, "approve")
	p.becomes(a, approvals.Released)
	if r := cancel(); r.Code != 9 || !strings.Contains(r.Stderr, "conflict") {
		t.Errorf("got %+v; want exit 9 and conflict", r)
	}
	if r := p.get(a.id); r.Status != approvals.Released {
		t.Errorf("got %s; want released", r.Status)
	}
}

func TestRequestOfAnotherAppIsNotFound(t *testing.T) {
	p := setup(t, stage.Options{Env: []string{
		"RGW_APP_OTHER_SETTING_VCS_REPO=MyOrg/other", "RGW_APP_OTHER_SETTING_CIRCLECI_APPROVAL_JOB_NAME=hold",
	}})
	a := p.askOnHold()
	other, err := p.NewToken(p.ctx, "other", "--role", "cicd", "--app", "other")
	p.ok(err)
	for _, args := range [][]string{{"show", a.id}, {"show", "1"}, {"wait", a.id}, {"cancel", a.id, "--reason", "x"}} {
		r := p.ClientAs(p.ctx, other, "", append([]string{"deploy-approval"}, args...)...)
		if r.Code != 9 || !strings.Contains(r.Stderr, "not_found") {
			t.Errorf("%v: got %+v; want exit 9 and not_found", args, r)
		}
	}
	r := p.ClientAs(p.ctx, other, "", "deploy-approval", "list", "-o", "json")
	if strings.Contains(r.Stdout, a.id) {
		t.Errorf("list: got %s; want nothing of another app", r.Stdout)
	}
	p.untouched(a)
}

// TestAuditorReadsAndChangesNothing also stands for every token: none approves.
func TestAuditorReadsAndChangesNothing(t *testing.T) {
	p := setup(t, stage.Options{})
	a := p.askOnHold()
	auditor, err := p.NewToken(p.ctx, "auditor", "--role", "auditor", "--all-apps")
	p.ok(err)
	if r := p.ClientAs(p.ctx, auditor, "", "deploy-approval", "show", a.id); r.Code != 0 {
		t.Errorf("show: got %+v; want exit 0", r)
	}
	if r := p.ClientAs(p.ctx, auditor, "", "deploy-approval", "cancel", a.id, "--reason", "x"); r.Code != 8 || !strings.Contains(r.Stderr, "forbidden") {
		t.Errorf("cancel: got %+v; want exit 8 and forbidden", r)
	}
	for _, route := range []string{"approve", "decide", "reject", "vote"} {
		if status, _ := p.call("POST", "/deploy-approval-requests/"+a.id+"/"+route, p.Token, "application/json", "{}"); status != 404 && status != 405 {
			t.Errorf("%s: got %d; want no such route", route, status)
		}
	}
	p.untouched(a)
}

func TestRevokedTokenStopsWorkingAtOnce(t *testing.T) {
	p := setup(t, stage.Options{})
	a := p.askOnHold()
	if r := p.Client(p.ctx, "", "deploy-approval", "show", a.id); r.Code != 0 {
		t.Fatalf("got %+v; want exit 0", r)
	}
	p.operator("token", "revoke", "ci-myapp")
	if r := p.Client(p.ctx, "", "deploy-approval", "show", a.id); r.Code != 8 {
		t.Errorf("got %+v; want exit 8", r)
	}
}

func TestMarkupOfOthersIsNeverLive(t *testing.T) {
	const evil = "<!channel> <@U0ANA> <https://evil.example|click> *bold* `code` & \u202egnp"
	p := setup(t, stage.Options{})
	workflow := p.plain(circlecitest.Pipeline{Branch: "<!channel>", Subject: evil})
	_, id := p.again(workflow, func(b *webhook.CreateBody) { b.Message = evil + strings.Repeat(" long", 100) })
	a := asked{workflow, id, p.card(id)}
	p.replied(a, "Asked by")
	p.reject(stage.Bea, a, evil)
	p.replied(a, "rejected")
	p.cardSays(a, closed, "Rejected")
	p.live(a)
}

// live checks that nothing in the channel mentions everybody or leads to a host
// that is not ours to link to.
func (p *play) live(a asked) {
	p.t.Helper()
	for _, m := range p.Slack.AllMessages(a.card.Channel) {
		for _, markup := range slacktest.LiveMarkup(m) {
			if strings.Contains(markup, "!channel") || strings.Contains(markup, "evil") || strings.Contains(markup, "U0ANA") {
				p.t.Errorf("got live %s in %q", markup, m.Text)
			}
		}
	}
}
