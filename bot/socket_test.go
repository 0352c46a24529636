package bot_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
)

const openMethod = "apps.connections.open"

// pipes are a network inside a bubble.
type pipes struct {
	conns chan net.Conn
	down  chan struct{}
	close func()
}

func newPipes() *pipes {
	p := &pipes{conns: make(chan net.Conn), down: make(chan struct{})}
	p.close = sync.OnceFunc(func() { close(p.down) })
	return p
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.down:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.close(); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-p.down:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// inBubble runs a test in which time is simulated, the time of connections too.
func inBubble(t *testing.T, test func(t *testing.T, w *world), edit ...func(*bot.Config)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(monday))
		s := slacktest.New(slacktest.Config{})
		s.SetBaseURL("http://slack.test")
		network := newPipes()
		server := &http.Server{Handler: s}
		served := make(chan error, 1)
		go func() { served <- server.Serve(network) }()
		transport := &http.Transport{DialContext: network.dial}
		t.Cleanup(func() {
			transport.CloseIdleConnections()
			server.Close()
			<-served
		})
		test(t, connect(t, s, transport, edit...))
	})
}

// greeted runs Socket Mode until Slack's greeting was read.
func (w *world) greeted(t *testing.T) {
	t.Helper()
	w.startSocket(t)
	w.health(t, true, "")
	if err := w.slack.WaitSockets(deadline(t), 1); err != nil {
		t.Fatal(err)
	}
}

// health waits until the bot reports this.
func (w *world) health(t *testing.T, ok bool, want string) {
	t.Helper()
	w.wait(t, fmt.Sprintf("health %v %q", ok, want), func() bool {
		got, detail := w.bot.Health()
		return got == ok && strings.Contains(detail, want)
	})
}

// now wants the health as it is at this moment of a bubble.
func (w *world) now(t *testing.T, ok bool, want string) {
	t.Helper()
	synctest.Wait()
	if got, detail := w.bot.Health(); got != ok || !strings.Contains(detail, want) {
		t.Errorf("health: got %v %q; want %v and %q in it\n%s", got, detail, ok, want, w.log)
	}
}

func (w *world) opens() int { return len(w.slack.CallsOf(openMethod)) }

// ackedOnce wants every acknowledgement to answer an envelope, and none twice.
func (w *world) ackedOnce(t *testing.T) {
	t.Helper()
	seen := map[string]bool{}
	for _, a := range w.slack.Acks() {
		if seen[a.EnvelopeID] || a.EnvelopeID == "" {
			t.Errorf("the envelope %q was acknowledged twice or never came", a.EnvelopeID)
		}
		seen[a.EnvelopeID] = true
	}
}

// Slack replaces a connection now and then: it announces that, or just cuts it.
func TestReconnect(t *testing.T) {
	t.Parallel()
	for _, reason := range []string{slacktest.Warning, slacktest.RefreshRequested, "cut"} {
		t.Run(reason, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.greeted(t)
				w.postCard(t)
				time.Sleep(2 * time.Minute)
				began := time.Now()
				if reason == "cut" {
					w.slack.CloseSockets()
				} else {
					w.slack.Disconnect(reason)
				}
				w.wait(t, "a new connection", func() bool { return strings.Count(w.log.String(), "num_connections=") == 2 })
				if took := time.Since(began); took > 0 {
					t.Errorf("a connection that had stayed was replaced after %s; want at once", took)
				}
				w.now(t, true, "")
				if want := map[string]int{slacktest.Warning: 2}[reason]; want != 0 && w.slack.Sockets() != want {
					t.Errorf("got %d sockets; want the old one to be read until its end", w.slack.Sockets())
				}
				for range 2 { // over both, if there are two
					w.open(t, ana, "approve")
				}
				time.Sleep(90 * time.Second)
				w.now(t, true, "")
				if got := w.slack.Sockets(); got != 1 || w.opens() != 2 {
					t.Errorf("got %d sockets after %d calls; want 1 after 2", got, w.opens())
				}
				if strings.Contains(w.log.String(), "more than one socket") {
					t.Errorf("the bot warns of its own second socket:\n%s", w.log)
				}
				w.open(t, ana, "approve")
				w.ackedOnce(t)
			})
		})
	}
}

