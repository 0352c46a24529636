package bot

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/time/rate"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/plain"
)

const (
	silenceMost = time.Minute     // without a ping; Slack sends one about every 30 s
	writeTime   = 5 * time.Second // bounds one write
	closeTime   = time.Second     // bounds Slack's half of the closing handshake
	retireTime  = time.Minute     // how long a connection is read after Slack announced its end
	frameLimit  = 4 << 20         // the largest real frames echo a view of 250 kB
	ackLimit    = 20 << 10        // Slack silently drops an acknowledgement of this size
	ackQueue    = 64              // when so many wait for the writer, nothing more is read

	// Slack allows about one call of apps.connections.open a minute (Tier 1). The
	// burst keeps rotations and short breaks from being slowed down.
	openEvery = 15 * time.Second
	openBurst = 4

	// The pause between two tries grows up to reconnectMost, because clicks go
	// nowhere during it. A connection that stayed for steadyLife resets it.
	reconnectFirst = time.Second
	reconnectMost  = 30 * time.Second
	steadyLife     = time.Minute
	fatalPause     = 5 * time.Minute // after a refusal that no repetition changes
	disabledPause  = time.Minute     // while Socket Mode is switched off

	// The operator is told when so many connections in a row end so soon.
	shortMany = 2
	shortLife = 10 * time.Second

	subjectSocket = "socket"
	wordsDisabled = "Socket Mode is switched off in the Slack app's settings: switch it on (Settings → Socket Mode)"
	wordsTooMany  = "Slack ends each connection at once, as it does when too many sockets of an app are open (10 at most): stop other programs that use this SLACK_APP_TOKEN"
	wordsShort    = "Slack ends each connection within seconds"
)

// Reasons of a disconnect that the operator has to know. The others are "warning"
// and "refresh_requested".
// Source: https://docs.slack.dev/apis/events-api/using-socket-mode
const (
	reasonLinkDisabled = "link_disabled"
	reasonTooMany      = "too_many_websockets"
)

// frame is one message of Slack over the socket.
type frame struct {
	Type       string          `json:"type"`
	EnvelopeID string          `json:"envelope_id"`
	Payload    json.RawMessage `json:"payload"`

	Reason         string `json:"reason"`          // of a disconnect
	NumConnections int    `json:"num_connections"` // of a hello
	ConnectionInfo struct {
		AppID string `json:"app_id"`
	} `json:"connection_info"` // of a hello
}

// socket runs Socket Mode. Usually it has one connection, and two while one
// takes the place of the other: both are read then.
type socket struct {
	bot       *Bot
	dialer    *websocket.Dialer
	opens     *rate.Limiter
	envelopes *seenEvents
	stopping  chan struct{} // closed when only queued acknowledgements may still leave
	tries     int           // connections in a row that failed or did not stay

	mu        sync.Mutex
	greeted   int  // connections that stand after Slack's hello
	lingering int  // connections that ended just now, so that Slack may still count them
	short     int  // connections in a row that ended within shortLife
	told      bool // the operator was told that connections do not stay
}

// connection is one connection to Slack. Its reader's goroutine owns greeted and reason.
type connection struct {
	ws    *websocket.Conn
	over  context.Context // ends with the connection
	end   context.CancelFunc
	began time.Time
	acks  chan []byte // written by one goroutine
	leave chan string // holds the reason once another connection has to take its place

	greeted bool
	reason  string
}

