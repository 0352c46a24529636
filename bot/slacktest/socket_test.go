package slacktest_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"
	"github.com/slack-go/slack"
	"github.com/slack-go/slack/slackevents"
	"github.com/slack-go/slack/socketmode"

	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
)

// approvalApp is a small app: it opens the code modal at a click, wants the code 123456, and answers the rest.
func approvalApp(t *testing.T) func(*socketmode.Client, socketmode.Event) {
	return func(c *socketmode.Client, e socketmode.Event) {
		ctx := t.Context()
		var payload any
		switch e.Type {
		case socketmode.EventTypeInteractive:
			callback := e.Data.(slack.InteractionCallback)
			if callback.Type == slack.InteractionTypeViewSubmission {
				payload = judge(callback)
				break
			}
			if callback.Type == slack.InteractionTypeBlockActions {
				if _, err := c.OpenViewContext(ctx, callback.TriggerID, codeModal()); err != nil {
					t.Errorf("open: %v", err)
				}
			}
		case socketmode.EventTypeSlashCommand:
			payload = map[string]any{"text": "you said " + e.Data.(slack.SlashCommand).Text}
		case socketmode.EventTypeEventsAPI:
			opened := e.Data.(slackevents.EventsAPIEvent).InnerEvent.Data.(*slackevents.AppHomeOpenedEvent)
			home := slack.HomeTabViewRequest{Type: slack.VTHomeTab, Blocks: slack.Blocks{BlockSet: []slack.Block{section("hello " + opened.User)}}}
			if _, err := c.PublishViewContext(ctx, slack.PublishViewContextRequest{UserID: opened.User, View: home}); err != nil {
				t.Errorf("publish: %v", err)
			}
		default:
			return
		}
		if err := c.AckCtx(ctx, e.Request.EnvelopeID, payload); err != nil {
			t.Errorf("ack: %v", err)
		}
	}
}

func judge(callback slack.InteractionCallback) any {
	switch code := callback.View.State.Values["totp"]["code"].Value; code {
	case "123456":
		return nil
	case "999999":
		return slack.NewErrorsViewSubmissionResponse(map[string]string{"facts": "not an input"})
	case "777777":
		view := rawView()
		view.Title, view.Submit = plain("Too late"), nil
		return slack.NewUpdateViewSubmissionResponse(&view)
	default:
		return slack.NewErrorsViewSubmissionResponse(map[string]string{"totp": "wrong code"})
	}
}

func code(value string) slacktest.Values {
	return slacktest.Values{"totp": {"code": value}}
}

func TestSocketRoundTrip(t *testing.T) {
	t.Parallel()
	s, api := start(t, slacktest.Config{})
	connect(t, s, approvalApp(t))
	ctx := deadline(t)
	card := post(t, api, deploys, slack.MsgOptionText("Deploy?", false), slack.MsgOptionBlocks(section("q"), buttons()))

	if _, err := s.Click(ctx, ana, deploys, card, "approve"); err != nil {
		t.Fatal(err)
	}
	view, err := s.WaitView(ctx, ana)
	if err != nil {
		t.Fatal(err)
	}
	steps := []struct {
		code       string
		errors     map[string]string
		local      bool
		closed     bool
		title, err string
	}{
		{code: "12", errors: map[string]string{"totp": "Must be at least 6 characters."}, local: true},
		{code: "12345678", errors: map[string]string{"totp": "Must be at most 7 characters."}, local: true},
		{code: "", errors: map[string]string{"totp": "Please complete this required field."}, local: true},
		{code: "000000", errors: map[string]string{"totp": "wrong code"}},
		{code: "999999", err: "trouble connecting"},
		{code: "123456", closed: true},
	}
	for _, step := range steps {
		got, err := s.Submit(ctx, ana, view.ID, code(step.code))
		if (err == nil) != (step.err == "") || err != nil && !strings.Contains(err.Error(), step.err) {
			t.Fatalf("code %s: got error %v; want %q", step.code, err, step.err)
		}
		if diff := cmp.Diff(step.errors, got.Errors); diff != "" || got.Local != step.local || got.Closed != step.closed {
			t.Errorf("code %s: got %+v %s", step.code, got, diff)
		}
	}
	if s.View(ana) != nil {
		t.Error("the modal is still open")
	}

	if _, err := s.Click(ctx, bea, deploys, card, "approve"); err != nil {
		t.Fatal(err)
	}
	late, err := s.Submit(ctx, bea, s.View(bea).ID, code("777777"))
	if err != nil || late.Updated == nil || s.View(bea).Title != "Too late" {
		t.Errorf("update: got %+v, %v", late, err)
	}
	reply, err := s.Slash(ctx, ana, deploys, "list")
	if err != nil || reply.Text != "you said list" || len(s.Ephemerals(ana)) != 1 {
		t.Errorf("slash: got %+v, %v", reply, err)
	}
	if err := s.OpenHome(ctx, ana); err != nil || slacktest.Text(s.Home(ana).Blocks) != "hello "+ana {
		t.Errorf("home: %v", err)
	}
	for _, wrong := range []struct{ user, action string }{{ana, "retry"}, {guest, "approve"}, {"U0NOBODY", "approve"}} {
		if _, err := s.Click(ctx, wrong.user, deploys, card, wrong.action); err == nil {
			t.Errorf("%s pressed %s: got no error", wrong.user, wrong.action)
		}
	}
	if got := s.Acks(); len(got) == 0 || !got[0].Known {
		t.Errorf("acks: got %+v", got)
	}
}

