package stage_test

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// mistake is one that newcomers make. The README lists them by name, with what is
// said about each.
type mistake struct {
	name string
	make func(*play)
	code int    // of check; serve refuses to start where startup is set
	line string // how the line begins that is about it; "" = the report on the configuration
	says string // what the line says is wrong, as the README has it
	do   string // what it says to do
}

func mistakes() []mistake {
	env := func(kv ...string) func(*play) { return func(p *play) { p.SetEnv(kv...) } }
	setting := func(kv string) func(*play) { return env("RGW_APP_MYAPP_SETTING_" + kv) }
	return []mistake{
		{"quotes around a value", setting(`CIRCLECI_APPROVAL_JOB_NAME="` + stage.Gate + `"`), 1, "", "is in quotes", "write the value without them"},
		{"a line end within a secret", env("SLACK_BOT_TOKEN=xoxb-1\r2"), 1, "", "must be one word", "line end"},
		{"a misspelt variable", env("RGW_LISTN=:8080"), 1, "", "is not a known variable", "did you mean RGW_LISTEN?"},
		{"a misspelt setting", setting("APPROVER=U0ANA"), 1, "", "is not a known setting", "did you mean RGW_APP_MYAPP_SETTING_APPROVERS?"},
		{"the app token as bot token", env("SLACK_BOT_TOKEN=xapp-1"), 1, "", "must start with xoxb-", "SLACK_APP_TOKEN"},
		{"Socket Mode and HTTP at once", env("SLACK_SIGNING_SECRET=s"), 1, "", "set only one of them", "SLACK_APP_TOKEN and SLACK_SIGNING_SECRET"},
		{"the name of a channel", env("SLACK_CHANNEL=#deploys"), 1, "", "must be a channel id (C…)", "not a name"},
		{"the name of an approver", setting("APPROVERS=ana"), 1, "", "must be a comma list of Slack user ids", "RGW_APP_MYAPP_SETTING_APPROVERS"},
		{"two apps with one gate", env("RGW_APP_B_SETTING_VCS_REPO=MyOrg/myapp", "RGW_APP_B_SETTING_CIRCLECI_APPROVAL_JOB_NAME="+stage.Gate), 1, "",
			"share one project", "give each a gate of its own"},
		{"another directory", env("RGW_DATABASE_URL=sqlite:elsewhere/rack-gateway.db"), 1, "FAULT database", "there is no database at", "RGW_DATABASE_URL says where it is"},
		{"a new key ring", env("RGW_SECRET_KEYS=k2:" + strings.Repeat("A", 43) + "="), 1, "FAULT database", "key ring lacks a key that is still used", "put the old key back into RGW_SECRET_KEYS, behind the new one"},
		{"a token of another workspace", func(p *play) {
			p.start()
			p.Stop()
			p.bot(slacktest.Config{TeamID: "T0OTHER", TeamName: "Other"})
		}, 1, "FAULT slack workspace", "the database belongs to the workspace", "set the bot token of the first one"},
		{"an installation for the whole organisation", func(p *play) { p.Slack.SetOrganisation(true) }, 1,
			"FAULT slack token", "installed for a whole Slack organisation", "install it in the one workspace"},
		{"a bot token that was replaced", func(p *play) { p.Slack.RefuseToken(p.Slack.Config().BotToken, "token_revoked") }, 1,
			"FAULT slack token", "Slack does not accept the token", "set its new SLACK_BOT_TOKEN"},
		{"a scope that is missing", func(p *play) {
			p.Slack.SetScopes("commands", "users:read", "usergroups:read", "channels:read", "groups:read")
		}, 1, "FAULT slack scopes", "missing:", "re-install it"},
		{"a wrong channel", env("SLACK_CHANNEL=C0NOWHERE"), 1, "FAULT slack channel C0NOWHERE", "does not exist, or is private", "check the id, or invite the bot"},
		{"a bot that was not invited", func(p *play) {
			p.ok(p.Slack.EditChannel(stage.Channel, func(c *slacktest.Channel) { c.Members = nil }))
		}, 1, "FAULT slack channel C0DEPLOYS", "the bot is not in", "/invite"},
		{"an unknown approver", setting("APPROVERS=U0NOBODY," + stage.Ana), 1, "FAULT slack user U0NOBODY", "not known in this workspace", "correct RGW_APP_MYAPP_SETTING_APPROVERS"},
		{"an unknown group", setting("APPROVERS=S0NOPE," + stage.Ana), 1, "FAULT slack group S0NOPE", "the group does not exist in this workspace", "correct RGW_APP_MYAPP_SETTING_APPROVERS"},
		{"an app that nobody can approve", setting("APPROVERS=" + stage.Carl), 1, "FAULT approvers of myapp", "nobody can approve, because no admin is one of the approvers", "user add"},
		{"more approvals than approvers", setting("REQUIRED_APPROVALS=4"), 1, "FAULT approvers of myapp", "approvals are needed, but only", "user add"},
		{"a starter who is the only approver", setting("APPROVERS=" + stage.Ana), 0, "warn  approvers of myapp", "nobody can approve what one of them starts", "make somebody else an admin"},
		{"an admin without a VCS login", func(p *play) {
			p.SetEnv("RGW_APP_MYAPP_SETTING_APPROVERS=" + stage.Carl)
			p.ok(p.Admin(p.ctx, stage.Carl, "Carl", ""))
		}, 1, "FAULT approvers of myapp", "has no VCS login on record", "run rack-gatewayd user add --slack-id U0CARL --vcs-login LOGIN"},
		{"an admin without an authenticator", func(p *play) {
			p.SetEnv("RGW_APP_MYAPP_SETTING_APPROVERS=" + stage.Carl)
			p.operator("user", "add", "--slack-id", stage.Carl, "--vcs-login", "carl")
		}, 1, "FAULT approvers of myapp", "has no authenticator", "run rack-gatewayd user enroll --slack-id U0CARL"},
		{"an emergency without anybody", setting("BREAK_GLASS=" + stage.Carl), 1, "FAULT break_glass of myapp", "nobody can release in an emergency", "correct RGW_APP_MYAPP_SETTING_BREAK_GLASS"},
		{"an unknown group for emergencies", setting("BREAK_GLASS=S0NOPE," + stage.Ana), 1, "FAULT slack group S0NOPE", "the group does not exist in this workspace", "correct RGW_APP_MYAPP_SETTING_BREAK_GLASS"},
		{"more approvals of a changed configuration than approvers", setting("CONFIG_CHANGE_APPROVALS=4"), 0,
			"warn  approvers of myapp", "approvals are needed where the CI configuration has changed, but only", "lower config_change_approvals"},
		{"a project's token", env("CIRCLECI_TOKEN=project"), 1, "FAULT circleci token", "401 Unauthorized", "first: CIRCLECI_TOKEN must be a personal API token of the machine user"},
		{"a wrong repository", setting("VCS_REPO=MyOrg/other"), 1, "FAULT circleci project gh/MyOrg/other", "404 Not Found", "correct vcs_repo or circleci_project_slug"},
		{"a misspelt gate", func(p *play) {
			p.Pipeline(stage.Number)
			p.SetEnv("RGW_APP_MYAPP_SETTING_CIRCLECI_APPROVAL_JOB_NAME=aprove_deploy_production")
		}, 0, "warn  gate of myapp", "has an approval job", "correct RGW_APP_MYAPP_SETTING_CIRCLECI_APPROVAL_JOB_NAME; did you mean " + stage.Gate + "?"},
		{"no token for the CI jobs", env("RGW_APP_B_SETTING_VCS_REPO=MyOrg/myapp", "RGW_APP_B_SETTING_CIRCLECI_APPROVAL_JOB_NAME=other"), 0,
			"warn  token for b", "there is no valid API token for this app", "run rack-gatewayd token create --name ci-b --role cicd --app b"},
		{"another project's id", func(p *play) { oidc(p) }, 1, "FAULT project id of myapp", "CircleCI's id of gh/MyOrg/myapp is", "correct RGW_APP_MYAPP_SETTING_CIRCLECI_PROJECT_ID"},
		{"an issuer that is not there", func(p *play) {
			issuer := oidc(p)
			p.SetEnv("RGW_OIDC_ISSUER=" + strings.Replace(issuer, circlecitest.Org, projectID, 1))
		}, 1, "FAULT oidc issuer", "404", "compare RGW_OIDC_ISSUER with the organisation's id"},
		{"no anchor", env("RGW_ANCHOR_FILE="), 0, "warn  log", "RGW_ANCHOR_FILE is not set", "set it to a file on another volume"},
		{"an anchor that is gone", env("RGW_ANCHOR_FILE=elsewhere/anchor"), 0, "warn  log", "the file of RGW_ANCHOR_FILE does not exist", "check that its volume is mounted"},
		{"a proxy that was not named", func(p *play) {
			p.start()
			req, err := http.NewRequestWithContext(p.ctx, http.MethodGet, p.URL+"/healthz", nil)
			p.ok(err)
			req.Header.Set("X-Forwarded-For", "203.0.113.9")
			answer, err := http.DefaultClient.Do(req)
			p.ok(err)
			answer.Body.Close()
		}, 0, "warn  daemon proxy", "RGW_TRUSTED_PROXIES does not name it", "set RGW_TRUSTED_PROXIES to its address or network and restart"},
	}
}

