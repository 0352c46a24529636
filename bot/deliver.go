package bot

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/slack-go/slack"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

var _ approvals.Deliverer = (*Bot)(nil)

const (
	retryFirst = time.Second
	retryMost  = 30 * time.Second // after an outage nobody waits longer
	mendFirst  = 5 * time.Second  // for what the operator has to mend first
	retryMend  = 5 * time.Minute  // the same where nobody behind it waits
	cardSoon   = time.Second      // until a card that is being posted stands
)

// Deliver carries out one effect for Slack. Slack has no idempotency key: from
// the second attempt on it looks whether the one before took effect.
func (b *Bot) Deliver(ctx context.Context, e approvals.Effect) approvals.Outcome {
	switch e.Kind {
	case approvals.CardPost:
		return b.postCard(ctx, e)
	case approvals.CardUpdate:
		return b.updateCard(ctx, e)
	case approvals.ThreadReply:
		return b.postReply(ctx, e)
	case approvals.Notice:
		return b.postNotice(ctx, e)
	}
	return approvals.Dead(fmt.Errorf("slack does not know effects of kind %q", e.Kind))
}

// unread is the outcome when the store could not say what is to be shown.
func unread(e approvals.Effect, err error) approvals.Outcome {
	if errors.Is(err, approvals.ErrNotFound) {
		return approvals.Dead(fmt.Errorf("read what to show: %w", err))
	}
	return approvals.Again(approvals.Backoff(e.Attempt, retryFirst, time.Minute), fmt.Errorf("read what to show: %w", err))
}

func (b *Bot) postCard(ctx context.Context, e approvals.Effect) approvals.Outcome {
	c, err := b.service.Card(ctx, e.Request)
	if err != nil {
		return unread(e, err)
	}
	if c.Request.Slack.TS != "" {
		return approvals.Done()
	}
	channel, rendered := c.Request.Channel, c.Request
	ref := approvals.SlackRef{Channel: channel}
	if e.Attempt > 1 {
		if ref, err = b.findCard(ctx, c.Request); err != nil {
			return b.later(ctx, e, channel, err)
		}
		rendered.Version = 0 // what was found may show an older state
	}
	if ref.TS == "" {
		mark := slack.SlackMetadata{EventType: MetadataCard, EventPayload: map[string]any{keyRequest: c.Request.ID}}
		posted, err := b.post(ctx, channel, "", mark, b.view.card(c), b.view.spare(c))
		if err != nil {
			out := b.later(ctx, e, channel, err)
			out.Record = b.service.PostFailed(c.Request.ID, diagnose(err).words(channel))
			return out
		}
		ref = approvals.SlackRef{Channel: posted.channel, TS: posted.ts}
	}
	ref.Permalink = b.permalink(ctx, ref)
	out := approvals.Done()
	out.Record = b.service.Posted(rendered, ref)
	return out
}

// permalink is a convenience: without it people find the card by themselves.
func (b *Bot) permalink(ctx context.Context, ref approvals.SlackRef) string {
	var link string
	err := b.call("chat.getPermalink", func() (err error) {
		link, err = b.ws.api.GetPermalinkContext(ctx, &slack.PermalinkParameters{Channel: ref.Channel, Ts: ref.TS})
		return err
	})
	if err != nil {
		b.log.Warn("get the permalink of a card", "channel", ref.Channel, "why", diagnose(err).words(ref.Channel))
		return ""
	}
	return webURL(link)
}

// updateCard renders the present state: a lost, late or doubled update converges.
func (b *Bot) updateCard(ctx context.Context, e approvals.Effect) approvals.Outcome {
	c, err := b.service.Card(ctx, e.Request)
	if err != nil {
		return unread(e, err)
	}
	ref := c.Request.Slack
	if ref.TS == "" {
		return approvals.Done() // the post that is to come shows this state
	}
	err = b.update(ctx, ref.Channel, ref.TS, b.view.card(c))
	if err != nil && diagnose(err).kind == malformed {
		b.log.Error("Slack refuses a card", "request", c.Request.ID, "why", explain(err))
		err = b.update(ctx, ref.Channel, ref.TS, b.view.spare(c))
	}
	if err == nil {
		b.health.good("channel " + ref.Channel)
		b.health.good("slack")
		return approvals.Done()
	}
	switch f := diagnose(err); f.kind {
	case gone, malformed:
		if f.code == "message_not_found" && decidable(c) {
			// It was deleted, and people cannot decide without its buttons.
			out := approvals.Done()
			out.Record = b.service.CardLost(c.Request.ID, ref)
			return out
		}
		// The thread tells what the card cannot.
		return approvals.Dead(fmt.Errorf("update the card of %s: %s", c.Request.ID, f.words(ref.Channel)))
	}
	return b.later(ctx, e, ref.Channel, err)
}

