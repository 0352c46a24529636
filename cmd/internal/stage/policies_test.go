package stage_test

import (
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// frozenNow is a setting with a window that holds the present.
func frozenNow() (setting, until string) {
	const layout = "2006-01-02 15:04"
	now := time.Now().UTC()
	last := now.Add(50 * time.Hour)
	return "FREEZE=" + now.Add(-time.Hour).Format(layout) + "-" + last.Format(layout) + " Africa/Abidjan", last.Format("Mon 15:04") + " (Africa/Abidjan)"
}

// Nobody approves in a freeze, at the click or with a modal from before, and
// everybody who may can still reject. In both transports.
func TestFreeze(t *testing.T) {
	t.Parallel()
	for _, http := range []bool{false, true} {
		t.Run(map[bool]string{false: "socket", true: "http"}[http], func(t *testing.T) {
			setting, until := frozenNow()
			o := settings(setting)
			o.HTTP = http
			p := setup(t, o)
			a := p.askOnHold()
			says := "Deploys of myapp are frozen until " + until + "."
			p.cardSays(a, open, says)
			if said := p.refused(stage.Ana, a, "approve"); !strings.Contains(said, says+" You can still reject it.") {
				t.Errorf("Ana is told %q; want %q", said, says)
			}
			p.untouched(a)
			p.reject(stage.Bea, a, "not in the holidays")
			p.becomes(a, approvals.Rejected)
			p.cardSays(a, closed, "not in the holidays")
			if shown := p.Operator(p.ctx, "", "settings", "show", "--app", stage.App); !strings.Contains(shown.Stdout, strings.TrimPrefix(setting, "FREEZE=")) {
				t.Errorf("settings show: got %s; want the freeze", shown.Stdout)
			}
		})
	}
}

// emergency presses Emergency release and gives a reason and a right code.
func (p *play) emergency(user string, a asked, reason string) {
	p.t.Helper()
	view := p.press(user, a, "break_glass")
	if view.CallbackID != "break_glass_request" {
		p.t.Fatalf("got the modal %s", view.CallbackID)
	}
	got, err := p.Slack.Submit(p.ctx, user, view.ID, slacktest.Values{"reason": {"text": reason}, "totp": {"code": p.code(user)}})
	p.ok(err)
	if !got.Closed {
		p.t.Fatalf("%s releases in an emergency: got %+v; want the modal closed", user, got)
	}
}

// One person releases alone in a freeze, their own deploy, and it stays marked.
func TestEmergencyRelease(t *testing.T) {
	t.Parallel()
	for _, http := range []bool{false, true} {
		t.Run(map[bool]string{false: "socket", true: "http"}[http], func(t *testing.T) {
			setting, until := frozenNow()
			o := settings(setting, "BREAK_GLASS="+admins, "REQUIRED_APPROVALS=2", "NOTIFY="+stage.Bea)
			o.HTTP = http
			p := prepare(t, o)
			p.Slack.SetUserGroup(slacktest.UserGroup{ID: admins, Handle: "on-call", Users: []string{stage.Alice}})
			p.start()
			p.grouped()
			a := p.askOnHold()
			p.cardSays(a, []string{"approve", "reject", "view_pipeline", "break_glass"}, "frozen until "+until)
			if said := p.refused(stage.Bea, a, "break_glass"); !strings.Contains(said, "Only <!subteam^"+admins+"> can release myapp in an emergency.") {
				t.Errorf("Bea is told %q", said)
			}
			view := p.press(stage.Alice, a, "break_glass")
			if text := slacktest.Text(view.Blocks); !strings.Contains(text, "on your word alone") || !strings.Contains(text, "overrides the freeze until "+until) {
				t.Errorf("the modal says\n%s", text)
			}
			p.ok(p.Slack.CloseView(stage.Alice))
			const reason = "site is down, INC-7"
			p.emergency(stage.Alice, a, reason)
			p.becomes(a, approvals.Released)
			p.releasedOnce(a, 1)
			p.ok(p.Circle.Succeed(a.workflow, "deploy"))
			r := p.becomes(a, approvals.Deployed)
			if d := r.Decisions; len(d) != 1 || d[0].Action != "break_glass" || d[0].SlackUser != stage.Alice || string(d[0].Reason) != reason || d[0].MFA != "totp" {
				t.Errorf("got decisions %+v", d)
			}
			p.cardSays(a, closed, "Deployed: myapp ⚠️", "Emergency release by ⟦<@U0ALICE>⟧", reason)
			p.replied(a, "Emergency release by ⟦<@U0ALICE>⟧ with a code: “"+reason+"”. Nobody else approved it.")
		})
	}
}

// One reminder comes, and names those who can still approve.
func TestReminder(t *testing.T) {
	t.Parallel()
	for _, http := range []bool{false, true} {
		t.Run(map[bool]string{false: "socket", true: "http"}[http], func(t *testing.T) {
			o := settings("REMIND_AFTER=1m", "REQUIRED_APPROVALS=2")
			o.HTTP = http
			p := setup(t, o)
			a := p.askOnHold()
			p.approve(stage.Ana, a, "approve")
			p.replied(a, "It has 1 of 2 approvals. ⟦<@U0BEA>⟧ can approve it.")
			p.approve(stage.Bea, a, "approve")
			p.becomes(a, approvals.Released)
			if n := p.count(a, approvals.EventReminded); n != 1 {
				t.Errorf("got %d reminders; want 1", n)
			}
		})
	}
}
