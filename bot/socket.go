package bot

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/slack-go/slack"
	"github.com/slack-go/slack/socketmode"
)

const (
	// ackTime bounds how long an acknowledgement waits for a connection.
	ackTime = 2 * time.Second
	// flushTime lets the last answers leave before the connection is closed.
	flushTime = 250 * time.Millisecond
	// fatalPause is how long we leave Slack alone after it refused us for good.
	fatalPause = 5 * time.Minute
	// frameLimit bounds a frame; the largest real ones echo a view of 250 kB.
	frameLimit = 4 << 20

	// reconnectMost bounds the pause between two tries to connect: the library
	// would let it grow to five minutes, and as long after an outage clicks would
	// go nowhere while cards come already.
	reconnectMost = 30 * time.Second
	// A connection that ends sooner than shortLife is no connection; after so many
	// of them in a row the operator is told.
	shortLife = 10 * time.Second
	shortMany = 2

	subjectSocket = "socket"
)

// errAnew ends a client whose pauses have grown too long.
var errAnew = errors.New("connect anew")

// socketLife tells a connection that stays from those that Slack ends at once.
type socketLife struct {
	mu      sync.Mutex
	began   time.Time // of the connection that stands
	greeted bool
	short   int // lives in a row that were
}

// begins notes a new connection. wavers: those before it were short.
func (l *socketLife) begins() (began time.Time, wavers bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.began, l.greeted = time.Now(), false
	return l.began, l.short >= shortMany
}

func (l *socketLife) hello() (wavers bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.greeted = true
	return l.short >= shortMany
}

// ends notes that there is no connection any more.
func (l *socketLife) ends() {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.began.IsZero():
	case time.Since(l.began) < shortLife:
		l.short++
	default:
		l.short = 0
	}
	l.began = time.Time{}
}

// stays ends the doubt if the connection of then still stands; greeted: and Slack
// said hello.
func (l *socketLife) stays(began time.Time) (greeted bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.began.Equal(began) {
		return false
	}
	l.short = 0
	return l.greeted
}

// RunSocket keeps a Socket Mode connection until ctx ends; then it takes no new
// events, lets running ones finish and closes. What Slack refuses for good is
// shown by Health and tried again every few minutes.
func (b *Bot) RunSocket(ctx context.Context) error {
	api := b.ws.client(&http.Client{Transport: newThrottle(b.ws.settings.HTTPClient)})
	b.connected(false)
	for {
		err := b.runSocket(ctx, api)
		b.connected(false)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, errAnew) {
			select {
			case <-time.After(reconnectMost):
			case <-ctx.Done():
				return nil
			}
			continue
		}
		words := "the connection ended"
		if err != nil {
			words = fatalWords(err)
		}
		b.health.bad(subjectSocket, words)
		b.log.Error("Slack refuses the socket: clicks do not arrive", "why", words)
		select {
		case <-time.After(fatalPause):
		case <-ctx.Done():
			return nil
		}
	}
}

// runSocket returns when Slack refuses us for good or ctx ends.
func (b *Bot) runSocket(ctx context.Context, api *slack.Client) error {
	// The connection outlives ctx for as long as answers are still to be sent.
	inner, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() {
		b.Close()
		// The library does not tell when a queued answer has left.
		time.Sleep(flushTime)
		cancel(nil)
	})
	defer stop()
	client := socketmode.New(api, socketmode.OptionReadLimit(frameLimit))
	over := make(chan struct{})
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		for {
			select {
			case e := <-client.Events: // never closed by the library
				b.take(client, e, cancel)
			case <-over:
				return
			}
		}
	}()
	err := client.RunContext(inner)
	close(over)
	<-drained
	if cause := context.Cause(inner); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

// take handles one event of the connection. It must not wait: while it does,
// nothing is read, not even the need to reconnect.
func (b *Bot) take(client *socketmode.Client, e socketmode.Event, fatal context.CancelCauseFunc) {
	switch e.Type {
	case socketmode.EventTypeConnecting:
		b.socket.ends()
		b.connected(false)
	case socketmode.EventTypeConnected:
		b.dialled()
	case socketmode.EventTypeConnectionError:
		if failed, ok := e.Data.(*slack.ConnectionErrorEvent); ok {
			b.notConnected(failed, fatal)
		}
	case socketmode.EventTypeHello:
		b.hello(e.Request)
	case socketmode.EventTypeErrorWriteFailed:
		b.log.Warn("an acknowledgement to Slack was lost")
	case socketmode.EventTypeIncomingError:
		b.log.Info("the socket to Slack broke; connecting anew")
	case socketmode.EventTypeInteractive, socketmode.EventTypeSlashCommand, socketmode.EventTypeEventsAPI:
		if e.Request != nil {
			b.envelope(client, string(e.Type), e.Request.EnvelopeID, e.Request.Payload)
		}
	case socketmode.EventTypeErrorBadMessage:
		// The library could not decode it; the raw frame still says what it is,
		// and unless it is acknowledged the person sees a fault.
		if bad, ok := e.Data.(*socketmode.ErrorBadMessage); ok {
			b.rawFrame(client, bad.Message)
		}
	}
}

