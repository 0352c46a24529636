package slacktest_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/slack-go/slack"

	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
)

func TestFaults(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		fault   slacktest.Fault
		want    func(error) bool
		applied int // messages there are after the faulty call
	}{
		{"error", slacktest.Fault{Error: "fatal_error"}, func(err error) bool {
			var refused slack.SlackErrorResponse
			return errors.As(err, &refused) && refused.Err == "fatal_error"
		}, 0},
		{"status", slacktest.Fault{Status: http.StatusBadGateway}, func(err error) bool {
			var status slack.StatusCodeError
			return errors.As(err, &status) && status.Code == http.StatusBadGateway
		}, 0},
		{"rate limit", slacktest.Fault{Status: http.StatusTooManyRequests, RetryAfter: 7}, func(err error) bool {
			var limited *slack.RateLimitedError
			return errors.As(err, &limited) && limited.RetryAfter == 7*time.Second
		}, 0},
		{"lost call", slacktest.Fault{Drop: slacktest.DropBefore}, func(err error) bool { return err != nil }, 0},
		{"lost answer", slacktest.Fault{Drop: slacktest.DropAfter}, func(err error) bool { return err != nil }, 1},
		{"delay", slacktest.Fault{Delay: time.Millisecond}, func(err error) bool { return err == nil }, 1},
		{"other method", slacktest.Fault{Method: "chat.update", Error: "x"}, func(err error) bool { return err == nil }, 1},
		{"other channel", slacktest.Fault{Error: "x", Match: func(c slacktest.Call) bool { return c.Args["channel"] == "C0OTHER" }},
			func(err error) bool { return err == nil }, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, api := start(t, slacktest.Config{})
			test.fault.Times = 1
			remove := s.AddFault(test.fault)
			send := postTo(deploys, slack.MsgOptionText("x", false))
			if err := send(t.Context(), api, ""); !test.want(err) {
				t.Errorf("got %v", err)
			}
			if got := len(s.Messages(deploys)); got != test.applied {
				t.Errorf("messages: got %d; want %d", got, test.applied)
			}
			remove()
			if err := send(t.Context(), api, ""); err != nil {
				t.Errorf("afterwards: %v", err)
			}
			if got := len(s.CallsOf("chat.postMessage")); got != 2 {
				t.Errorf("calls: got %d; want 2", got)
			}
		})
	}
}

func TestOutage(t *testing.T) {
	t.Parallel()
	s, api := start(t, slacktest.Config{})
	connect(t, s, approvalApp(t))
	s.SetOutage(true)
	if err := authTest(t.Context(), api, ""); err == nil {
		t.Error("during the outage: got no error")
	}
	ctx := deadline(t)
	if err := s.Wait(ctx, func() bool { return s.Sockets() == 0 }); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Slash(ctx, ana, deploys, "x"); !errors.Is(err, slacktest.ErrNoConnection) {
		t.Errorf("got %v; want ErrNoConnection", err)
	}
	s.ClearFaults()
	if err := errors.Join(authTest(ctx, api, ""), s.WaitSockets(ctx, 1)); err != nil {
		t.Errorf("after the outage: %v", err)
	}
}

func TestHookSurroundsTheEffect(t *testing.T) {
	t.Parallel()
	s, api := start(t, slacktest.Config{})
	var mu sync.Mutex
	var got []int
	s.SetHook(func(method string, phase slacktest.Phase) {
		mu.Lock()
		defer mu.Unlock()
		if method == "chat.postMessage" {
			got = append(got, int(phase), len(s.Messages(deploys)))
		}
	})
	post(t, api, deploys, slack.MsgOptionText("x", false))
	mu.Lock()
	defer mu.Unlock()
	if want := []int{int(slacktest.Before), 0, int(slacktest.After), 1}; !slices.Equal(got, want) {
		t.Errorf("got %v; want %v", got, want)
	}
}

func TestRateLimits(t *testing.T) {
	t.Parallel()
	now := newClock()
	s, api := start(t, slacktest.Config{RateLimits: true, Now: now.Now})
	send := func(channel string) time.Duration {
		err := postTo(channel, slack.MsgOptionText("x", false))(t.Context(), api, "")
		var limited *slack.RateLimitedError
		if errors.As(err, &limited) {
			return limited.RetryAfter
		}
		if err != nil {
			t.Fatal(err)
		}
		return 0
	}
	var got []time.Duration
	for range 5 {
		got = append(got, send(deploys))
	}
	s.SetChannel(slacktest.Channel{ID: "C0OTHER", Members: []string{s.Config().BotUserID}})
	got = append(got, send("C0OTHER"))
	now.Advance(time.Second)
	got = append(got, send(deploys))
	if diff := cmp.Diff([]time.Duration{0, 0, 0, 0, time.Second, 0, 0}, got); diff != "" {
		t.Error(diff)
	}
	if _, _, err := api.StartSocketModeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	var limited *slack.RateLimitedError
	if _, _, err := api.StartSocketModeContext(t.Context()); !errors.As(err, &limited) || limited.RetryAfter != time.Minute {
		t.Errorf("second connection in a minute: got %v; want 429 for a minute", err)
	}
	s.SetRateLimits(false)
	if _, _, err := api.StartSocketModeContext(t.Context()); err != nil {
		t.Errorf("switched off: %v", err)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s := slacktest.New(slacktest.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Wait(ctx, func() bool { return false }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v; want canceled", err)
	}
}
