package stage_test

import (
	"encoding/json"
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
			open := p.press(stage.Bea, a, "reject")
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
			got, err := p.Slack.Submit(p.ctx, stage.Bea, open.ID, slacktest.Values{"reason": {"text": "too late"}})
			p.ok(err)
			p.updated(got, "⟦<@U0ALICE>⟧ already released this in an emergency")
			explained := p.Operator(p.ctx, "", "explain", "--app", stage.App, "--workflow", a.workflow)
			if !strings.Contains(explained.Stdout, "U0ALICE already released this in an emergency") || strings.Contains(explained.Stdout, "already approved") {
				t.Errorf("explain: got %s%s", explained.Stdout, explained.Stderr)
			}
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

// explain says for a real workflow what speaks for and against its approval. In both
// transports.
func TestExplain(t *testing.T) {
	t.Parallel()
	for _, http := range []bool{false, true} {
		t.Run(map[bool]string{false: "socket", true: "http"}[http], func(t *testing.T) { explains(t, http) })
	}
}

func explains(t *testing.T, http bool) {
	o := settings("BREAK_GLASS="+stage.Bea, "REQUIRED_APPROVALS=2", "ALLOWED_BRANCHES=release/*,main")
	o.HTTP = http
	p := setup(t, o)
	type explained struct {
		Checks []struct{ Check, Answer, Detail string }
		People []struct {
			SlackID         string `json:"slack_id"`
			Approve, Reject bool
			BreakGlass      bool `json:"break_glass"`
			Told            string
		}
	}
	ask := func(workflow string) (x explained, answers map[string]string) {
		t.Helper()
		r := p.Operator(p.ctx, "", "explain", "--app", stage.App, "--workflow", workflow, "-o", "json")
		if r.Code != 0 {
			t.Fatalf("explain: got %+v", r)
		}
		p.ok(json.Unmarshal([]byte(r.Stdout), &x))
		answers = map[string]string{}
		for _, c := range x.Checks {
			answers[c.Check] = c.Answer + " " + c.Detail
		}
		return x, answers
	}
	workflow := p.Pipeline(stage.Number)
	before, answers := ask(workflow)
	for check, want := range map[string]string{
		"CircleCI tells what the workflow is": "yes pipeline 1234 of gh/MyOrg/myapp, branch \"main\"", "the workflow belongs to the app's project": "yes",
		"its branch or tag is allowed": "yes", "the approval job is in the workflow": "yes approve_deploy_production", "a request was made": "no nobody asked",
		"enough people can approve": "yes 0 of 2 approvals were given, and 2 people can give one now", "approving is not frozen": "yes", "the log is as it was left": "yes",
	} {
		if !strings.HasPrefix(answers[check], want) {
			t.Errorf("%s: got %q; want %q", check, answers[check], want)
		}
	}
	if len(before.People) != 3 {
		t.Fatalf("got people %+v", before.People)
	}
	a := p.askFor(workflow)
	p.approve(stage.Ana, a, "approve")
	after, answers := ask(workflow)
	if got := answers["a request was made"]; got != "yes #1 is pending" {
		t.Errorf("got %q", got)
	}
	for _, who := range after.People {
		want := map[string]string{stage.Ana: "You have approved this already", stage.Alice: "You started this pipeline", stage.Bea: ""}[who.SlackID]
		if who.Approve != (want == "") || !strings.HasPrefix(who.Told, want) || who.BreakGlass != (who.SlackID == stage.Bea) || !who.Reject {
			t.Errorf("got %+v; want %q", who, want)
		}
	}
	_, answers = ask("11111111-2222-4333-8444-555555555555")
	if got := answers["CircleCI tells what the workflow is"]; !strings.HasPrefix(got, "no workflow not found") || len(answers) != 1 {
		t.Errorf("a workflow that is not there: got %q", answers)
	}
	for args, code := range map[string]int{"--app nope --workflow " + workflow: 1, "--app myapp --workflow x": 2, "--app myapp": 2} {
		if r := p.Operator(p.ctx, "", append([]string{"explain"}, strings.Fields(args)...)...); r.Code != code {
			t.Errorf("explain %s: got %+v; want exit %d", args, r, code)
		}
	}
	text := p.Operator(p.ctx, "", "explain", "--app", stage.App, "--workflow", workflow)
	t.Log(text.Stdout)
}
