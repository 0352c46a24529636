package bot_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"pgregory.net/rapid"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot"
)

// hostile are texts that were seen to come alive somewhere.
func hostile() []string {
	return []string{
		"<!channel>", "<!here|x>", "<@U0ANA>", "<!subteam^S0ADMINS>", "<https://evil.example|click>", "&lt;!channel&gt;", "a & b",
		"*bold* _italic_ ~strike~ `code` ```pre```", ":tada: :white_check_mark:", "https://evil.example/x", "mailto:x@y.z",
		"\u202eevil\u202c", "a\u200bb", "\x1b[31mred\x07", "line one\nline two\r\n> quote", "|", ">", "", " ", "\x00", "\xff\xfe",
		strings.Repeat("&", 5000), strings.Repeat("<", 5000), strings.Repeat("ä", 5000), "U0ANA", "S0ADMINS", "U0ANA>", "@here @channel #general",
		"👩‍💻 emoji with a joiner", "\u2028\u2029", "\U000e0041\U000e007f", "<!date^1^{time}|x>",
	}
}

// live is every piece of markup that may come out, and nothing else.
var live = regexp.MustCompile(`^<(https://example\.com/a\|[^<>|]+|@[UW][A-Z0-9]{2,30}|!subteam\^S[A-Z0-9]{2,30})>$`)

var angled = regexp.MustCompile(`<[^>]*>?`)

func checkText(t *testing.T, text string) {
	t.Helper()
	mrkdwn, message := bot.RenderText(text)
	for _, piece := range angled.FindAllString(mrkdwn, -1) {
		if !live.MatchString(piece) {
			t.Errorf("%q came alive as %q in %q", text, piece, mrkdwn)
		}
	}
	rest := angled.ReplaceAllString(mrkdwn, "")
	if strings.ContainsAny(rest, "<>") {
		t.Errorf("%q left a bracket in %q", text, rest)
	}
	for _, r := range strings.ReplaceAll(strings.ReplaceAll(mrkdwn, "\n", ""), "\u2060", "") {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			t.Errorf("%q left the invisible %U in %q", text, r, mrkdwn)
		}
	}
	checkMessage(t, message)
	checkPlain(t, message)
}

// checkPlain wants no control character in any string of a message.
func checkPlain(t *testing.T, message []byte) {
	t.Helper()
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case string:
			for _, r := range v {
				if r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) {
					t.Errorf("the invisible %U is in %q", r, v)
				}
			}
		case map[string]any:
			for _, inner := range v {
				walk(inner)
			}
		case []any:
			for _, inner := range v {
				walk(inner)
			}
		}
	}
	var all any
	if err := json.Unmarshal(message, &all); err != nil {
		t.Fatal(err)
	}
	walk(all)
}

func TestHostileText(t *testing.T) {
	t.Parallel()
	for _, text := range hostile() {
		checkText(t, text)
	}
}

func TestEmojiNamesAndLinksStayText(t *testing.T) {
	t.Parallel()
	for text, bad := range map[string]string{":tada:": ":tada:", "https://evil.example": "https://evil", "*bold*": " *b", "`code`": "`c"} {
		if got, _ := bot.RenderText(text); strings.Contains(got, bad) {
			t.Errorf("%q is still markup in %q", text, got)
		}
	}
	if got, _ := bot.RenderText("feature_x/fix-it: done"); !strings.Contains(got, "feature_x/fix-it: done") {
		t.Errorf("an ordinary text was changed: %q", got)
	}
}

