package bot_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
)

// wait is how long a lane has to wait for its turn.
func (w *world) waits(lane string) time.Duration { return max(0, time.Until(w.bot.Turn(lane))) }

func (w *world) wantTurns(t *testing.T, line, update, other time.Duration) {
	t.Helper()
	for lane, want := range map[string]time.Duration{lane: line, cardLane: update, approvals.SlackLane("C0OTHER", "myapp"): other} {
		if got := w.waits(lane); got != want {
			t.Errorf("the lane %s waits %s; want %s", lane, got, want)
		}
	}
}

// A channel takes a burst of three and then a message a second; lines leave the last
// of a burst to cards. Changes to cards and other channels have a pace of their own.
func TestTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newBubble(t, slacktest.Config{})
		w.wantTurns(t, 0, 0, 0)
		w.postCard(t)
		w.tell(0, nil)
		wantDone(t, w.deliver(t, thread))
		w.wantTurns(t, time.Second, 0, 0)

		w.tell(1, nil)
		calls := len(w.slack.Calls())
		out := w.deliver(t, thread)
		if got := time.Until(out.Due); got != time.Second || out.Failed || out.Err != nil || len(w.slack.Calls()) != calls {
			t.Errorf("without a turn got %+v in %s; want it put off without a call", out, got)
		}
		// What was sent before may have taken effect: that is not forgotten.
		notice := approvals.Work{Kind: approvals.WorkNotice, Subject: "1 U0ANA", Lane: approvals.SlackLane("U0ANA", "myapp"), Attempt: 2}
		for range 2 {
			wantDone(t, w.deliver(t, notice))
		}
		if out := w.deliver(t, notice); !out.Failed || out.Err != nil {
			t.Errorf("got %+v; want the attempt to be kept", out)
		}

		w.request(func(r *approvals.Request) { r.Newer = 128 })
		wantDone(t, w.deliver(t, approvals.Work{Kind: approvals.WorkCard, Subject: "REQUEST1", Lane: cardLane}))

		time.Sleep(500 * time.Millisecond)
		w.wantTurns(t, 500*time.Millisecond, 0, 0)
		time.Sleep(500 * time.Millisecond)
		w.wantTurns(t, 0, 0, 0)
		wantDone(t, w.deliver(t, thread))
		w.wantTurns(t, time.Second, 0, 0)

		// However much threads have to tell, a new card comes at once, and a second one
		// as soon as the channel takes it.
		for _, want := range []time.Duration{0, time.Second} {
			if got := w.waits(newLane); got != want {
				t.Errorf("a new card waits %s; want %s", got, want)
			}
			time.Sleep(want)
			wantDone(t, w.deliver(t, approvals.Work{Kind: approvals.WorkCard, Subject: w.copyRequest(fmt.Sprint("NEW", want), "myapp"), Lane: newLane}))
		}
		w.wantTurns(t, 2*time.Second, 0, 0)
	})
}

// Nodes share what a channel takes. Work that a node puts off is due when another
// one may have a turn.
func TestTurnIsShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		nodes := 2
		w := newBubble(t, slacktest.Config{}, func(c *bot.Config) { c.Nodes = func() int { return nodes } })
		w.postCard(t)
		w.wantTurns(t, 2*time.Second, 0, 0)
		if got := w.waits(newLane); got != 2*time.Second {
			t.Errorf("a new card waits %s; want that the nodes make no larger burst together", got)
		}
		w.tell(0, nil)
		if out := w.deliver(t, thread); time.Until(out.Due) != time.Second {
			t.Errorf("put off for %s; want a second", time.Until(out.Due))
		}
		time.Sleep(2 * time.Second)
		wantDone(t, w.deliver(t, thread))
		w.wantTurns(t, 2*time.Second, 0, 0)

		nodes = 1 // the other one ended
		w.wantTurns(t, 2*time.Second, 0, 0)
		if got := w.waits(newLane); got != time.Second {
			t.Errorf("a new card waits %s; want a second", got)
		}
		time.Sleep(3 * time.Second)
		for i := range 2 {
			w.tell(int64(1+i), nil)
		}
		wantDone(t, w.deliver(t, thread))
		w.wantTurns(t, time.Second, 0, 0)
	})
}

// A method rests for an hour at the most, whatever the answer says.
func TestRateLimitIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newBubble(t, slacktest.Config{})
		w.slack.AddFault(slacktest.Fault{Method: "chat.postMessage", Status: 429, RetryAfter: 24 * 60 * 60, Times: 1})
		wantAgain(t, w.deliver(t, w.due(card).rows[0]))
		w.wantTurns(t, time.Hour, 0, time.Hour)
	})
}