func (b *Bot) rawFrame(client *socketmode.Client, raw json.RawMessage) {
	var frame struct {
		Type       string          `json:"type"`
		EnvelopeID string          `json:"envelope_id"`
		Payload    json.RawMessage `json:"payload"`
	}
	if err := json.Unmarshal(raw, &frame); err != nil || frame.EnvelopeID == "" {
		b.log.Warn("a frame from Slack cannot be read")
		return
	}
	b.log.Info("a frame from Slack is newer than the library; its envelope is read by hand", "kind", cut(oneLine(frame.Type), limitName))
	b.envelope(client, frame.Type, frame.EnvelopeID, frame.Payload)
}

// envelope hands a payload to the handler of its kind.
func (b *Bot) envelope(client *socketmode.Client, kind, id string, payload []byte) {
	answer := func(answer any) {
		ctx, cancel := context.WithTimeout(context.Background(), ackTime)
		defer cancel()
		if err := client.AckCtx(ctx, id, answer); err != nil {
			b.log.Warn("acknowledge to Slack", "kind", kind, "err", err)
		}
	}
	switch kind {
	case string(socketmode.EventTypeInteractive):
		b.interact(payload, answer)
	case string(socketmode.EventTypeSlashCommand):
		var c command
		if err := json.Unmarshal(payload, &c); err != nil {
			c = command{}
		}
		b.commanded(c, answer)
	case string(socketmode.EventTypeEventsAPI):
		b.spare.try(func() { answer(nil) })
		b.happened(payload)
	default:
		b.spare.try(func() { answer(nil) })
	}
}

// hello is Slack's greeting: the connection is good now.
func (b *Bot) hello(r *socketmode.Request) {
	if r != nil {
		if r.ConnectionInfo.AppID != "" {
			b.ws.setAppID(r.ConnectionInfo.AppID)
		}
		if r.NumConnections > 1 {
			// Each payload goes to any one of them.
			b.log.Warn("more than one socket of this app is open: clicks are shared with another process, or an old connection lingers", "num_connections", r.NumConnections)
		} else {
			b.log.Info("connected to Slack", "num_connections", r.NumConnections)
		}
	}
	if b.socket.hello() {
		return // it has to stay first
	}
	b.health.good(subjectSocket)
	b.connected(true)
}

// dialled watches a new connection if those before it did not stay. The reason
// does not reach us; of those there are, too many sockets is the one that lasts.
func (b *Bot) dialled() {
	began, wavers := b.socket.begins()
	if !wavers {
		return
	}
	const words = "Slack ends each connection at once, as it does when too many sockets of an app are open (10 at most): stop other programs that use this SLACK_APP_TOKEN"
	if b.health.bad(subjectSocket, words) {
		b.log.Error("clicks do not arrive", "why", words)
	}
	time.AfterFunc(shortLife, func() {
		if b.socket.stays(began) {
			b.health.settled(subjectSocket, words)
			b.connected(true)
		}
	})
}

func (b *Bot) connected(yes bool) {
	if b.metrics.Connected != nil {
		b.metrics.Connected(yes)
	}
	if !yes {
		b.health.doubt(subjectSocket, "not connected to Slack; connecting")
	}
}

func (b *Bot) notConnected(failed *slack.ConnectionErrorEvent, fatal context.CancelCauseFunc) {
	f := diagnose(failed.ErrorObj)
	words := f.words("")
	if hopeless(failed.ErrorObj) {
		fatal(failed.ErrorObj)
		return
	}
	if failed.Backoff > reconnectMost && f.kind != limited {
		fatal(errAnew)
	}
	if b.health.bad(subjectSocket, words) {
		b.log.Warn("cannot connect to Slack", "why", words)
	}
}

// hopeless lists what the library would retry for ever.
func hopeless(err error) bool {
	switch diagnose(err).code {
	case "missing_scope", "token_expired", "not_allowed_token_type", "user_removed_from_team", "team_disabled",
		"invalid_auth", "account_inactive", "not_authed", "token_revoked":
		return true
	}
	return false
}

func fatalWords(err error) string {
	switch f := diagnose(err); f.code {
	case "missing_scope":
		return "missing_scope: the app token (xapp-…) lacks connections:write: generate a new one with it, set SLACK_APP_TOKEN and restart"
	case "invalid_auth", "not_authed", "token_revoked", "token_expired":
		return f.code + ": Slack does not accept the app token (xapp-…): generate a new one, set SLACK_APP_TOKEN and restart"
	case "404":
		return "404: SLACK_API_URL leads nowhere, or Slack does not know the app token (xapp-…)"
	default:
		return f.words("")
	}
}