// RunSocket keeps a Socket Mode connection until ctx ends; then it takes no new
// events, lets running ones finish and closes. What Slack refuses for good is
// shown by Health and tried again every few minutes.
func (b *Bot) RunSocket(ctx context.Context) error {
	s := &socket{
		bot: b, dialer: b.ws.dialer(), opens: rate.NewLimiter(rate.Every(openEvery), openBurst),
		envelopes: newSeenEvents(), stopping: make(chan struct{}),
	}
	var running sync.WaitGroup
	b.connected(false)
	for wait := time.Duration(0); approvals.Pause(ctx, wait); {
		c, err := s.open(ctx)
		switch {
		case err == nil:
			running.Go(func() { s.serve(c) })
			select {
			case reason := <-c.leave:
				wait = s.pauseAfter(c, reason)
			case <-ctx.Done():
			}
		case ctx.Err() == nil:
			wait = s.notConnected(err)
		}
	}
	// The connections outlive ctx for as long as answers are still to be sent.
	b.Close()
	close(s.stopping)
	running.Wait()
	b.connected(false)
	return nil
}

// dialer goes through the same proxy and trusts the same certificates as calls to Slack.
func (w *Workspace) dialer() *websocket.Dialer {
	d := &websocket.Dialer{HandshakeTimeout: callTimeout, Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{}}
	if t, ok := w.settings.HTTPClient.Transport.(*http.Transport); ok {
		d.Proxy, d.NetDialContext = t.Proxy, t.DialContext
		if t.TLSClientConfig != nil {
			d.TLSClientConfig = t.TLSClientConfig.Clone()
		}
	}
	d.TLSClientConfig.MinVersion = max(d.TLSClientConfig.MinVersion, tls.VersionTLS12)
	d.TLSClientConfig.NextProtos = []string{"http/1.1"} // a WebSocket cannot begin over HTTP/2
	return d
}