// decidable reports whether the card has buttons that decide.
func decidable(c approvals.Card) bool {
	return c.Request.Status == approvals.Pending || c.RetryOffered
}

func (b *Bot) update(ctx context.Context, channel, ts string, m message) error {
	return b.call("chat.update", func() error {
		_, _, _, err := b.ws.api.UpdateMessageContext(ctx, channel, ts, slack.MsgOptionText(m.Text, false), slack.MsgOptionBlocks(m.Blocks...))
		return err
	})
}

func (b *Bot) postReply(ctx context.Context, e approvals.Effect) approvals.Outcome {
	t, err := b.service.Tell(ctx, e.Seq)
	if err != nil {
		return unread(e, err)
	}
	parent := t.Request.Slack
	if parent.TS == "" {
		return approvals.Again(cardSoon, nil)
	}
	stray := b.view.stray(t, time.Now()) // for the channel, where a line has to name its request
	if e.Attempt > 1 {
		found, err := b.findReply(ctx, parent, t)
		switch {
		case err != nil:
			return b.later(ctx, e, parent.Channel, err)
		case found.ts != "":
			b.named(ctx, t, found, stray)
			return approvals.Done()
		}
	}
	m := b.view.reply(t, time.Now())
	posted, err := b.post(ctx, parent.Channel, parent.TS, replyMark(t.Event.Seq), m, message{Text: m.Text})
	switch {
	case err == nil:
		b.named(ctx, t, posted, stray)
	case diagnose(err).threadless():
		_, err = b.post(ctx, parent.Channel, "", replyMark(t.Event.Seq), stray, message{Text: stray.Text})
	}
	if err != nil {
		return b.later(ctx, e, parent.Channel, err)
	}
	return approvals.Done()
}

// named makes a reply name its request where the card was deleted and Slack put
// it into the channel.
func (b *Bot) named(ctx context.Context, t approvals.Told, at place, stray message) {
	if at.thread != "" {
		return
	}
	if err := b.update(ctx, at.channel, at.ts, stray); err != nil {
		b.log.Warn("name the request of a reply without a card", "request", t.Request.ID, "why", diagnose(err).words(at.channel))
	}
}

func replyMark(seq int64) slack.SlackMetadata {
	return slack.SlackMetadata{EventType: MetadataReply, EventPayload: map[string]any{keySeq: fmt.Sprint(seq)}}
}

// postNotice tells an event in a channel, or to a person in a direct message.
func (b *Bot) postNotice(ctx context.Context, e approvals.Effect) approvals.Outcome {
	target, id, _ := strings.Cut(e.Payload, ":")
	toPerson := target == approvals.NoticePerson && userID.MatchString(id)
	if !toPerson && (target != approvals.NoticeChannel || !approvals.ValidChannel(id)) {
		return approvals.Dead(fmt.Errorf("notice %d has no target", e.ID))
	}
	t, err := b.service.Tell(ctx, e.Seq)
	if err != nil {
		return unread(e, err)
	}
	if e.Attempt > 1 && !toPerson {
		// Direct messages cannot be read back: there a second one is tolerated.
		told, err := b.findMessage(ctx, id, t.Event.At(), repliesTo(t))
		switch {
		case err != nil:
			return b.later(ctx, e, id, err)
		case told != "":
			return approvals.Done()
		}
	}
	m := b.view.stray(t, time.Now())
	if _, err := b.post(ctx, id, "", replyMark(t.Event.Seq), m, message{Text: m.Text}); err != nil {
		f := diagnose(err)
		if toPerson && (f.kind == nobody || f.kind == unreachable) {
			return approvals.Dead(fmt.Errorf("write to %s: %s", id, f.words("")))
		}
		return b.later(ctx, e, id, err)
	}
	return approvals.Done()
}

// place is where a message came to stand.
type place struct{ channel, ts, thread string }

