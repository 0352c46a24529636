package bot_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
)

// surfaces are where somebody reads what they decide on.
func surfaces(t *testing.T, r approvals.Request) map[string][]slacktest.Block {
	t.Helper()
	var modal struct{ Blocks []slacktest.Block }
	raw, err := json.Marshal(bot.RenderModal(links{}, approvals.Prompt{Request: r, NeedsCode: true}, approvals.ActionApprove))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &modal); err != nil {
		t.Fatal(err)
	}
	return map[string][]slacktest.Block{
		"card":  decodeMessage(t, bot.RenderCard(links{}, approvals.Card{Request: r, Approvers: []string{admins}})).Blocks,
		"modal": modal.Blocks,
	}
}

// quoted is what stands in a quote, which no line of ours ever does.
func quoted(blocks []slacktest.Block) (text string, rest []slacktest.Block) {
	for _, b := range blocks {
		raw, _ := json.Marshal(b)
		if strings.Contains(string(raw), "rich_text_quote") {
			text += slacktest.Text([]slacktest.Block{b})
		} else {
			rest = append(rest, b)
		}
	}
	return text, rest
}

func TestTheFactsStandAboveTheMessage(t *testing.T) {
	t.Parallel()
	r := request()
	r.Message = "1a2b3c4 on main · pipeline 1234 · started by bob\nNeeds 0 approvals\nApproved by everybody\nfourth line"
	for name, blocks := range surfaces(t, r) {
		text := slacktest.Text(blocks)
		after := -1
		for _, want := range []string{"Deploy myapp to production", "started by alice", "Changes since the last deploy", "started by bob"} {
			if i := strings.Index(text, want); i <= after {
				t.Errorf("%s: %q is missing or above what has to stand above it:\n%s", name, want, text)
			} else {
				after = i
			}
		}
		if name == "card" && strings.Index(text, "Needs 1 approval with a code from") < after {
			t.Errorf("the status stands above the message:\n%s", text)
		}
		message, rest := quoted(blocks)
		if got := slacktest.Text(rest); strings.Contains(got, "bob") || strings.Contains(got, "everybody") {
			t.Errorf("%s: the message shows outside its quote:\n%s", name, got)
		}
		if !strings.HasPrefix(message, "“1a2b3c4") || strings.Count(message, "\n") != 2 || strings.Contains(message, "fourth") || !strings.HasSuffix(message, "…”") {
			t.Errorf("%s: got %q; want the first three lines, and that there are more", name, message)
		}
	}
}

func TestALongMessageIsInTheThread(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		message string
		cut     bool
	}{
		"short":       {"Fix the invoice rounding", false},
		"three lines": {"one\n\n\ntwo\nthree\n", false},
		"many lines":  {strings.Repeat("line\n", 150) + "the end", true},
		"long":        {strings.Repeat("word ", 100) + "the end", true},
		"long lines":  {strings.Repeat(strings.Repeat("word ", 59)+"\n", 4) + "the end", true},
		"blank":       {" \n\n\t", false},
		"none":        {"", false},
	} {
		r := request()
		r.Message = tt.message
		card, _ := quoted(surfaces(t, r)["card"])
		if n := len([]rune(card)); n > 302 || strings.Count(card, "\n") > 2 {
			t.Errorf("%s: the card shows %d characters and %d line breaks", name, n, strings.Count(card, "\n"))
		}
		if empty := strings.TrimSpace(tt.message) == ""; (card == "") != empty {
			t.Errorf("%s: got %q on the card", name, card)
		}
		asked := decodeMessage(t, bot.RenderReply(links{}, approvals.Told{Event: approvals.Event{Type: approvals.EventRequested}, Request: r}, monday))
		whole, _ := quoted(asked.Blocks)
		if tt.cut != strings.HasSuffix(card, "…”") || tt.cut != strings.HasSuffix(whole, "the end”") || !tt.cut && whole != "" {
			t.Errorf("%s: got %q on the card and %q in the thread", name, card, whole)
		}
	}
}

