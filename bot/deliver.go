package bot

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/slack-go/slack"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/plain"
)

var _ approvals.Deliverer = (*Bot)(nil)

const (
	retryFirst = time.Second
	retryMost  = 30 * time.Second // after an outage nobody waits longer
	fixFirst   = 5 * time.Second  // for what the operator has to fix first
	fixMost    = 5 * time.Minute
	cardSoon   = time.Second // until a card that is being posted stands

	lostMost = time.Hour          // between tries to reach a place that is gone, about what is over
	lostFor  = 7 * 24 * time.Hour // after which that is given up
)

// Deliver brings Slack up to date. Slack has no idempotency key: when the
// delivery before may have taken effect, it looks before it posts.
func (b *Bot) Deliver(ctx context.Context, w approvals.Work) approvals.Outcome {
	out := b.deliver(ctx, w)
	out.Rests = b.pace.toTell()
	return out
}

func (b *Bot) deliver(ctx context.Context, w approvals.Work) approvals.Outcome {
	switch w.Kind {
	case approvals.WorkCard:
		return b.deliverCard(ctx, w)
	case approvals.WorkThread:
		return b.deliverThread(ctx, w)
	case approvals.WorkNotice:
		return b.deliverNotice(ctx, w)
	case approvals.WorkAlarm:
		return b.deliverAlarm(ctx, w)
	}
	return approvals.Dead(fmt.Errorf("slack does not know work of kind %q", w.Kind))
}

// Turn is when the next work of a lane may be claimed.
func (b *Bot) Turn(lane string) time.Time {
	return latest(b.pace.turn(approvals.Channel(lane)), b.pace.until(lane))
}

// Rest has calls of a method wait, because Slack asked some node for it.
func (b *Bot) Rest(method string, d time.Duration) { b.pace.rest(method, d) }

func (b *Bot) deliverCard(ctx context.Context, w approvals.Work) approvals.Outcome {
	c, err := b.service.Card(ctx, w.Subject)
	switch {
	case err != nil:
		return unread(w, err)
	case c.Request.Slack.TS == "":
		return b.postCard(ctx, w, c)
	}
	return b.updateCard(ctx, w, c)
}

func (b *Bot) postCard(ctx context.Context, w approvals.Work, c approvals.Card) approvals.Outcome {
	rendered, m := c.Request, b.view.card(c)
	ref, shows := approvals.SlackRef{Channel: rendered.Channel}, m.shows
	if w.Attempt > 1 {
		var err error
		if ref, err = b.findCard(ctx, rendered); err != nil {
			b.holdBack(w.Lane, err)
			return b.later(ctx, w, live(rendered, c.RetryOffered), rendered.Channel, err)
		}
	}
	if ref.TS != "" {
		rendered.Version, shows = 0, "" // what was found may show an older state
	} else {
		if !b.pace.take(rendered.Channel, approvals.Cards) {
			return b.notNow(w, rendered.Channel, approvals.Cards)
		}
		mark := slack.SlackMetadata{EventType: MetadataCard, EventPayload: map[string]any{keyRequest: rendered.ID}}
		posted, err := b.post(ctx, rendered.Channel, "", mark, m, b.view.spare(c))
		if err != nil {
			out := b.later(ctx, w, live(rendered, c.RetryOffered), rendered.Channel, err)
			out.Record = b.service.PostFailed(rendered.ID, diagnose(err).words(rendered.Channel))
			return out
		}
		ref = approvals.SlackRef{Channel: posted.channel, TS: posted.ts}
	}
	ref.Permalink = b.permalink(ctx, ref)
	return approvals.Outcome{Record: b.service.Posted(rendered, ref, shows)}
}