func TestUnusualClicks(t *testing.T) {
	t.Parallel()
	s, api := start(t, slacktest.Config{})
	seen := make(chan slack.InteractionCallback, 8)
	connect(t, s, func(c *socketmode.Client, e socketmode.Event) {
		if e.Type != socketmode.EventTypeInteractive {
			return
		}
		seen <- e.Data.(slack.InteractionCallback)
		_ = c.AckCtx(t.Context(), e.Request.EnvelopeID, nil)
	})
	ctx := deadline(t)
	card := post(t, api, deploys, slack.MsgOptionText("Deploy?", false), slack.MsgOptionBlocks(buttons()))
	value := "request-2"
	old, _ := s.Message(deploys, card)
	if _, _, _, err := api.UpdateMessageContext(ctx, deploys, card, slack.MsgOptionText("Approved", false)); err != nil {
		t.Fatal(err)
	}
	click := slacktest.ButtonClick{User: guest, Channel: deploys, TS: card, ActionID: "approve", Value: &value, Seen: &old, Force: true}
	result, err := s.ClickButton(ctx, click)
	if err != nil {
		t.Fatal(err)
	}
	got := <-seen
	if got.Team.ID != s.Config().TeamID || got.User.TeamID != "T0OTHER" || got.ActionCallback.BlockActions[0].Value != value ||
		got.Container.MessageTs != card || got.Channel.ID != deploys || got.Message.Timestamp != card || got.APIAppID != s.Config().AppID {
		t.Errorf("payload: got %+v", got)
	}
	if _, err := s.Deliver(ctx, result.Delivery); err != nil {
		t.Fatal(err)
	}
	if again := <-seen; again.TriggerID != got.TriggerID || again.ResponseURL != got.ResponseURL {
		t.Errorf("duplicate: got %+v; want the same trigger and response url", again)
	}
}

func TestUndecodableEnvelope(t *testing.T) {
	t.Parallel()
	s, _ := start(t, slacktest.Config{})
	bad := make(chan struct{})
	connect(t, s, func(c *socketmode.Client, e socketmode.Event) {
		if e.Type != socketmode.EventTypeErrorBadMessage {
			return
		}
		close(bad)
		var frame struct {
			EnvelopeID string `json:"envelope_id"`
		}
		if err := json.Unmarshal(e.Data.(*socketmode.ErrorBadMessage).Message, &frame); err != nil {
			t.Errorf("frame: %v", err)
		}
		_ = c.AckCtx(t.Context(), frame.EnvelopeID, nil)
	})
	if _, err := s.Deliver(deadline(t), s.Undecodable(ana, deploys)); err != nil {
		t.Errorf("acknowledged by hand: got %v", err)
	}
	<-bad
}

func TestSilentAppTimesOut(t *testing.T) {
	t.Parallel()
	s, _ := start(t, slacktest.Config{AckBudget: 50 * time.Millisecond})
	if _, err := s.Slash(deadline(t), ana, deploys, "list"); !errors.Is(err, slacktest.ErrNoConnection) {
		t.Errorf("without a socket: got %v; want ErrNoConnection", err)
	}
	connect(t, s, func(*socketmode.Client, socketmode.Event) {})
	if _, err := s.Slash(deadline(t), ana, deploys, "list"); !errors.Is(err, slacktest.ErrTimeout) {
		t.Errorf("no ack: got %v; want ErrTimeout", err)
	}
}