// Who sent a submission over a connection that is being replaced gets the answer.
func TestReconnectWhileADecisionIsTaken(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.greeted(t)
		w.postCard(t)
		v := w.open(t, ana, "approve")
		w.service.edit(func() {
			w.service.settle = func(context.Context) error {
				w.slack.Disconnect(slacktest.Warning)
				time.Sleep(2 * time.Second)
				return nil
			}
		})
		got, err := w.slack.Submit(deadline(t), ana, v.ID, code(goodCode))
		if err != nil || !got.Closed {
			t.Errorf("got %+v, %v; want a closed modal", got, err)
		}
		w.ackedOnce(t)
	})
}

// Slack greets and disconnects at once, whatever it says: connections are asked for
// at Slack's rate, the operator learns why, and it is over once one stays.
func TestTheHotReconnectLoopIsSlowedAndNamed(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		reason, want string
		most         int // calls in ten minutes
	}{
		{slacktest.TooManyWebsockets, "too many sockets", 45},
		{slacktest.LinkDisabled, "Socket Mode is switched off in the Slack app's settings: switch it on", 11},
		{slacktest.RefreshRequested, "within seconds", 45},
		{"not_invented_yet", "within seconds", 45},
	} {
		t.Run(tt.reason, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.slack.DisconnectNew(tt.reason)
				w.startSocket(t)
				for range 20 {
					time.Sleep(30 * time.Second)
					w.now(t, false, tt.want)
				}
				if got := w.opens(); got > tt.most || got < 9 {
					t.Errorf("asked for %d connections in ten minutes; want 9 to %d", got, tt.most)
				}
				if got := strings.Count(w.log.String(), "clicks do not arrive"); got != 1 {
					t.Errorf("the log says %d times that clicks do not arrive; want once", got)
				}
				w.slack.DisconnectNew("")
				time.Sleep(90 * time.Second)
				w.now(t, true, "")
				w.postCard(t)
				w.open(t, ana, "approve")
			})
		})
	}
}

// What ends a connection soon is no reason to ask for the next one without a pause.
func TestReconnectBacksOffAfterAShortConnection(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.greeted(t)
		began := time.Now()
		w.slack.CloseSockets()
		w.wait(t, "a second connection", func() bool { return w.opens() == 2 })
		if took := time.Since(began); took < 500*time.Millisecond || took > time.Second {
			t.Errorf("got a pause of %s; want up to a second with jitter", took)
		}
	})
}

func TestSocketModeSwitchedOff(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.greeted(t)
		w.postCard(t)
		w.slack.DisconnectNew(slacktest.LinkDisabled)
		w.slack.Disconnect(slacktest.LinkDisabled)
		w.now(t, false, "Settings → Socket Mode")
		time.Sleep(59 * time.Second)
		w.now(t, false, "Settings → Socket Mode")
		if got := w.opens(); got != 1 {
			t.Errorf("asked for %d connections; want none in the first minute", got-1)
		}
		w.slack.DisconnectNew("")
		time.Sleep(12 * time.Second)
		w.now(t, true, "")
		w.open(t, ana, "approve")
	})
}

func TestAnUndecodableFrameIsAcked(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.greeted(t)
		for name, d := range map[string]slacktest.Delivery{
			"a new element":      w.slack.Undecodable(ana, deploys),
			"an unknown type":    {Kind: "not_invented_yet", Payload: []byte(`{}`)},
			"a click":            {Kind: slacktest.Interactive, Payload: []byte(`"text"`)},
			"a click of no type": {Kind: slacktest.Interactive, Payload: []byte(`{}`)},
			"a command":          {Kind: slacktest.SlashCommands, Payload: []byte(`[]`)},
			"an event":           {Kind: slacktest.EventsAPI, Payload: []byte(`7`)},
			"no payload":         {Kind: slacktest.EventsAPI},
		} {
			if _, err := w.slack.Deliver(deadline(t), d); err != nil {
				t.Errorf("%s: got %v; want an acknowledgement", name, err)
			}
		}
		for _, raw := range []string{
			`{"type":7,"envelope_id":"seven"}`,
			`{"type":"interactive","envelope_id":"reason","reason":[],"payload":null}`,
			`{"type":"hello","num_connections":"two"}`, `{"type":"disconnect","envelope_id":8}`,
			`{`, ``, `[]`, `null`, `{"type":"interactive","payload":{}}`, "\xff\x00",
		} {
			w.slack.SendFrame(raw)
		}
		synctest.Wait()
		acked := fmt.Sprint(w.slack.Acks())
		for _, id := range []string{"seven", "reason"} {
			if !strings.Contains(acked, id) {
				t.Errorf("the envelope %q was not acknowledged", id)
			}
		}
		w.postCard(t)
		w.open(t, ana, "approve")
		w.ackedOnce(t)
	})
}