// holdBack makes the later cards of a lane wait behind one that Slack does not let us
// look for now, so that those that this node posts stand in the order of their requests.
// They wait a minute at most for each such refusal, which is Slack's window.
func (b *Bot) holdBack(lane string, err error) {
	f := diagnose(err)
	if _, t := approvals.Channel(lane); t == approvals.Cards && f.kind == limited && f.after <= time.Minute {
		b.pace.rest(lane, f.after)
	}
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

// updateCard renders the present state, so that a lost, late or doubled update
// does no harm. A card that shows it already costs no call.
func (b *Bot) updateCard(ctx context.Context, w approvals.Work, c approvals.Card) approvals.Outcome {
	id, ref, m := c.Request.ID, c.Request.Slack, b.view.card(c)
	if m.shows == c.Request.Shown {
		return approvals.Done()
	}
	err := b.update(ctx, ref.Channel, ref.TS, m)
	if err != nil && diagnose(err).kind == malformed {
		b.log.Error("Slack refuses a card", "request", id, "why", explain(err))
		err = b.update(ctx, ref.Channel, ref.TS, b.view.spare(c))
	}
	if err == nil {
		return approvals.Outcome{Record: b.service.Shown(id, m.shows)}
	}
	switch f := diagnose(err); f.kind {
	case gone, malformed:
		if f.code == "message_not_found" && decidable(c) {
			// It was deleted, and people cannot decide without its buttons.
			return approvals.Outcome{Record: b.service.CardLost(id, ref)}
		}
		// The thread tells what the card cannot.
		return approvals.Dead(fmt.Errorf("update the card of %s: %s", id, f.words(ref.Channel)))
	}
	return b.later(ctx, w, live(c.Request, c.RetryOffered), ref.Channel, err)
}

// decidable reports whether the card has buttons that decide.
func decidable(c approvals.Card) bool {
	return c.Request.Status == approvals.Pending || c.RetryOffered
}

func (b *Bot) update(ctx context.Context, channel, ts string, m message) error {
	err := b.call(methodUpdate, func() error {
		_, _, _, err := b.ws.api.UpdateMessageContext(ctx, channel, ts, slack.MsgOptionText(m.Text, false), slack.MsgOptionBlocks(m.Blocks...))
		return err
	})
	if err == nil {
		b.good(channel)
	}
	return err
}

// deliverThread posts the lines that a thread lacks, in order, as many as the
// channel takes now. The cursor moves with each line that stands.
func (b *Bot) deliverThread(ctx context.Context, w approvals.Work) approvals.Outcome {
	t, err := b.service.Untold(ctx, w.Subject)
	if err != nil {
		return unread(w, err)
	}
	if len(t.Lines) == 0 {
		return approvals.Outcome{Due: t.Due, Rank: w.Rank, Record: b.service.TellUntil(w.Subject, t.Card, t.Newest, false)}
	}
	first := t.Lines[0]
	alive := live(first.Request, first.RetryOffered)
	switch {
	case t.Card.TS == "" && !alive:
		return approvals.Done() // the post of a card, if it is not given up, asks for it anew
	case t.Card.TS == "":
		return approvals.Outcome{Due: time.Now().Add(cardSoon), Rank: w.Rank, Failed: w.Attempt > 1}
	}
	stand := map[int64]place{}
	if w.Attempt > 1 {
		if stand, err = b.findReplies(ctx, t.Card, first.Event.At()); err != nil {
			return b.later(ctx, w, alive, t.Card.Channel, err)
		}
	}
	told, gone, out := b.tellLines(ctx, w, t.Card, t.Lines, stand)
	switch {
	case out.Due.IsZero():
		out = approvals.Outcome{Due: t.Due, Rank: w.Rank, Record: b.service.TellUntil(w.Subject, t.Card, t.Newest, gone), Err: out.Err}
	case told > 0:
		out.Record = b.service.TellUntil(w.Subject, t.Card, t.Lines[told-1].Event.Seq, gone)
	}
	return out
}

// tellLines posts lines until one fails or the channel takes no more for now, and
// says how many stand. What Slack will never take counts as told, so that it does
// not hold back those behind it; so do all lines for a place that is given up. gone: a
// line found no thread.
func (b *Bot) tellLines(ctx context.Context, w approvals.Work, card approvals.SlackRef, lines []approvals.Told, stand map[int64]place) (told int, gone bool, out approvals.Outcome) {
	posted := 0
	for i, t := range lines {
		if at, ok := stand[t.Event.Seq]; ok {
			gone = b.named(ctx, t, at, b.view.stray(t, time.Now())) || gone
			continue
		}
		// Other apps of the channel have their turn after a few lines.
		if posted == postBurst || !b.pace.take(card.Channel, approvals.Lines) {
			return i, gone, approvals.Outcome{Due: b.nextTurn(card.Channel, approvals.Lines), Rank: rankOf(lines[i:])}
		}
		posted++
		astray, err := b.postLine(ctx, card, t)
		gone = gone || astray
		if err != nil {
			out, f := b.later(ctx, w, live(t.Request, t.RetryOffered), card.Channel, err), diagnose(err)
			if !out.Due.IsZero() || f.kind == unreachable {
				return i, gone, out
			}
			b.log.Error("Slack does not take a line", "request", w.Subject, "event", t.Event.Seq, "why", f.words(card.Channel))
		}
	}
	return len(lines), gone, approvals.Done()
}

// rankOf is the rank of lines that are left: that of the most urgent.
func rankOf(lines []approvals.Told) int {
	rank := approvals.RankRemark
	for _, t := range lines {
		rank = min(rank, t.Rank)
	}
	return rank
}

// postLine posts one line of a thread. Where there is no thread, it goes astray: to the
// channel, where it names its request.
func (b *Bot) postLine(ctx context.Context, card approvals.SlackRef, t approvals.Told) (astray bool, err error) {
	now := time.Now()
	m, stray := b.view.reply(t, now), b.view.stray(t, now)
	posted, err := b.post(ctx, card.Channel, card.TS, replyMark(t.Event.Seq), m)
	if err != nil && diagnose(err).threadless() {
		_, err = b.post(ctx, card.Channel, "", replyMark(t.Event.Seq), stray)
		return true, err
	}
	return err == nil && b.named(ctx, t, posted, stray), err
}

// named makes a line name its request where the card was deleted and Slack put
// the line into the channel; it reports whether that is so.
func (b *Bot) named(ctx context.Context, t approvals.Told, at place, stray message) (astray bool) {
	if at.thread != "" {
		return false
	}
	if err := b.update(ctx, at.channel, at.ts, stray); err != nil {
		b.log.Warn("name the request of a line without a card", "request", t.Request.ID, "why", diagnose(err).words(at.channel))
	}
	return true
}

func replyMark(seq int64) slack.SlackMetadata {
	return slack.SlackMetadata{EventType: MetadataReply, EventPayload: map[string]any{keySeq: fmt.Sprint(seq)}}
}

// deliverNotice tells an event in a channel, or to a person in a direct message.
func (b *Bot) deliverNotice(ctx context.Context, w approvals.Work) approvals.Outcome {
	seq, to, err := approvals.ParseNotice(w.Subject)
	toPerson := userID.MatchString(to)
	if err != nil || !toPerson && !approvals.ValidChannel(to) {
		return approvals.Dead(fmt.Errorf("the notice %q names no event, channel or person", w.Subject))
	}
	t, err := b.service.Tell(ctx, seq)
	if err != nil {
		return unread(w, err)
	}
	alive := live(t.Request, t.RetryOffered)
	if w.Attempt > 1 && !toPerson {
		// Direct messages cannot be read back: there a second one is tolerated.
		told, err := b.findMessage(ctx, to, t.Event.At(), func(m slack.Message) bool {
			told, ok := tells(m)
			return ok && told == seq
		})
		switch {
		case err != nil:
			return b.later(ctx, w, alive, to, err)
		case told != "":
			return approvals.Done()
		}
	}
	if !b.pace.take(to, approvals.Lines) {
		return b.notNow(w, to, approvals.Lines)
	}
	m := b.view.stray(t, time.Now())
	if _, err := b.post(ctx, to, "", replyMark(seq), m); err != nil {
		if f := diagnose(err); toPerson && f.kind == unreachable {
			return approvals.Dead(fmt.Errorf("write to %s: %s", to, f.words("")))
		}
		return b.later(ctx, w, alive, to, err)
	}
	return approvals.Done()
}

// deliverAlarm tells a channel that the log is not what it should be. Nothing can
// be recorded then, so that the alarm may be told twice.
func (b *Bot) deliverAlarm(ctx context.Context, w approvals.Work) approvals.Outcome {
	fault, err := b.service.Alarm(ctx)
	if err != nil {
		return unread(w, err)
	}
	if fault == "" {
		return approvals.Done() // the operator accepted the database meanwhile
	}
	if !b.pace.take(w.Subject, approvals.Lines) {
		return b.notNow(w, w.Subject, approvals.Lines)
	}
	text := say("⚠️ Nothing is approved any more: ", quoted(fault, limitMessage), ". The operator has to look at the gateway now.")
	if _, err := b.post(ctx, w.Subject, "", slack.SlackMetadata{}, only(text)); err != nil {
		return b.later(ctx, w, true, w.Subject, err)
	}
	return approvals.Done()
}

// place is where a message came to stand.
type place struct{ channel, ts, thread string }

// post sends a message, and in the simpler forms one after the other if Slack
// refuses its blocks, at last as its text alone: better plain than lost.
func (b *Bot) post(ctx context.Context, channel, thread string, mark slack.SlackMetadata, m message, simpler ...message) (place, error) {
	at, err := b.postOnce(ctx, channel, thread, mark, m)
	for _, simple := range append(simpler, message{Text: m.Text}) {
		if err == nil || diagnose(err).kind != malformed {
			break
		}
		b.log.Error("Slack refuses a message", "channel", channel, "why", explain(err))
		at, err = b.postOnce(ctx, channel, thread, mark, simple)
	}
	if err == nil {
		b.good(channel)
	}
	return at, err
}

func (b *Bot) postOnce(ctx context.Context, channel, thread string, mark slack.SlackMetadata, m message) (place, error) {
	options := []slack.MsgOption{
		slack.MsgOptionText(m.Text, false), slack.MsgOptionDisableLinkUnfurl(), slack.MsgOptionDisableMediaUnfurl(),
	}
	if mark.EventType != "" {
		options = append(options, slack.MsgOptionMetadata(mark))
	}
	if len(m.Blocks) > 0 {
		options = append(options, slack.MsgOptionBlocks(m.Blocks...))
	}
	if thread != "" {
		options = append(options, slack.MsgOptionTS(thread))
	}
	var at place
	err := b.call(methodPost, func() error {
		posted, ts, sent, err := b.ws.api.PostMessageWithResponseContext(ctx, channel, options...)
		at = place{channel: posted, ts: ts, thread: sent.ThreadTimestamp}
		return err
	})
	if err == nil && at.channel == "" {
		at.channel = channel
	}
	return at, err
}

// good notes that Slack took a message for a channel.
func (b *Bot) good(channel string) {
	b.pace.good(channel)
	b.health.good("channel " + channel)
	b.health.good("slack")
}

// unread is the outcome when the store could not say what is to be shown.
func unread(w approvals.Work, err error) approvals.Outcome {
	err = fmt.Errorf("read what to show: %w", err)
	if errors.Is(err, approvals.ErrNotFound) {
		return approvals.Dead(err)
	}
	return approvals.Again(approvals.Backoff(w.Attempt, retryFirst, time.Minute), err)
}

// notNow is the outcome when the channel takes no message for now. Nothing was
// sent, but what was sent before may have taken effect. It keeps its place among
// the work of its lane, which has no turn for so long.
func (b *Bot) notNow(w approvals.Work, channel string, t approvals.Traffic) approvals.Outcome {
	due := b.nextTurn(channel, t)
	if !w.Due.IsZero() && b.Turn(w.Lane).After(time.Now()) {
		due = w.Due
	}
	return approvals.Outcome{Due: due, Rank: w.Rank, Failed: w.Attempt > 1}
}

// nextTurn is about when a channel takes the next of a kind of traffic, from any of the nodes
// that share its rate. This one still waits for its own turn.
func (b *Bot) nextTurn(channel string, t approvals.Traffic) time.Time {
	now := time.Now()
	return now.Add(max(0, b.pace.turn(channel, t).Sub(now)) / time.Duration(b.nodes()))
}

// later decides when what did not succeed is tried again, and tells the operator
// if it is for them to fix. What any other message would meet too makes the
// channel or all of Slack rest; what may be the fault of this one backs off alone. alive:
// it is never given up because its place is gone; see [live].
func (b *Bot) later(ctx context.Context, w approvals.Work, alive bool, channel string, err error) approvals.Outcome {
	f := diagnose(err)
	words := errors.New(f.words(channel))
	subject, rests := "slack", allOfSlack
	first, most := retryFirst, retryMost // of what backs off alone
	switch f.kind {
	case limited:
		return b.resting(w, f.after, words)
	case malformed, gone, nobody:
		if w.Kind == approvals.WorkThread || w.Kind == approvals.WorkNotice {
			return approvals.Dead(words)
		}
		subject, rests = "channel "+channel, ""
	case unreachable:
		subject, rests = "channel "+channel, channel
		if f.restricted() {
			rests, first, most = "", fixFirst, fixMost
		}
	case transient:
		switch {
		case f.code == "": // the network
		case w.Attempt < ownFault:
			rests = channel
		case b.answers(ctx):
			rests = ""
		}
	}
	if b.health.bad(subject, words.Error()) {
		b.log.Warn("Slack does not take a message", "channel", channel, "why", words)
	}
	switch {
	case f.kind == unreachable && !alive:
		return lost(w, words)
	case rests == "":
		return approvals.Again(approvals.Backoff(w.Attempt, first, most), words)
	}
	return b.resting(w, b.pace.trouble(rests), words)
}

// live reports whether people may still decide on a request, or its deploy runs.
func live(r approvals.Request, retryOffered bool) bool {
	return r.Status.Open() || r.Status == approvals.Released || retryOffered
}

// lost is the outcome when the place is gone where something would be told that is over:
// it is tried less and less often, and given up after a week. The note says since when.
func lost(w approvals.Work, words error) approvals.Outcome {
	since, err := time.Parse(time.RFC3339, w.Note)
	switch {
	case err != nil:
		since = time.Now()
	case time.Since(since) > lostFor:
		return approvals.Dead(words)
	}
	out := approvals.Again(approvals.Backoff(w.Attempt, retryFirst, lostMost), words)
	out.Note = since.Format(time.RFC3339)
	return out
}

// resting is the outcome when work has to wait together with others. It keeps its
// place among them, because its lane has no turn for so long.
func (b *Bot) resting(w approvals.Work, pause time.Duration, err error) approvals.Outcome {
	now := time.Now()
	due := w.Due
	if due.IsZero() || !b.Turn(w.Lane).After(now) {
		due = now.Add(pause) // nothing else holds it back
	}
	return approvals.Outcome{Due: due, Failed: true, Err: err}
}

// ownFault is from which attempt on a refusal that is not known may lie in the
// message rather than in Slack.
const ownFault = 3

// answers reports whether Slack works apart from what just failed. Otherwise one
// message that Slack cannot take would hold up all that come after it.
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
		return plain.Cut(plain.OneLine(answer.Err+" "+strings.Join(answer.ResponseMetadata.Messages, " ")), limitError)
	}
	return diagnose(err).words("")
}