// Whatever CI and people write, cards, replies, modals and refusals stay within
// Slack's limits and nothing comes alive.
func TestHostileStates(t *testing.T) {
	t.Parallel()
	texts := rapid.OneOf(rapid.SampledFrom(hostile()), rapid.String())
	rapid.Check(t, func(rt *rapid.T) {
		c := rapid.SampledFrom(sorted(cards())).Draw(rt, "card")
		draw := func(name string) string { return texts.Draw(rt, name) }
		r := &c.Request
		r.Message, r.GateName, r.Project = draw("message"), draw("gate"), draw("project")
		r.Facts.Branch, r.Facts.Tag, r.Facts.Actor, r.Facts.StartedBy = draw("branch"), draw("tag"), draw("actor"), draw("starter")
		r.Facts.Revision, r.Facts.WorkflowName, r.Facts.WorkflowID = draw("revision"), draw("workflow"), draw("id")
		r.Failure.Detail, r.Gate.ApprovedBy, r.Deploy.Detail = draw("detail"), draw("by"), draw("deploy")
		r.DecidedBy, r.Requester.TokenName, r.Slack.Permalink = draw("decider"), draw("token"), draw("permalink")
		for i := range r.Decisions {
			r.Decisions[i].Reason, r.Decisions[i].SlackUser = draw("reason"), draw("voter")
		}
		c.Approvers = append(c.Approvers, draw("approver"))
		c.Notify = rapid.SliceOfN(texts, 0, 60).Draw(rt, "notify")
		for _, raw := range [][]byte{bot.RenderCard(links{}, c), bot.RenderSpare(links{}, c)} {
			checkMessage(t, raw)
			checkPlain(t, raw)
			checkMarkup(t, raw)
		}
		e := approvals.Event{Type: rapid.SampledFrom(eventTypes()).Draw(rt, "type"), Actor: approvals.Actor{ID: draw("who")}, Reason: draw("why"), Outcome: draw("outcome"), Data: map[string]string{}}
		for _, key := range []string{"votes", "needed", "until", "attempt", "jobs", "job", "failures", "number", "workflow_id", "detail", "user"} {
			e.Data[key] = draw(key)
		}
		told := approvals.Told{Event: e, Request: *r, CheckpointRoot: "root", CheckpointSize: 1}
		for _, raw := range [][]byte{bot.RenderReply(links{}, told, monday), bot.RenderStray(links{}, told, monday)} {
			checkMessage(t, raw)
			checkPlain(t, raw)
			checkMarkup(t, raw)
		}
		checkView(t, bot.RenderModal(links{}, approvals.Prompt{Request: *r, NeedsCode: true}, approvals.ActionReject))
		why := &approvals.Refusal{Code: approvals.RefusedClosed, Status: r.Status, App: draw("app"), By: draw("by"), Reason: draw("reason"), Who: c.Notify}
		checkView(t, *bot.RenderEnded(why, draw("user"), monday))
	})
}

func sorted(m map[string]approvals.Card) []approvals.Card {
	var all []approvals.Card
	for _, name := range []string{"pending", "pending-1-of-2", "approved", "approved-by-hand", "deploy-failed", "rejected", "canceled", "withdrawn", "bypassed", "undeliverable", "superseded"} {
		all = append(all, m[name])
	}
	return all
}

func eventTypes() []approvals.EventType {
	return []approvals.EventType{
		approvals.EventRequested, approvals.EventVoted, approvals.EventApproved, approvals.EventBreakGlass, approvals.EventReminded, approvals.EventRejected, approvals.EventClickRefused,
		approvals.EventGateRefused, approvals.EventDelayed, approvals.EventDeployFailed, approvals.EventCanceled, approvals.EventBypassed,
		approvals.EventUndeliverable, approvals.EventGateBypassed, approvals.EventGateClosed, approvals.EventNewerWorkflow, approvals.EventDeployReport, approvals.EventVerified, approvals.EventVerifyRefused,
		approvals.EventSuperseded, approvals.EventCodeLocked, "some.thing",
	}
}

// markup is what our own mrkdwn may hold.
var markup = regexp.MustCompile(`^<(https?://[^<>|\s]+\|[^<>|]+|@[UW][A-Z0-9]{2,30}|!subteam\^S[A-Z0-9]{2,30}|!date\^-?\d+\^[^<>|]+\|[^<>|]+)>$`)

// checkMarkup looks at every text that Slack reads as mrkdwn.
func checkMarkup(t *testing.T, raw []byte) {
	t.Helper()
	m := decodeMessage(t, raw)
	texts := []string{m.Text}
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if text, ok := v["text"].(string); ok && v["type"] == "mrkdwn" {
				texts = append(texts, text)
			}
			for _, inner := range v {
				walk(inner)
			}
		case []any:
			for _, inner := range v {
				walk(inner)
			}
		}
	}
	for _, b := range m.Blocks {
		walk(b)
	}
	for _, text := range texts {
		for _, piece := range angled.FindAllString(text, -1) {
			if !markup.MatchString(piece) {
				t.Errorf("%q came alive in %q", piece, text)
			}
		}
	}
}

func FuzzText(f *testing.F) {
	for _, text := range hostile() {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) { checkText(t, text) })
}

func FuzzInteraction(f *testing.F) {
	for _, raw := range []string{
		`{"type":"block_actions","actions":[{"action_id":"approve","value":"X"}],"container":{"message_ts":"1.2"}}`,
		`{"type":"view_submission","view":{"private_metadata":"{\"r\":\"X\"}","state":{"values":{"totp":{"code":{"value":"123456"}}}}}}`,
		`{"type":"block_actions","actions":[]}`, `{}`, `null`, `[]`, `{"type":1}`, `{"type":"view_submission","view":{"state":null}}`,
	} {
		f.Add([]byte(raw))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		err := bot.ParseInteraction(raw)
		if err != nil && len(err.Error()) > 100 {
			t.Errorf("the error repeats what was sent: %v", err)
		}
	})
}