// What Slack sends again over another connection is worked on once.
func TestARepeatedFrameIsWorkedOnOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.greeted(t)
		posted := w.postCard(t)
		d, err := w.slack.PrepareClick(slacktest.ButtonClick{User: ana, Channel: deploys, TS: posted.TS, ActionID: "approve"})
		if err != nil {
			t.Fatal(err)
		}
		d.EnvelopeID = "the same"
		if _, err := w.slack.Deliver(deadline(t), d); err != nil {
			t.Fatal(err)
		}
		w.service.wait(t, "a modal", func() bool { return len(w.service.opened) == 1 })
		w.slack.Disconnect(slacktest.Warning)
		if err := w.slack.WaitSockets(deadline(t), 2); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			_, _ = w.slack.Deliver(deadline(t), d)
		}
		synctest.Wait()
		if got := len(w.slack.CallsOf("views.open")); got != 1 {
			t.Errorf("opened %d modals; want 1", got)
		}
		w.ackedOnce(t)
	})
}

// While all workers are busy, an event is never lost: it is acknowledged and worked
// on, or left for Slack to send again. What has an answer is answered.
func TestSocketUnderLoadLosesNoEvent(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.greeted(t)
		posted := w.postCard(t)
		leave := make(chan struct{})
		w.service.edit(func() {
			w.service.mayDecide = func(approvals.Clicker, approvals.Action) error { <-leave; return nil }
		})
		if _, err := w.slack.Click(deadline(t), ana, deploys, posted.TS, "approve"); err != nil {
			t.Fatal(err) // it takes the only worker
		}
		var pressing sync.WaitGroup
		for range 20 {
			pressing.Go(func() {
				if _, err := w.slack.Slash(deadline(t), ana, deploys, "list"); err != nil {
					t.Errorf("a command: %v", err)
				}
				if _, err := w.slack.Click(deadline(t), bea, deploys, posted.TS, "approve"); err != nil {
					t.Errorf("a click: %v", err)
				}
			})
		}
		home, err := w.slack.PrepareHome(ana)
		if err != nil {
			t.Fatal(err)
		}
		home.EnvelopeID = "the same" // however Slack sends it again
		if _, err := w.slack.Deliver(deadline(t), home); !errors.Is(err, slacktest.ErrTimeout) {
			t.Errorf("an event that nobody works on: got %v; want that Slack sends it again", err)
		}
		pressing.Wait()
		close(leave)
		synctest.Wait()
		if _, err := w.slack.Deliver(deadline(t), home); err != nil {
			t.Fatal(err)
		}
		if err := w.slack.Wait(deadline(t), func() bool { return w.slack.Home(ana) != nil }); err != nil {
			t.Error("the event that Slack sent again was lost")
		}
		w.ackedOnce(t)
	}, func(c *bot.Config) { c.Workers = 1 })
}

func TestAFatalRefusalIsNamed(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]string{
		"invalid_auth": "app token", "missing_scope": "connections:write", "not_allowed_token_type": "mixed up", "account_inactive": "removed",
		"user_removed_from_team": "ask its owner",
	} {
		t.Run(code, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.slack.RefuseToken(w.slack.Config().AppToken, code)
				w.startSocket(t)
				time.Sleep(time.Minute)
				w.now(t, false, want)
				if got := w.opens(); got != 1 {
					t.Errorf("asked %d times in a minute; want once", got)
				}
				w.noSecrets(t)
				w.slack.RefuseToken(w.slack.Config().AppToken, "")
				time.Sleep(5 * time.Minute)
				w.now(t, true, "")
			})
		})
	}
}

