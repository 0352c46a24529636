package bot_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/bot"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
)

// health waits until the bot reports this.
func (w *world) health(t *testing.T, ok bool, want string) {
	t.Helper()
	w.wait(t, fmt.Sprintf("health %v %q", ok, want), func() bool {
		got, detail := w.bot.Health()
		return got == ok && strings.Contains(detail, want)
	})
}

func TestReconnect(t *testing.T) {
	t.Parallel()
	for _, reason := range []string{slacktest.RefreshRequested, slacktest.LinkDisabled} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, slacktest.Config{}).overSocket(t)
			w.postCard(t)
			w.slack.Disconnect(reason)
			w.wait(t, "a new connection", func() bool {
				return strings.Count(w.log.String(), "num_connections=") == 2 && w.slack.Sockets() == 1
			})
			w.open(t, ana, "approve")
		})
	}
}

func TestThrottle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		throttled := bot.NewThrottle(roundTrip(func(r *http.Request) (*http.Response, error) {
			calls++
			return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader("{}"))}, nil
		}))
		started := time.Now()
		for range 12 {
			r := httptest.NewRequest(http.MethodPost, "https://slack.com/api/apps.connections.open", nil)
			if _, err := throttled.RoundTrip(r); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(started); took < 2*time.Minute {
			t.Errorf("12 connections took %s; want them slowed down to Slack's rate", took)
		}
		started = time.Now()
		for range 100 {
			if _, err := throttled.RoundTrip(httptest.NewRequest(http.MethodPost, "https://slack.com/api/chat.update", nil)); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(started); took > 0 || calls != 112 {
			t.Errorf("other calls took %s; want no delay", took)
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Slack greets and disconnects at once: the library would connect thousands of times a second.
func TestTheHotReconnectLoopIsSlowed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slacktest.Config{})
	w.slack.DisconnectNew(slacktest.TooManyWebsockets)
	w.startSocket(t)
	if err := w.slack.Wait(deadline(t), func() bool { return len(w.slack.CallsOf("apps.connections.open")) >= 4 }); err != nil {
		t.Fatal(err)
	}
	if got := len(w.slack.CallsOf("apps.connections.open")); got > 5 {
		t.Errorf("asked for %d connections; want a few", got)
	}
}

func TestAnUndecodableFrameIsAcked(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slacktest.Config{}).overSocket(t)
	if _, err := w.slack.Deliver(deadline(t), w.slack.Undecodable(ana, deploys)); err != nil {
		t.Errorf("got %v; want an acknowledgement", err)
	}
	if _, err := w.slack.Deliver(deadline(t), slacktest.Delivery{Kind: "not_invented_yet", Payload: []byte(`{}`)}); err != nil {
		t.Errorf("an envelope of an unknown type: got %v; want an acknowledgement", err)
	}
	w.postCard(t)
	w.open(t, ana, "approve")
}

func TestAFatalRefusalIsNamed(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]string{
		"invalid_auth": "app token", "missing_scope": "connections:write", "not_allowed_token_type": "mixed up", "account_inactive": "removed",
		"user_removed_from_team": "ask its owner",
	} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, slacktest.Config{})
			w.slack.RefuseToken(w.slack.Config().AppToken, code)
			w.startSocket(t)
			w.health(t, false, want)
			if got := len(w.slack.CallsOf("apps.connections.open")); got != 1 {
				t.Errorf("asked %d times; want once", got)
			}
			w.noSecrets(t)
		})
	}
}

func TestAnOutageHealsByItself(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slacktest.Config{}).overSocket(t)
	w.health(t, true, "")
	w.slack.SetOutage(true)
	w.health(t, false, "")
	w.slack.SetOutage(false)
	w.health(t, true, "")
}

func TestASecondSocketIsNoticed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slacktest.Config{}).overSocket(t)
	w.startSocket(t)
	if err := w.slack.WaitSockets(deadline(t), 2); err != nil {
		t.Fatal(err)
	}
	w.wait(t, "a warning", func() bool { return strings.Contains(w.log.String(), "level=WARN msg=\"more than one socket") })
}

// However long an outage lasts, the connection is tried again at least so often.
func TestALongOutageLeavesNoLongPause(t *testing.T) {
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
		if n := len(at); n > 1000 {
			t.Errorf("got %d tries in two hours; want them slowed down", n)
		}
	})
}

// A connection that stays open and carries nothing any more swallows a click; within
// a minute without pings another one takes its place, and the same button works.
func TestASilentSocketIsReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slacktest.Config{}).overSocket(t)
	card := w.postCard(t)
	w.slack.SetHook(func(method string, phase slacktest.Phase) {
		if method == "apps.connections.open" && phase == slacktest.Before {
			w.slack.MuteSockets(false)
		}
	})
	w.slack.MuteSockets(true)
	if _, err := w.slack.Click(deadline(t), ana, deploys, card.TS, "approve"); !errors.Is(err, slacktest.ErrTimeout) {
		t.Fatalf("got %v; want that Slack shows an error", err)
	}
	patience, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	if err := w.slack.Wait(patience, func() bool { return len(w.slack.CallsOf("apps.connections.open")) == 2 }); err != nil {
		t.Fatal(err)
	}
	w.health(t, true, "")
	// Slack hands a click to a connection, too, that it has not seen close.
	if err := w.slack.Wait(patience, func() bool { return w.slack.Sockets() == 1 }); err != nil {
		t.Fatal(err)
	}
	w.open(t, ana, "approve")
}

// Slack greets and hangs up again and again: the greeting alone is no connection.
func TestConnectionsThatDoNotStayAreNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slacktest.Config{})
	w.slack.DisconnectNew(slacktest.TooManyWebsockets)
	w.startSocket(t)
	w.health(t, false, "too many sockets")
	if !strings.Contains(w.log.String(), "clicks do not arrive") {
		t.Errorf("the log does not say it:\n%s", w.log)
	}
}