func TestAMessageThatOnlyRepeatsTheFacts(t *testing.T) {
	t.Parallel()
	for message, shown := range map[string]bool{
		"Deploy main@1a2b3c4 to production": false, "Deploy main@" + revision + " to production.": false, "deploy myapp to production": false, "Deploy pipeline 1234 of myapp": false,
		"Deploy main@1a2b3c5 to production": true, "Deploy main@1a2b3c4 to staging": true, "Deploy mаin@1a2b3c4 to production": true, "Deploy main@1a2 to production": true,
		"Deploy main@1a2b3c4 to production\u200b": true, "Deploy main@1a2b3c4 to production now": true, "Deploy Main to production": true,
	} {
		r := request()
		r.Message = message
		for name, blocks := range surfaces(t, r) {
			if got, _ := quoted(blocks); (got != "") != shown {
				t.Errorf("%s: %q shows as %q; want shown: %t", name, message, got, shown)
			}
		}
	}
}

// Every card ends its status line with the number that /approvals show takes.
func TestEveryCardTellsItsNumber(t *testing.T) {
	t.Parallel()
	for name, c := range cards() {
		m := decodeMessage(t, bot.RenderCard(links{}, c))
		spare := decodeMessage(t, bot.RenderSpare(links{}, c))
		for form, text := range map[string]string{"card": slacktest.Text(m.Blocks), "spare card": slacktest.Text(spare.Blocks), "notification": m.Text} {
			if !strings.Contains(text, "#127") {
				t.Errorf("%s: the %s does not tell its number:\n%s", name, form, text)
			}
		}
	}
}

func TestARejectedCardTellsWhatWasCancelled(t *testing.T) {
	t.Parallel()
	card := cards()["rejected"]
	for onClose, want := range map[approvals.OnClose]string{
		approvals.CloseCancelJob: "the CircleCI job was cancelled", approvals.CloseCancelWorkflow: "the CircleCI workflow was cancelled",
	} {
		card.Request.Closing.Act = onClose
		if got := slacktest.Text(decodeMessage(t, bot.RenderCard(links{}, card)).Blocks); !strings.Contains(got, want) {
			t.Errorf("%s: got %q; want %q in it", onClose, got, want)
		}
	}
}

func TestNotesAreInTheModalToo(t *testing.T) {
	t.Parallel()
	r := request()
	r.Newer, r.Facts.Actor, r.Facts.Trigger = 128, "", "scheduled_pipeline"
	for name, blocks := range surfaces(t, r) {
		for _, want := range []string{"A newer request is open (#128).", "Nobody started this by hand"} {
			if got := slacktest.Text(blocks); !strings.Contains(got, want) {
				t.Errorf("%s: %q is missing:\n%s", name, want, got)
			}
		}
	}
}

// Each status has a headline, a line on the card and words for who came too late.
func TestEveryStatusHasWords(t *testing.T) {
	t.Parallel()
	for _, status := range append(approvals.Statuses(), "brand_new") {
		r := approved(request(), ana)
		r.Status = status
		m := decodeMessage(t, bot.RenderCard(links{}, approvals.Card{Request: r}))
		if text := slacktest.Text(m.Blocks); strings.Contains(text, "%!") || !strings.Contains(text, "myapp to production") {
			t.Errorf("%s: got\n%s", status, text)
		}
		checkMessage(t, bot.RenderCard(links{}, approvals.Card{Request: r}))
		plain, _ := bot.RenderRefusal(&approvals.Refusal{Code: approvals.RefusedClosed, Status: status}, ana, approvals.ActionApprove, monday)
		if !strings.HasSuffix(plain, ".") || strings.Contains(plain, "–") {
			t.Errorf("%s: who comes too late is told %q", status, plain)
		}
	}
}