// oidc has the daemon take OIDC tokens, and returns their issuer.
func oidc(p *play) string {
	issuer, stop := circlecitest.StartIssuer()
	p.t.Cleanup(stop)
	p.SetEnv("RGW_OIDC_ISSUER="+issuer.URL(), "RGW_APP_MYAPP_SETTING_CI_IDENTITY=oidc", "RGW_APP_MYAPP_SETTING_CIRCLECI_PROJECT_ID="+projectID)
	return issuer.URL()
}

// bot gives the daemon the bot of another simulated workspace.
func (p *play) bot(c slacktest.Config) {
	p.t.Helper()
	other := slacktest.New(c)
	p.ok(other.Start())
	p.t.Cleanup(other.Close)
	other.SetChannel(slacktest.Channel{ID: stage.Channel, Name: "deploys", Members: []string{other.Config().BotUserID}})
	p.SetEnv("SLACK_API_URL="+other.URL(), "SLACK_BOT_TOKEN="+other.Config().BotToken, "SLACK_APP_TOKEN="+other.Config().AppToken)
}

// TestMistakesOfNewcomers makes each mistake and wants a line that a stranger can
// act on; and what stops a start says the same there.
func TestMistakesOfNewcomers(t *testing.T) {
	t.Parallel()
	for _, m := range mistakes() {
		t.Run(m.name, func(t *testing.T) {
			p := prepare(t, stage.Options{})
			m.make(p)
			r := p.Operator(p.ctx, "", "check")
			said := r.Stdout
			if m.line == "" {
				said = r.Stderr
			}
			found := false
			for line := range strings.Lines(said) {
				if strings.HasPrefix(line, m.line) && strings.Contains(line, m.says) && strings.Contains(line, m.do) {
					found = true
					t.Logf("check: %s", line)
				}
			}
			if r.Code != m.code || !found {
				t.Errorf("check: got exit %d,\n%s%s\nwant %d and a line %q with %q and %q", r.Code, r.Stdout, r.Stderr, m.code, m.line, m.says, m.do)
			}
			if m.line != "" {
				return
			}
			if r := p.Operator(p.ctx, "", "serve"); r.Code != 1 || !strings.Contains(r.Stderr, m.says) || !strings.Contains(r.Stderr, m.do) {
				t.Errorf("serve: got exit %d, %s; want 1, %q and %q", r.Code, r.Stderr, m.says, m.do)
			}
			var parts []struct{ Name, State, Text string }
			r = p.Operator(p.ctx, "", "check", "-o", "json")
			if err := json.Unmarshal([]byte(r.Stdout), &parts); err != nil || r.Code != 1 || len(parts) == 0 || parts[0].State != "fault" {
				t.Errorf("check -o json: got exit %d, %s, %v; want 1 and the faults", r.Code, r.Stdout, err)
			}
		})
	}
}