// A method that was refused with 429 rests for all channels, as long as Slack
// says; the other method does not.
func TestRateLimitRestsTheMethod(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newBubble(t, slacktest.Config{})
		w.slack.AddFault(slacktest.Fault{Method: "chat.postMessage", Status: 429, RetryAfter: 30, Times: 1})
		began := time.Now().Add(-time.Hour)
		d := w.due(card)
		d.rows[0].Due = began
		out := w.deliver(t, d.rows[0])
		wantAgain(t, out)
		if !out.Due.Equal(began) {
			t.Errorf("the work is due %v; want that it keeps its place", out.Due)
		}
		w.wantTurns(t, 30*time.Second, 0, 30*time.Second)
		if until := out.Rests["chat.postMessage"]; time.Until(until) != 30*time.Second || len(out.Rests) != 1 {
			t.Errorf("the other nodes are told of %v; want that the method rests for 30 s", out.Rests)
		}
		d.run(t)
		if got := len(w.slack.CallsOf("chat.postMessage")); got != 2 {
			t.Errorf("got %d calls; want 2: the method rested", got)
		}

		w.request(func(r *approvals.Request) { r.Newer = 128 })
		w.slack.AddFault(slacktest.Fault{Method: "chat.update", Status: 429, RetryAfter: 9, Times: 1})
		update := approvals.Work{Kind: approvals.WorkCard, Subject: "REQUEST1", Lane: cardLane}
		wantAgain(t, w.deliver(t, update))
		w.wantTurns(t, 0, 9*time.Second, 0)
		if out := w.deliver(t, update); len(out.Rests) != 0 {
			t.Errorf("a call that was not made tells other nodes of %v", out.Rests)
		}

		// A rest that another node was asked for binds this one, and is not told on.
		w.bot.Rest("chat.postMessage", 20*time.Second)
		w.bot.Rest("chat.update", time.Second) // ends before the own one
		w.wantTurns(t, 20*time.Second, 9*time.Second, 20*time.Second)
		time.Sleep(9 * time.Second)
		out = w.deliver(t, update)
		wantDone(t, out)
		if len(out.Rests) != 0 {
			t.Errorf("the rest of another node is told on: %v", out.Rests)
		}
	})
}

// A card that may stand already is looked for. While Slack refuses the look, the later
// cards of its app wait behind it, so that cards stand in the order of their requests,
// but for no longer than a minute; those of another app do not.
func TestCardsWaitBehindOneThatIsLookedFor(t *testing.T) {
	t.Parallel()
	for wait, want := range map[int]string{60: "[other first second third]", 61: "[other second third first]"} {
		t.Run(fmt.Sprint(wait), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newBubble(t, slacktest.Config{})
				w.slack.AddFault(slacktest.Fault{Method: "conversations.history", Status: 429, RetryAfter: wait, Times: 1})
				began := time.Now()
				var rows []approvals.Work
				for i, name := range []string{"first", "second", "third", "other"} {
					app := "myapp"
					if name == "other" {
						app = name
					}
					rows = append(rows, approvals.Work{
						Kind: approvals.WorkCard, Subject: w.copyRequest(name, app), Lane: approvals.SlackLane(deploys, app) + "/new",
						Due: began.Add(time.Duration(i-10) * time.Millisecond),
					})
				}
				rows[0].Attempt = 1 // its answer was lost
				w.due(rows...).run(t)
				var got []any
				for _, m := range w.cards(t, len(rows)) {
					got = append(got, m.Metadata.EventPayload["request_id"])
				}
				if fmt.Sprint(got) != want {
					t.Errorf("the cards came as %v; want %s", got, want)
				}
			})
		})
	}
}

// Work keeps its lane, so that a card that was posted may be changed in the lane of new
// ones. While Slack refuses changes, new cards come all the same.
func TestNewCardsDoNotWaitForChanges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newBubble(t, slacktest.Config{})
		w.postCard(t)
		w.request(func(r *approvals.Request) { r.Newer = 128 })
		w.slack.AddFault(slacktest.Fault{Method: "chat.update", Status: 429, RetryAfter: 60, Times: 1})
		change := approvals.Work{Kind: approvals.WorkCard, Subject: "REQUEST1", Lane: newLane, Due: time.Now().Add(-time.Second)}
		out := w.deliver(t, change)
		wantAgain(t, out)
		if wait := time.Until(out.Due); wait != time.Minute {
			t.Errorf("the change is put off for %s; want a minute", wait)
		}
		if got := w.waits(newLane); got != 0 {
			t.Errorf("a new card waits %s; want 0s", got)
		}
	})
}

