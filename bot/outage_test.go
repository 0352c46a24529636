package bot_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
)

// What any message of the channel would meet makes the channel or all of Slack
// rest, and the work keeps its place; what may be the message's own fault backs
// off alone.
func TestWhatRestsAfterAFailure(t *testing.T) {
	t.Parallel()
	const nothing, itsLane, channel, all = 0, 1, 2, 3
	for _, tt := range []struct {
		name    string
		faults  []slacktest.Fault
		update  bool
		attempt int
		rests   int
	}{
		{"no connection", []slacktest.Fault{{Drop: slacktest.DropBefore}}, false, 1, all},
		{"no connection for long", []slacktest.Fault{{Drop: slacktest.DropBefore}}, false, 30, all},
		{"no connection for a card", []slacktest.Fault{{Drop: slacktest.DropBefore}}, true, 1, all},
		{"throttled", []slacktest.Fault{{Method: "chat.postMessage", Status: 429, RetryAfter: 9}}, false, 1, all},
		{"archived", []slacktest.Fault{{Method: "chat.postMessage", Error: "is_archived"}}, false, 1, channel},
		{"archived under a card", []slacktest.Fault{{Method: "chat.update", Error: "is_inactive"}}, true, 1, channel},
		{"token revoked", []slacktest.Fault{{Error: "token_revoked"}}, false, 1, all},
		{"owner's rule", []slacktest.Fault{{Method: "chat.postMessage", Error: "restricted_action_read_only_channel"}}, false, 1, nothing},
		{"server fault", []slacktest.Fault{{Method: "chat.postMessage", Status: 503}}, false, 2, channel},
		{"all of Slack is at fault", []slacktest.Fault{{Status: 503}}, false, 9, all},
		{"one message is at fault", []slacktest.Fault{{Method: "chat.postMessage", Status: 503}}, false, 3, nothing},
		{"a refusal that nobody knows", []slacktest.Fault{{Method: "chat.postMessage", Error: "teapot"}}, false, 3, nothing},
		{"the look is throttled", []slacktest.Fault{{Method: "conversations.history", Status: 429, RetryAfter: 9}}, false, 2, itsLane},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, slacktest.Config{})
			work := card
			if tt.update {
				w.postCard(t)
				w.request(func(r *approvals.Request) { r.Newer = 128 })
				work.Lane = cardLane
			}
			for _, f := range tt.faults {
				w.slack.AddFault(f)
			}
			if tt.name == "all of Slack is at fault" {
				w.slack.ClearFaults()
				w.slack.AddFault(slacktest.Fault{Status: 503, Match: func(c slacktest.Call) bool { return !strings.HasPrefix(c.Method, "conversations.") }})
			}
			work.Attempt, work.Due = tt.attempt, time.Now().Add(-time.Hour)
			out := w.deliver(t, work)
			wantAgain(t, out)
			now := time.Now()
			if kept := out.Due.Equal(work.Due); kept != (tt.rests != nothing) || !kept && !out.Due.After(now) {
				t.Errorf("the work is due %v; want that it keeps its place: %t", out.Due, tt.rests != nothing)
			}
			if got := w.bot.Turn(work.Lane).After(now); got != (tt.rests != nothing) {
				t.Errorf("the lane rests: %t; want %t", got, tt.rests != nothing)
			}
			if got := w.bot.Turn(lane).After(now); got != (tt.rests >= channel) {
				t.Errorf("the channel rests: %t; want %t", got, tt.rests >= channel)
			}
			if got := w.bot.Turn(approvals.SlackLane("C0OTHER", "myapp")).After(now); got != (tt.rests == all) {
				t.Errorf("another channel rests: %t; want %t", got, tt.rests == all)
			}
		})
	}
}

// While a channel is archived its cards cannot be changed. They are right again once it
// is not.
func TestCardInAnArchivedChannel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newBubble(t, slacktest.Config{})
		w.postCard(t)
		archive := func(yes bool) {
			if err := w.slack.EditChannel(deploys, func(c *slacktest.Channel) { c.IsArchived = yes }); err != nil {
				t.Error(err)
			}
		}
		archive(true)
		w.request(func(r *approvals.Request) { r.Status = approvals.Rejected })
		work := card
		work.Lane = cardLane
		d := w.due(work)
		d.after = func() {
			if _, detail := w.bot.Health(); d.count < 5 && !strings.Contains(detail, "channel "+deploys+": is_inactive") {
				t.Errorf("try %d: health says %q; want that the channel is archived", d.count, detail)
			}
			archive(d.count < 5)
		}
		d.run(t)
		if got := w.cards(t, 1)[0]; !strings.HasPrefix(got.Text, "Rejected") || d.count != 6 {
			t.Errorf("after %d tries the card says %q; want it right after 6", d.count, got.Text)
		}
		if ok, detail := w.bot.Health(); !ok {
			t.Errorf("health still says %q", detail)
		}
	})
}

