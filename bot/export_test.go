package bot

import (
	"encoding/json"
	"time"

	"github.com/slack-go/slack"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// What the tests see of rendering: it is pure, and its result is what Slack gets.

func encoded(m message) []byte {
	raw, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		panic(err)
	}
	return raw
}

func RenderCard(links Links, c approvals.Card) []byte { return encoded(view{links}.card(c)) }

func RenderSpare(links Links, c approvals.Card) []byte { return encoded(view{links}.spare(c)) }

func RenderReply(links Links, t approvals.Told, now time.Time) []byte {
	return encoded(view{links}.reply(t, now))
}

func RenderStray(links Links, t approvals.Told, now time.Time) []byte {
	return encoded(view{links}.stray(t, now))
}

func RenderModal(links Links, p approvals.Prompt, action approvals.Action) slack.ModalViewRequest {
	return view{links}.modal(p, action, origin{Request: p.Request.ID, Channel: p.Request.Slack.Channel, TS: p.Request.Slack.TS})
}

func RenderRefusal(why *approvals.Refusal, user string, action approvals.Action, now time.Time) (plain, mrkdwn string) {
	l := refusal(why, user, action, now)
	return l.plain(), l.mrkdwn(limitText)
}

func RenderEnded(why *approvals.Refusal, user string, now time.Time) *slack.ModalViewRequest {
	return ended("Not approved", refusal(why, user, approvals.ActionApprove, now))
}

func RenderText(text string) (mrkdwn string, message []byte) {
	l := say("a ", quoted(text, limitName), link("https://example.com/a", text), mention(text), paragraph(text, limitMessage), literal(text))
	return l.mrkdwn(limitText), encoded(newMessage(l, header(text+"x"), own(text, limitMessage), l.block(), l.small()))
}

// ShowName is what people see of a name that decides, with its remark.
func ShowName(text string) string { return name(text).plain() }

func Compare(f approvals.Facts, from, to string) (commit, compare string) {
	return CommitURL(f, to), compareURL(f, from, to)
}

func ParseInteraction(raw []byte) error {
	p, err := parseInteraction(raw)
	if err == nil {
		_, _ = parseOrigin(p.View.PrivateMetadata)
	}
	return err
}
