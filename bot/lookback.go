package bot

import (
	"context"
	"errors"
	"fmt"
	"strconv"
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
	ts, err := b.findMessage(ctx, r.Channel, r.CreatedAt, func(m slack.Message) bool {
		return m.Metadata.EventType == MetadataCard && m.Metadata.EventPayload[keyRequest] == r.ID
	})
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

// findReplies looks which events a thread tells already, by number. Where the
// card was deleted they stand in the channel.
func (b *Bot) findReplies(ctx context.Context, card approvals.SlackRef, from time.Time) (map[int64]place, error) {
	look := slack.GetConversationRepliesParameters{
		ChannelID: card.Channel, Timestamp: card.TS, Oldest: stamp(from.Add(-lookSlack)), Limit: lookLimit, IncludeAllMetadata: true,
	}
	if !b.introduced() {
		return nil, errStranger
	}
	found := map[int64]place{}
	for range lookPages {
		var page []slack.Message
		var next string
		err := b.call("conversations.replies", func() (err error) {
			page, _, next, err = b.ws.api.GetConversationRepliesContext(ctx, &look)
			return err
		})
		if err != nil && diagnose(err).threadless() {
			_, err := b.findMessage(ctx, card.Channel, from, func(m slack.Message) bool {
				if seq, ok := tells(m); ok {
					found[seq] = place{channel: card.Channel, ts: m.Timestamp}
				}
				return false // all of them
			})
			return found, err
		}
		if err != nil {
			return found, b.unlooked("conversations.replies", card.Channel, err)
		}
		for _, m := range page {
			if seq, ok := tells(m); ok && b.own(m) {
				found[seq] = place{card.Channel, m.Timestamp, card.TS}
			}
		}
		if look.Cursor = next; next == "" {
			break
		}
	}
	return found, nil
}

// tells reads which event a message tells.
func tells(m slack.Message) (seq int64, ok bool) {
	text, _ := m.Metadata.EventPayload[keySeq].(string)
	seq, err := strconv.ParseInt(text, 10, 64)
	return seq, err == nil && m.Metadata.EventType == MetadataReply
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

// stamp is a moment as Slack writes message times.
func stamp(t time.Time) string {
	return fmt.Sprintf("%d.%06d", t.Unix(), t.Nanosecond()/1000)
}