func TestReconnects(t *testing.T) {
	t.Parallel()
	for _, reason := range []string{slacktest.Warning, slacktest.RefreshRequested, slacktest.LinkDisabled, "cut"} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			s, _ := start(t, slacktest.Config{})
			hellos := make(chan int, 8)
			connect(t, s, func(c *socketmode.Client, e socketmode.Event) {
				if e.Type == socketmode.EventTypeHello {
					hellos <- e.Request.NumConnections
				}
				approvalApp(t)(c, e)
			})
			<-hellos
			if reason == "cut" {
				s.CloseSockets()
			} else {
				s.Disconnect(reason)
			}
			<-hellos
			err := s.Wait(deadline(t), func() bool { return s.Sockets() == 1 })
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Slash(deadline(t), ana, deploys, "list"); err != nil {
				t.Errorf("after the reconnect: %v", err)
			}
		})
	}
}

func TestMuteSocketIsLeft(t *testing.T) {
	t.Parallel()
	s, _ := start(t, slacktest.Config{PingInterval: 20 * time.Millisecond})
	var connected atomic.Int32
	again := make(chan struct{})
	s.MuteSockets(true)
	connect(t, s, func(c *socketmode.Client, e socketmode.Event) {
		if e.Type == socketmode.EventTypeConnected && connected.Add(1) == 2 {
			s.MuteSockets(false)
			close(again)
		}
		approvalApp(t)(c, e)
	}, socketmode.OptionPingInterval(200*time.Millisecond))
	<-again
	ctx := deadline(t)
	// The deaf connection may still be listed for a moment, as with Slack: a click on it is lost.
	err := s.Wait(ctx, func() bool {
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err := s.Slash(short, ana, deploys, "list")
		return err == nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestSocketTicketsAndLimit(t *testing.T) {
	t.Parallel()
	s, api := start(t, slacktest.Config{})
	open := func() string {
		_, url, err := api.StartSocketModeContext(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return url
	}
	dial := func(url string) (*websocket.Conn, error) {
		origin := http.Header{"Origin": {"https://api.slack.com"}}
		conn, _, err := websocket.DefaultDialer.DialContext(t.Context(), url, origin)
		if err == nil {
			t.Cleanup(func() { conn.Close() })
		}
		return conn, err
	}
	read := func(conn *websocket.Conn) map[string]any {
		var frame map[string]any
		if err := conn.ReadJSON(&frame); err != nil {
			t.Fatal(err)
		}
		return frame
	}
	url := open()
	conn, err := dial(url)
	if err != nil {
		t.Fatal(err)
	}
	hello := read(conn)
	if hello["type"] != "hello" || hello["num_connections"] != 1.0 || hello["connection_info"].(map[string]any)["app_id"] != s.Config().AppID {
		t.Errorf("first frame: got %v; want hello", hello)
	}
	if _, err := dial(url); err == nil {
		t.Error("a used ticket: got a connection")
	}
	for range 9 {
		other, err := dial(open())
		if err != nil {
			t.Fatal(err)
		}
		read(other)
	}
	if err := s.WaitSockets(deadline(t), 10); err != nil {
		t.Fatal(err)
	}
	eleventh, err := dial(open())
	if err != nil {
		t.Fatal(err)
	}
	read(eleventh)
	if got := read(eleventh); got["type"] != "disconnect" || got["reason"] != slacktest.TooManyWebsockets {
		t.Errorf("the eleventh socket: got %v", got)
	}
	// A payload goes to any one socket, so two processes with one app token split the clicks.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 10 {
			short, stop := context.WithTimeout(ctx, 10*time.Millisecond)
			_, _ = s.Slash(short, ana, deploys, "x")
			stop()
		}
	}()
	if got := read(conn); got["type"] != "slash_commands" || got["envelope_id"] == "" || got["accepts_response_payload"] != true {
		t.Errorf("envelope: got %v", got)
	}
	<-done
}

func TestDisconnectNew(t *testing.T) {
	t.Parallel()
	s, api := start(t, slacktest.Config{})
	s.DisconnectNew(slacktest.LinkDisabled)
	_, url, err := api.StartSocketModeContext(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	conn, _, err := websocket.DefaultDialer.DialContext(t.Context(), url, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var hello, farewell map[string]any
	if err := errors.Join(conn.ReadJSON(&hello), conn.ReadJSON(&farewell)); err != nil {
		t.Fatal(err)
	}
	if hello["type"] != "hello" || farewell["reason"] != slacktest.LinkDisabled {
		t.Errorf("got %v, %v", hello, farewell)
	}
}
