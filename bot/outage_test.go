package bot_test

import (
	"strings"
	"testing"

	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
)

// What any message of the channel would meet makes its lane rest, so that
// afterwards they come in their order; what may be the message's own fault does not.
func TestWhatMakesALaneRest(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		faults  []slacktest.Fault
		update  bool
		attempt int
		rests   bool
	}{
		{"no connection", []slacktest.Fault{{Drop: slacktest.DropBefore}}, false, 1, true},
		{"no connection for long", []slacktest.Fault{{Drop: slacktest.DropBefore}}, false, 30, true},
		{"throttled", []slacktest.Fault{{Method: "chat.postMessage", Status: 429, RetryAfter: 9}}, false, 1, true},
		{"throttled updates", []slacktest.Fault{{Method: "chat.update", Status: 429, RetryAfter: 9}}, true, 1, false},
		{"archived", []slacktest.Fault{{Method: "chat.postMessage", Error: "is_archived"}}, false, 1, true},
		{"token revoked", []slacktest.Fault{{Error: "token_revoked"}}, false, 1, true},
		{"owner's rule", []slacktest.Fault{{Method: "chat.postMessage", Error: "restricted_action_thread_locked"}}, false, 1, false},
		{"server fault", []slacktest.Fault{{Method: "chat.postMessage", Status: 503}}, false, 2, true},
		{"all of Slack is at fault", []slacktest.Fault{{Status: 503}}, false, 9, true},
		{"one message is at fault", []slacktest.Fault{{Method: "chat.postMessage", Status: 503}}, false, 3, false},
		{"a refusal that nobody knows", []slacktest.Fault{{Method: "chat.postMessage", Error: "teapot"}}, false, 3, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, slacktest.Config{})
			e := cardPost
			if tt.update {
				w.postCard(t)
				e = cardUpdate
			}
			for _, f := range tt.faults {
				w.slack.AddFault(f)
			}
			e.Attempt = tt.attempt
			if out := w.deliver(t, e); !out.Again || out.Lane != tt.rests {
				t.Errorf("got %+v; want again, and that the lane rests: %t", out, tt.rests)
			}
		})
	}
}

// A reply whose thread is gone goes to the channel, naming its request, once.
func TestReplyWithoutItsThread(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slacktest.Config{})
	card := w.postCard(t)
	w.slack.AddFault(slacktest.Fault{Method: "chat.postMessage", Error: "thread_not_found", Times: 1})
	reply := w.tell(7, nil)
	wantDone(t, w.deliver(t, reply))
	w.slack.RemoveMessage(deploys, card.TS)
	wantDone(t, w.deliver(t, again(reply))) // it is found there
	got := w.slack.Messages(deploys)
	if len(got) != 1 || !strings.Contains(got[0].Text, "#127") {
		t.Errorf("got %+v; want one line that names its request", got)
	}
}

// What was amiss is over with the first message that Slack takes, an update too.
func TestHealthAfterAnOutage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slacktest.Config{})
	w.postCard(t)
	w.slack.SetOutage(true)
	if out := w.deliver(t, cardUpdate); !out.Again {
		t.Fatalf("got %+v; want again", out)
	}
	w.slack.SetOutage(false)
	wantDone(t, w.deliver(t, cardUpdate))
	if ok, detail := w.bot.Health(); !ok {
		t.Errorf("health still says %q", detail)
	}
}