// While Slack is away it is asked less and less often; then everything comes in
// its order, at the pace of the channel.
func TestAnOutageIsWaitedOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newBubble(t, slacktest.Config{RateLimits: true})
		var rows []approvals.Work
		var want []string
		for i := range 6 {
			r := w.copyRequest(fmt.Sprint("OUTAGE", i), "myapp")
			want = append(want, r)
			rows = append(rows, approvals.Work{Kind: approvals.WorkCard, Subject: r, Lane: lane, Due: time.Now().Add(time.Duration(i) * time.Millisecond)})
		}
		slices.Reverse(rows) // the order is that of their times
		d := w.due(rows...)
		time.Sleep(time.Second)
		w.slack.SetOutage(true)
		began := time.Now()
		var tries []time.Duration
		d.after = func() {
			tries = append(tries, time.Since(began).Truncate(time.Second))
			if time.Since(began) > 90*time.Second {
				w.slack.SetOutage(false)
			}
		}
		d.run(t)
		if got := tries[:8]; fmt.Sprint(got) != "[0s 1s 3s 7s 15s 31s 1m1s 1m31s]" {
			t.Errorf("Slack was tried after %v", got)
		}
		var got []string
		for _, m := range w.cards(t, len(want)) {
			got = append(got, fmt.Sprint(m.Metadata.EventPayload["request_id"]))
		}
		if !slices.Equal(got, want) {
			t.Errorf("the cards came as %v; want %v", got, want)
		}
		for _, c := range w.slack.CallsOf("chat.postMessage") {
			if c.Error == "ratelimited" {
				t.Error("Slack was asked too fast after the outage")
			}
		}
		w.wantTurns(t, w.waits(lane), 0, 0) // nothing rests any more
		time.Sleep(w.waits(lane))
		w.slack.SetOutage(true)
		w.deliver(t, approvals.Work{Kind: approvals.WorkCard, Subject: w.copyRequest("LATER", "myapp"), Lane: lane})
		if got := w.waits(approvals.SlackLane("C0OTHER", "myapp")); got != time.Second {
			t.Errorf("after the next failure Slack rests %s; want a second again", got)
		}
	})
}

// copyRequest files another request like the first.
func (w *world) copyRequest(id, app string) string {
	w.service.edit(func() {
		r := request()
		r.ID, r.App, r.Slack, r.CreatedAt = id, app, approvals.SlackRef{}, time.Now()
		w.service.requests[id] = r
	})
	return id
}

// Of two apps in one channel, the one with much to tell does not starve the other.
func TestTwoAppsOfAChannel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newBubble(t, slacktest.Config{RateLimits: true})
		w.copyRequest("LOUD", "loud")
		w.copyRequest("QUIET", "quiet")
		work := func(kind approvals.Kind, id, app string) approvals.Work {
			return approvals.Work{Kind: kind, Subject: id, Lane: approvals.SlackLane(deploys, app)}
		}
		w.due(work(approvals.WorkCard, "LOUD", "loud"), work(approvals.WorkCard, "QUIET", "quiet")).run(t)
		for seq := range int64(40) {
			w.tell(seq, func(t *approvals.Told) { t.Event.Request, t.Event.Type = "LOUD", approvals.EventCodeFailed })
		}
		w.tell(50, func(t *approvals.Told) { t.Event.Request = "QUIET" })
		began := time.Now()
		d := w.due(work(approvals.WorkThread, "LOUD", "loud"), work(approvals.WorkThread, "QUIET", "quiet"))
		var quiet time.Duration
		d.after = func() {
			if r, _ := w.service.get("QUIET"); quiet == 0 && r.Told == 50 {
				quiet = time.Since(began)
			}
		}
		d.run(t)
		if quiet > 5*time.Second {
			t.Errorf("the quiet app's line came after %s; want it within seconds", quiet)
		}
		if took := time.Since(began); took < 38*time.Second || took > 45*time.Second {
			t.Errorf("41 lines took %s; want about one a second", took)
		}
		for _, c := range w.slack.CallsOf("chat.postMessage") {
			if c.Error != "" {
				t.Errorf("Slack answered %s", c.Error)
			}
		}
	})
}
