package bot

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/slack-go/slack"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// How far back is looked for a message whose answer was lost.
const (
	lookPages = 10
	lookLimit = 200
	lookSlack = 2 * time.Minute // our clock against Slack's
)

// findCard looks for a card that was posted although its answer was lost. A
// zero TS means there is none, or that reading is not allowed: then a second
// card is the lesser evil.
func (b *Bot) findCard(ctx context.Context, r approvals.Request) (approvals.SlackRef, error) {
	ts, err := b.findMessage(ctx, r.Channel, r.CreatedAt, func(m slack.Message) bool { return marked(m, MetadataCard, keyRequest, r.ID) })
	return approvals.SlackRef{Channel: r.Channel, TS: ts}, err
}

func (b *Bot) findMessage(ctx context.Context, channel string, from time.Time, match func(slack.Message) bool) (ts string, err error) {
	look := slack.GetConversationHistoryParameters{
		ChannelID: channel, Oldest: stamp(from.Add(-lookSlack)), Limit: lookLimit, IncludeAllMetadata: true,
	}
	if !b.introduced() {
		return "", errStranger
	}
	for range lookPages {
		var page *slack.GetConversationHistoryResponse
		err := b.call("conversations.history", func() (err error) {
			page, err = b.ws.api.GetConversationHistoryContext(ctx, &look)
			return err
		})
		if err != nil {
			return "", b.unlooked("conversations.history", channel, err)
		}
		for _, m := range page.Messages {
			if b.own(m) && match(m) {
				return m.Timestamp, nil
			}
		}
		if look.Cursor = page.ResponseMetaData.NextCursor; look.Cursor == "" {
			break
		}
	}
	return "", nil
}

// findReply looks where an event was told already: in the thread, or in the
// channel when the card was deleted. A zero place is nowhere.
func (b *Bot) findReply(ctx context.Context, parent approvals.SlackRef, t approvals.Told) (place, error) {
	look := slack.GetConversationRepliesParameters{
		ChannelID: parent.Channel, Timestamp: parent.TS, Oldest: stamp(t.Event.At().Add(-lookSlack)), Limit: lookLimit, IncludeAllMetadata: true,
	}
	if !b.introduced() {
		return place{}, errStranger
	}
	tells := repliesTo(t)
	for range lookPages {
		var page []slack.Message
		var next string
		err := b.call("conversations.replies", func() (err error) {
			page, _, next, err = b.ws.api.GetConversationRepliesContext(ctx, &look)
			return err
		})
		if err != nil && diagnose(err).threadless() {
			ts, err := b.findMessage(ctx, parent.Channel, t.Event.At(), tells)
			return place{channel: parent.Channel, ts: ts}, err
		}
		if err != nil {
			return place{}, b.unlooked("conversations.replies", parent.Channel, err)
		}
		for _, m := range page {
			if b.own(m) && tells(m) {
				return place{parent.Channel, m.Timestamp, parent.TS}, nil
			}
		}
		if look.Cursor = next; next == "" {
			break
		}
	}
	return place{}, nil
}

// repliesTo recognises the message that tells an event.
func repliesTo(t approvals.Told) func(slack.Message) bool {
	return func(m slack.Message) bool { return marked(m, MetadataReply, keySeq, fmt.Sprint(t.Event.Seq)) }
}

// unlooked lets only a fault that may pass stop a post. What never changes by
// waiting (no scope, no channel, an answer that cannot be read) does not: the
// post itself says what is wrong.
func (b *Bot) unlooked(method, channel string, err error) error {
	switch f := diagnose(err); {
	case f.kind == limited, f.kind == transient && (f.code != "" || ctxOrNetwork(err)):
		return err
	case f.kind == transient, f.kind == denied:
		b.log.Info("cannot look before posting again", "method", method, "channel", channel, "why", f.words(channel))
	}
	return nil
}

// errStranger puts a look off: until Slack has said who we are, our own messages
// cannot be told from others', and what was posted already would be posted again.
var errStranger = errors.New("slack has not said yet who we are")

func (b *Bot) introduced() bool { return b.ws.Identity().BotID != "" }

// own keeps messages of other apps from being taken for ours: anybody may copy
// the metadata.
func (b *Bot) own(m slack.Message) bool {
	id := b.ws.Identity()
	return id.BotID != "" && m.BotID == id.BotID
}

func marked(m slack.Message, eventType, key, value string) bool {
	found, _ := m.Metadata.EventPayload[key].(string)
	return m.Metadata.EventType == eventType && found == value
}

// stamp is a moment as Slack writes message times.
func stamp(t time.Time) string {
	return fmt.Sprintf("%d.%06d", t.Unix(), t.Nanosecond()/1000)
}