func TestSocketThatCannotBeOpenedIsNamed(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		opened, want string
		dial         error
	}{
		"not encrypted": {`{"ok":true,"url":"ws://slack.test/link?ticket=123456"}`, "not encrypted", nil},
		"no address":    {`{"ok":true}`, "not encrypted", nil},
		"refused":       {`{"ok":true,"url":"wss://slack.test/link?ticket=123456"}`, "connection refused", errors.New("connection refused")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return nil, tt.dial }}
				transport.RegisterProtocol("https", roundTrip(func(*http.Request) (*http.Response, error) {
					return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(tt.opened))}, nil
				}))
				ws := bot.Open(bot.Settings{BotToken: "xoxb-1", AppToken: "xapp-1", APIURL: "https://slack.test/api/", HTTPClient: &http.Client{Transport: transport}})
				b := bot.New(bot.Config{Workspace: ws, Service: newService()})
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				go func() { _ = b.RunSocket(ctx) }()
				synctest.Wait()
				if ok, detail := b.Health(); ok || !strings.Contains(detail, tt.want) || strings.Contains(detail, "ticket") {
					t.Errorf("got %v %q; want %q in it, and no ticket", ok, detail, tt.want)
				}
				<-ctx.Done()
				synctest.Wait()
			})
		})
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestReconnectAfterAnOutage(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.greeted(t)
		w.slack.SetOutage(true)
		time.Sleep(10 * time.Minute)
		w.now(t, false, "cannot be reached")
		w.slack.SetOutage(false)
		time.Sleep(31 * time.Second)
		w.now(t, true, "")
	})
}

func TestASecondSocketIsNoticed(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.greeted(t)
		w.startSocket(t)
		w.wait(t, "a warning", func() bool { return strings.Contains(w.log.String(), "level=WARN msg=\"more than one socket") })
	})
}

// However long an outage lasts, the connection is tried again at least so often.
func TestReconnectNeverPausesForLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var at []time.Time
		down := roundTrip(func(*http.Request) (*http.Response, error) {
			at = append(at, time.Now())
			return nil, errors.New("connection refused")
		})
		ws := bot.Open(bot.Settings{BotToken: "xoxb-1", AppToken: "xapp-1", APIURL: "https://slack.test/api/", HTTPClient: &http.Client{Transport: down}})
		b := bot.New(bot.Config{Workspace: ws, Service: newService()})
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Hour)
		defer cancel()
		if err := b.RunSocket(ctx); err != nil {
			t.Fatal(err)
		}
		for i := 1; i < len(at); i++ {
			if pause := at[i].Sub(at[i-1]); pause > 35*time.Second {
				t.Fatalf("got a pause of %s before try %d; want half a minute at most", pause, i+1)
			}
		}
		if n := len(at); n > 500 {
			t.Errorf("got %d tries in two hours; want them slowed down", n)
		}
	})
}

// A connection that stays open and carries nothing any more swallows a click; after
// a minute without pings another one takes its place, and the same button works.
func TestASilentSocketIsReplaced(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.greeted(t)
		card := w.postCard(t)
		time.Sleep(5 * time.Minute) // pings alone keep it
		w.now(t, true, "")
		w.slack.SetHook(func(method string, phase slacktest.Phase) {
			if method == openMethod && phase == slacktest.Before {
				w.slack.MuteSockets(false)
			}
		})
		w.slack.MuteSockets(true)
		if _, err := w.slack.Click(deadline(t), ana, deploys, card.TS, "approve"); !errors.Is(err, slacktest.ErrTimeout) {
			t.Fatalf("got %v; want that Slack shows an error", err)
		}
		time.Sleep(time.Minute)
		w.now(t, true, "")
		if got := w.opens(); got != 2 || w.slack.Sockets() != 1 {
			t.Fatalf("got %d connections, %d of them open; want a second one alone", got, w.slack.Sockets())
		}
		w.open(t, ana, "approve")
	})
}

// The socket trusts the certificates that calls to Slack trust, and no old TLS.
func TestSocketOverTLS(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		most uint16
		ok   bool
		want string
	}{
		"TLS 1.3": {tls.VersionTLS13, true, ""},
		"TLS 1.1": {tls.VersionTLS11, false, "protocol version"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := slacktest.New(slacktest.Config{})
			server := httptest.NewUnstartedServer(s)
			server.Config.ErrorLog = log.New(io.Discard, "", 0)
			server.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tt.most}
			server.StartTLS()
			t.Cleanup(server.Close)
			s.SetBaseURL(server.URL)
			transport := server.Client().Transport.(*http.Transport)
			transport.TLSClientConfig.MinVersion = tls.VersionTLS10 // for the calls
			w := connect(t, s, transport)
			w.startSocket(t)
			w.health(t, tt.ok, tt.want)
		})
	}
}