// The README lists the same mistakes in the same words.
func TestMistakesOfTheREADME(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../rack-gatewayd/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "<!-- mistakes -->\n")
	table, _, _ = strings.Cut(table, "\n\n")
	rows := strings.Split(table, "\n")
	if len(rows) < 3 {
		t.Fatalf("the README has no table of mistakes")
	}
	rows = rows[2:]
	for i, m := range mistakes() {
		want := "| " + m.name + " | `" + m.says + "` |"
		if i >= len(rows) || !strings.HasPrefix(rows[i], want) {
			t.Errorf("row %d of the README: want %s", i+1, want)
		}
	}
	if len(rows) != len(mistakes()) {
		t.Errorf("got %d rows; want %d", len(rows), len(mistakes()))
	}
}

// A gateway that is set up well has no warning and no fault, with and without a
// daemon that runs, but for the anchor that the first start makes.
func TestCheckOfAGoodGateway(t *testing.T) {
	p := prepare(t, stage.Options{})
	p.Pipeline(stage.Number)
	well := func(log, daemon string) {
		t.Helper()
		var parts []struct{ Name, State, Text, Do string }
		r := p.Operator(p.ctx, "", "check", "-o", "json")
		p.ok(json.Unmarshal([]byte(r.Stdout), &parts))
		names := map[string]bool{}
		for _, part := range parts {
			names[part.Name] = true
			want := "ok"
			switch part.Name {
			case "daemon":
				want = daemon
			case "log":
				want = log
			}
			if part.State != want {
				t.Errorf("got %+v; want %s", part, want)
			}
		}
		for _, name := range []string{"configuration", "database", "log", "slack token", "slack scopes", "approvers of myapp", "circleci token", "clock", "daemon"} {
			if !names[name] {
				t.Errorf("got %s; want a line about %q", r.Stdout, name)
			}
		}
		if r.Code != 0 {
			t.Errorf("with the daemon %s: got exit %d; want 0", daemon, r.Code)
		}
	}
	well("warn", "skip")
	p.start()
	p.ok(p.Confirmed(p.ctx))
	well("ok", "ok")
	p.Stop()
	// An organisation-wide installation stops a start as well.
	p.Slack.SetOrganisation(true)
	done := make(chan stage.Result, 1)
	go func() { done <- p.Operator(p.ctx, "", "serve") }()
	select {
	case r := <-done:
		if r.Code != 1 || !strings.Contains(r.Stderr, "installed for a whole Slack organisation") {
			t.Errorf("serve: got exit %d, %s; want 1 and why", r.Code, r.Stderr)
		}
	case <-time.After(time.Minute):
		t.Error("serve goes on with an installation for a whole organisation")
	}
}