// post sends a message, and in a simpler form if Slack refuses its blocks:
// better plain than lost.
func (b *Bot) post(ctx context.Context, channel, thread string, mark slack.SlackMetadata, m, simple message) (place, error) {
	at, err := b.postOnce(ctx, channel, thread, mark, m)
	if err != nil && diagnose(err).kind == malformed {
		b.log.Error("Slack refuses a message", "channel", channel, "why", explain(err))
		if at, err = b.postOnce(ctx, channel, thread, mark, simple); err != nil && diagnose(err).kind == malformed {
			at, err = b.postOnce(ctx, channel, thread, mark, message{Text: m.Text})
		}
	}
	if err == nil {
		b.health.good("channel " + channel)
		b.health.good("slack")
	}
	return at, err
}

func (b *Bot) postOnce(ctx context.Context, channel, thread string, mark slack.SlackMetadata, m message) (place, error) {
	if err := b.pace.turn(ctx, channel); err != nil {
		// No turn within the time there is: nothing was sent.
		return place{}, &slack.RateLimitedError{RetryAfter: time.Second}
	}
	options := []slack.MsgOption{
		slack.MsgOptionText(m.Text, false), slack.MsgOptionMetadata(mark),
		slack.MsgOptionDisableLinkUnfurl(), slack.MsgOptionDisableMediaUnfurl(),
	}
	if len(m.Blocks) > 0 {
		options = append(options, slack.MsgOptionBlocks(m.Blocks...))
	}
	if thread != "" {
		options = append(options, slack.MsgOptionTS(thread))
	}
	var at place
	err := b.call("chat.postMessage", func() error {
		posted, ts, sent, err := b.ws.api.PostMessageWithResponseContext(ctx, channel, options...)
		at = place{channel: posted, ts: ts, thread: sent.ThreadTimestamp}
		return err
	})
	if err == nil && at.channel == "" {
		at.channel = channel
	}
	return at, err
}

// later decides when a call that did not succeed is repeated, and tells the
// operator if it is for him to mend. What any other message for the channel would
// meet too makes its lane rest: so that after an outage cards and lines come in
// their order.
func (b *Bot) later(ctx context.Context, e approvals.Effect, channel string, err error) approvals.Outcome {
	f := diagnose(err)
	words := errors.New(f.words(channel))
	pause := approvals.Backoff(e.Attempt, retryFirst, retryMost)
	subject := "slack"
	again := approvals.AgainInOrder
	switch f.kind {
	case limited:
		if e.Kind == approvals.CardUpdate {
			// Another method than that of cards and lines, with a rate of its own.
			again = approvals.Again
		}
		return again(f.after, words)
	case unreachable:
		subject = "channel " + channel
		pause = approvals.Backoff(e.Attempt, mendFirst, retryMost)
		if f.restricted() {
			again, pause = approvals.Again, approvals.Backoff(e.Attempt, mendFirst, retryMend)
		}
	case denied:
		pause = approvals.Backoff(e.Attempt, mendFirst, retryMost)
	case malformed, gone, nobody:
		if e.Kind == approvals.ThreadReply || e.Kind == approvals.Notice {
			return approvals.Dead(words)
		}
		subject = "channel " + channel
		again = approvals.Again
	case transient:
		if f.code != "" && e.Attempt >= ownFault && b.answers(ctx) {
			again = approvals.Again
		}
	}
	if b.health.bad(subject, words.Error()) {
		b.log.Warn("Slack does not take a message", "channel", channel, "why", words)
	}
	return again(pause, words)
}

// ownFault is from which attempt on a refusal that is not known may lie in the
// message rather than in Slack.
const ownFault = 3

// answers reports whether Slack works apart from what just failed. Otherwise one
// message that Slack cannot stomach would hold up all that come after it.
func (b *Bot) answers(ctx context.Context) bool {
	return b.call("auth.test", func() error {
		_, err := b.ws.api.AuthTestContext(ctx)
		return err
	}) == nil
}

// explain is what Slack says about blocks of ours that it refuses: pointers
// into them, never their text.
func explain(err error) string {
	var answer slack.SlackErrorResponse
	if errors.As(err, &answer) {
		return cut(oneLine(answer.Err+" "+strings.Join(answer.ResponseMetadata.Messages, " ")), limitError)
	}
	return diagnose(err).words("")
}