// open opens one connection as soon as Slack's rate allows it.
func (s *socket) open(ctx context.Context) (*connection, error) {
	if !approvals.Pause(ctx, s.opens.Reserve().Delay()) {
		return nil, ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, 2*callTimeout)
	defer cancel()
	var address string
	err := s.bot.call("apps.connections.open", func() (err error) {
		_, address, err = s.bot.ws.api.StartSocketModeContext(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(s.bot.ws.settings.APIURL, "https:") && !strings.HasPrefix(address, "wss:") {
		return nil, errors.New("the socket's address is not encrypted (wss)")
	}
	ws, answer, err := s.dialer.DialContext(ctx, address, nil)
	if err != nil {
		if answer != nil {
			err = fmt.Errorf("%w: HTTP status %d", err, answer.StatusCode)
		}
		return nil, fmt.Errorf("open the socket: %w", err)
	}
	c := &connection{ws: ws, began: time.Now(), acks: make(chan []byte, ackQueue), leave: make(chan string, 1)}
	c.over, c.end = context.WithCancel(context.Background())
	return c, nil
}

// notConnected tells the operator why there is no connection, and says when to try again.
func (s *socket) notConnected(err error) time.Duration {
	f := diagnose(err)
	if hopeless(f.code) {
		words := fatalWords(err)
		s.bot.health.bad(subjectSocket, words)
		s.bot.log.Error("Slack refuses the socket: clicks do not arrive", "why", words)
		return fatalPause
	}
	if words := f.words(""); s.bot.health.bad(subjectSocket, words) {
		s.bot.log.Warn("cannot connect to Slack", "why", words)
	}
	s.tries++
	return max(backoff(s.tries), f.after)
}

// pauseAfter says when to replace a connection that has ended or will.
func (s *socket) pauseAfter(c *connection, reason string) time.Duration {
	s.tries++
	if time.Since(c.began) >= steadyLife {
		s.tries = 0
	}
	if reason == reasonLinkDisabled {
		return disabledPause
	}
	return backoff(s.tries)
}

// backoff has jitter, so that many bots do not come back at the same moment.
func backoff(tries int) time.Duration {
	if tries == 0 {
		return 0
	}
	most := approvals.Backoff(tries, reconnectFirst, reconnectMost)
	return most/2 + rand.N(most/2)
}

// serve reads and writes one connection until it ends.
func (s *socket) serve(c *connection) {
	var writing sync.WaitGroup
	writing.Go(func() { s.write(c) })
	context.AfterFunc(c.over, func() { c.ws.Close() })
	err := s.read(c)
	c.end()
	writing.Wait()
	select {
	case <-s.stopping:
	default:
		s.ended(c, err)
	}
}

func (s *socket) read(c *connection) error {
	c.ws.SetReadLimit(frameLimit)
	alive := func() error { return c.ws.SetReadDeadline(time.Now().Add(silenceMost)) }
	c.ws.SetPingHandler(func(data string) error {
		err := c.ws.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(writeTime))
		if errors.Is(err, websocket.ErrCloseSent) {
			return nil // Slack's half of the closing handshake is still to come
		}
		return errors.Join(err, alive())
	})
	if err := alive(); err != nil {
		return err
	}
	for {
		_, raw, err := c.ws.ReadMessage()
		if err != nil {
			return err
		}
		s.take(c, raw)
	}
}

// write sends acknowledgements until the connection ends, or the bot stops and
// all of them have left.
func (s *socket) write(c *connection) {
	for {
		var raw []byte
		select {
		case raw = <-c.acks:
		case <-c.over.Done():
			return
		case <-s.stopping:
			if len(c.acks) == 0 {
				goodbye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
				_ = c.ws.WriteControl(websocket.CloseMessage, goodbye, time.Now().Add(writeTime))
				time.AfterFunc(closeTime, c.end)
				return
			}
			raw = <-c.acks
		}
		err := errors.Join(c.ws.SetWriteDeadline(time.Now().Add(writeTime)), c.ws.WriteMessage(websocket.TextMessage, raw))
		if err != nil {
			s.bot.log.Warn("an acknowledgement to Slack was lost", "why", noAnswer(err))
			c.end()
			return
		}
	}
}

// ended notes that a connection is over, and asks for another one.
func (s *socket) ended(c *connection, why error) {
	s.mu.Lock()
	if c.greeted {
		s.greeted--
		s.lingering++
		time.AfterFunc(closeTime, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.lingering--
		})
	}
	s.short++
	if time.Since(c.began) >= shortLife {
		s.short = 0
	}
	alone, news := s.greeted == 0, s.short >= shortMany && !s.told
	s.mu.Unlock()
	s.bot.log.Info("a connection to Slack ended", "reason", plain.Cut(plain.OneLine(c.reason), limitName), "why", noAnswer(why))
	if alone {
		s.bot.connected(false)
	}
	if news {
		s.notStaying(wordsShort)
	}
	s.replace(c, "")
}

// replace asks for another connection in the place of this one, once.
func (s *socket) replace(c *connection, reason string) {
	select {
	case c.leave <- reason:
	default:
	}
}

// notStaying tells the operator why no connection stays. From then on a hello
// alone is no good news.
func (s *socket) notStaying(words string) {
	s.mu.Lock()
	s.told = true
	s.mu.Unlock()
	s.bot.connected(false)
	if s.bot.health.bad(subjectSocket, words) {
		s.bot.log.Error("clicks do not arrive", "why", words)
	}
}

// stays notes that a connection is good.
func (s *socket) stays() {
	s.mu.Lock()
	s.told = false
	s.mu.Unlock()
	s.bot.health.good(subjectSocket)
	s.bot.connected(true)
}

// take handles one frame. It waits for nothing but the writer, because nothing
// else is read while it does.
func (s *socket) take(c *connection, raw []byte) {
	var f frame
	if err := json.Unmarshal(raw, &f); err != nil {
		// A field of another type leaves the others readable.
		s.bot.log.Warn("a frame from Slack cannot be read", "type", plain.Cut(plain.OneLine(f.Type), limitName))
	}
	switch {
	case f.EnvelopeID != "":
		s.envelope(c, f)
	case f.Type == "hello":
		s.hello(c, f)
	case f.Type == "disconnect":
		s.disconnect(c, f.Reason)
	}
}

// envelope hands a payload to the handler of its type. Whatever it is, it is
// acknowledged once.
func (s *socket) envelope(c *connection, f frame) {
	if !s.envelopes.first(f.EnvelopeID) {
		return // its first copy is acknowledged, or will be
	}
	answer := once(func(payload any) { s.acknowledge(c, f.EnvelopeID, payload) })
	defer func() {
		if panicked := recover(); panicked != nil {
			s.bot.panicked(panicked)
			answer(nil)
		}
	}()
	switch f.Type {
	case "interactive":
		s.bot.interact(f.Payload, answer)
	case "slash_commands":
		s.slashCommands(f.Payload, answer)
	case "events_api":
		s.eventsAPI(f, answer)
	default:
		s.bot.log.Info("a frame from Slack is of an unknown type", "type", plain.Cut(plain.OneLine(f.Type), limitName))
		answer(nil)
	}
}

// hello is Slack's greeting. After others did not stay, a connection is good only
// once it has stayed for a while.
func (s *socket) hello(c *connection, f frame) {
	if c.greeted {
		return
	}
	c.greeted = true
	s.mu.Lock()
	s.greeted++
	ours, doubtful := s.greeted+s.lingering+s.bot.nodes()-1, s.told
	s.mu.Unlock()
	if f.ConnectionInfo.AppID != "" {
		s.bot.ws.setAppID(f.ConnectionInfo.AppID)
	}
	if f.NumConnections > ours {
		// Each payload goes to any one of them.
		s.bot.log.Warn("more than one socket of this app is open: clicks are shared with another program, or an old connection lingers", "num_connections", f.NumConnections, "ours", ours)
	} else {
		s.bot.log.Info("connected to Slack", "num_connections", f.NumConnections)
	}
	if !doubtful {
		s.stays()
		return
	}
	time.AfterFunc(shortLife, func() {
		if c.over.Err() == nil {
			s.stays()
		}
	})
}

// disconnect says that Slack is about to end the connection: in about 10 s after a
// warning. Until it does, the connection is read.
func (s *socket) disconnect(c *connection, reason string) {
	c.reason = reason
	left := closeTime
	switch reason {
	case reasonLinkDisabled:
		s.notStaying(wordsDisabled)
	case reasonTooMany:
		s.notStaying(wordsTooMany)
	default:
		left = retireTime
	}
	time.AfterFunc(left, c.end)
	s.replace(c, reason)
}

func (s *socket) slashCommands(payload []byte, answer ack) {
	var sent command
	if err := json.Unmarshal(payload, &sent); err != nil {
		s.bot.log.Warn("a slash command from Slack cannot be read")
		answer(nil)
		return
	}
	s.bot.commanded(sent, answer)
}

// eventsAPI leaves an event that cannot be worked on now without an acknowledgement, so
// that Slack sends it again.
func (s *socket) eventsAPI(f frame, answer ack) {
	if s.bot.happened(f.Payload) {
		answer(nil)
		return
	}
	s.bot.log.Warn("a Slack event cannot be worked on now: it is left for Slack to send again")
	s.envelopes.forget(f.EnvelopeID)
}

// acknowledge queues the answer to an envelope for the connection that it came by.
func (s *socket) acknowledge(c *connection, id string, payload any) {
	raw, err := json.Marshal(struct {
		EnvelopeID string `json:"envelope_id"`
		Payload    any    `json:"payload,omitempty"`
	}{id, payload})
	if err != nil || len(raw) >= ackLimit {
		s.bot.log.Error("an answer to Slack cannot be sent", "bytes", len(raw), "encoded", err == nil)
		return
	}
	select {
	case c.acks <- raw:
	case <-c.over.Done():
		s.bot.log.Warn("an acknowledgement to Slack was lost", "why", "its connection has ended")
	}
}

func (b *Bot) connected(yes bool) {
	if b.metrics.Connected != nil {
		b.metrics.Connected(yes)
	}
	if !yes {
		b.health.doubt(subjectSocket, "not connected to Slack; connecting")
	}
}