// What is left to say of a finished request in a channel that was deleted is tried less and
// less often, and given up after a week. It is told when the channel takes messages before.
func TestChannelThatWasDeleted(t *testing.T) {
	t.Parallel()
	const week = 7 * 24 * time.Hour
	notice := approvals.Work{Kind: approvals.WorkNotice, Subject: "7 " + deploys, Lane: lane}
	update := card
	update.Lane = cardLane
	for name, tt := range map[string]struct {
		work  approvals.Work
		stood bool // the card, before the channel was deleted
		lasts time.Duration
		want  int // messages at the end
	}{
		"a card":                     {card, false, week, 0},
		"a change of a card":         {update, true, week, 1},
		"lines of a thread":          {thread, true, week, 1},
		"a notice":                   {notice, true, week, 1},
		"a card, for a day":          {card, false, 24 * time.Hour, 1},
		"lines of a thread, for six": {thread, true, 6 * 24 * time.Hour, 5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newBubble(t, slacktest.Config{})
				if tt.stood {
					w.postCard(t)
				}
				w.request(func(r *approvals.Request) { r.Status = approvals.Rejected })
				for seq := range int64(4) {
					w.tell(7+seq, nil)
				}
				began, longest := time.Now(), time.Duration(0)
				w.slack.AddFault(slacktest.Fault{Error: "channel_not_found", Match: func(slacktest.Call) bool { return time.Since(began) < tt.lasts+2*time.Hour }})
				d, before := w.due(tt.work), began
				d.after = func() { longest, before = max(longest, time.Since(before)), time.Now() }
				d.run(t)
				gaveUp := tt.lasts == week
				if took := time.Since(began); took < tt.lasts || took > tt.lasts+5*time.Hour || (d.err != nil) != gaveUp {
					t.Errorf("it was over after %v, with %v; want %v", took, d.err, tt.lasts)
				}
				if longest < time.Hour || longest > 70*time.Minute || d.count > 250 {
					t.Errorf("got %d tries, with pauses of up to %v; want an hour", d.count, longest)
				}
				if got := len(w.slack.AllMessages(deploys)); got != tt.want {
					t.Errorf("got %d messages; want %d", got, tt.want)
				}
			})
		})
	}
}

// While people may decide on a request, or its deploy runs, nothing of it is given up.
func TestNothingOfALiveRequestIsGivenUp(t *testing.T) {
	t.Parallel()
	for _, status := range []approvals.Status{approvals.Pending, approvals.Approved, approvals.Released, approvals.Undeliverable} {
		w := newWorld(t, slacktest.Config{})
		w.postCard(t)
		w.request(func(r *approvals.Request) { r.Status, r.Newer = status, 128 })
		w.service.edit(func() { w.service.retry = status == approvals.Undeliverable })
		w.tell(7, func(t *approvals.Told) { t.RetryOffered = status == approvals.Undeliverable })
		w.slack.AddFault(slacktest.Fault{Error: "channel_not_found"})
		for _, work := range []approvals.Work{card, thread, {Kind: approvals.WorkNotice, Subject: "7 " + deploys, Lane: lane}} {
			w.bot = w.fresh()
			work.Attempt, work.Note = 300, time.Now().Add(-30*24*time.Hour).Format(time.RFC3339)
			out := w.deliver(t, work)
			wantAgain(t, out)
			if pause := time.Until(out.Due); pause > time.Minute {
				t.Errorf("%s: the %s of the request is tried again in %v; want soon", status, work.Kind, pause)
			}
		}
	}
}

// A reply whose thread is gone goes to the channel, naming its request, once.
func TestLineWithoutItsThread(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slacktest.Config{})
	posted := w.postCard(t)
	w.slack.AddFault(slacktest.Fault{Method: "chat.postMessage", Error: "thread_not_found", Times: 1})
	w.tell(7, nil)
	wantDone(t, w.deliver(t, thread))
	w.slack.RemoveMessage(deploys, posted.TS)
	w.request(func(r *approvals.Request) { r.Told = -1 }) // as if the outcome had been lost
	wantDone(t, w.deliver(t, again(thread)))              // it is found there
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
	w.request(func(r *approvals.Request) { r.Newer = 128 })
	w.slack.SetOutage(true)
	wantAgain(t, w.deliver(t, card))
	if ok, detail := w.bot.Health(); ok || !strings.Contains(detail, "cannot be reached") || strings.Contains(detail, "http://") {
		t.Errorf("health says %v %q; want that Slack cannot be reached, and no URL", ok, detail)
	}
	w.slack.SetOutage(false)
	wantDone(t, w.deliver(t, card))
	if ok, detail := w.bot.Health(); !ok {
		t.Errorf("health still says %q", detail)
	}
	if w.bot.Turn(cardLane).After(time.Now()) {
		t.Error("Slack still rests after a call that it took")
	}
	w.noSecrets(t)
}
