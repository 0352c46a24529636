package bot

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/slack-go/slack"
)

// tell answers a click in private. It has its own time: that of the click may be over.
func (b *Bot) tell(p interaction, l line) {
	ctx, cancel := context.WithTimeout(b.working, tellTime)
	defer cancel()
	b.whisper(ctx, p.ResponseURL, p.channel(), p.User.ID, only(l))
}

// whisper shows a message to one person: through the response URL, else in the
// channel, else in a direct message. A click is never swallowed silently.
func (b *Bot) whisper(ctx context.Context, responseURL, channel, user string, m message) {
	if b.mayAnswer(responseURL) {
		answer := &slack.WebhookMessage{Text: m.Text, Blocks: &slack.Blocks{BlockSet: m.Blocks}, ResponseType: slack.ResponseTypeEphemeral}
		client := *b.ws.settings.HTTPClient
		client.Transport = readOK{cmp.Or[http.RoundTripper](client.Transport, http.DefaultTransport)}
		err := b.call("response_url", func() error {
			return slack.PostWebhookCustomHTTPContext(ctx, responseURL, &client, answer)
		})
		if err == nil {
			return
		}
	}
	if !userID.MatchString(user) || !b.introduced() {
		return
	}
	for _, part := range m.parts() {
		if err := b.whisperPart(ctx, channel, user, part); err != nil {
			b.log.Warn("answer a person", "user", user, "why", diagnose(err).words(channel))
			return
		}
	}
}

func (b *Bot) whisperPart(ctx context.Context, channel, user string, m message) error {
	options := []slack.MsgOption{slack.MsgOptionText(m.Text, false), slack.MsgOptionBlocks(m.Blocks...)}
	if channel != "" {
		err := b.call("chat.postEphemeral", func() error {
			_, err := b.ws.api.PostEphemeralContext(ctx, channel, user, options...)
			return err
		})
		if err == nil {
			return nil
		}
	}
	return b.call(methodPost, func() error {
		_, _, err := b.ws.api.PostMessageContext(ctx, user, append(options, slack.MsgOptionDisableLinkUnfurl(), slack.MsgOptionDisableMediaUnfurl())...)
		return err
	})
}

// readOK makes an error of an answer with HTTP 200 whose body says that nothing was
// done. The library does not read what a response URL answers.
type readOK struct{ next http.RoundTripper }

func (t readOK) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := t.next.RoundTrip(r)
	if err != nil || answer.StatusCode != http.StatusOK {
		return answer, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	var said slack.SlackResponse
	if json.Unmarshal(body, &said) == nil && said.Error != "" { // "ok" alone is no JSON
		return nil, said.Err()
	}
	answer.Body = io.NopCloser(bytes.NewReader(body))
	return answer, nil
}

// mayAnswer lets a response URL through only if it leads to Slack: it comes
// from outside and we send to it.
func (b *Bot) mayAnswer(responseURL string) bool {
	u, err := url.Parse(responseURL)
	if err != nil || u.User != nil || u.Host == "" {
		return false
	}
	if u.Scheme == "https" && (u.Hostname() == "hooks.slack.com" || strings.HasSuffix(u.Hostname(), ".slack.com")) && u.Port() == "" {
		return true
	}
	own, err := url.Parse(b.ws.settings.APIURL)
	return err == nil && u.Scheme == own.Scheme && u.Host == own.Host
}
