package bot_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
)

func TestThread(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newBubble(t, slacktest.Config{})
		w.tell(7, func(t *approvals.Told) { t.CheckpointSize, t.CheckpointRoot = 8, "Zk3v=" })
		if out := w.deliver(t, thread); out.Due.IsZero() || out.Due.After(time.Now().Add(5*time.Second)) || out.Err != nil {
			t.Fatalf("got %+v; want again soon: there is no card yet", out)
		}
		card := w.postCard(t)
		wantDone(t, w.deliver(t, thread))
		wantDone(t, w.deliver(t, thread))
		lines := w.slack.Thread(deploys, card.TS)
		if len(lines) != 1 || !strings.Contains(slacktest.Text(lines[0].Blocks), "checkpoint 8 · Zk3v=") {
			t.Errorf("got %+v; want one line with its checkpoint", lines)
		}
		time.Sleep(time.Second)
		w.slack.RemoveMessage(deploys, card.TS)
		w.tell(8, nil)
		wantDone(t, w.deliver(t, thread))
		found, err := w.slack.WaitMessage(deadline(t), deploys, func(m slacktest.Message) bool { return m.ThreadTS == "" && m.Revision == 1 })
		if err != nil || !strings.Contains(found.Text, "#127") {
			t.Errorf("got %q, %v; want a line that names its request", found.Text, err)
		}
	})
}

// dueWork is a small stand-in for the worker and its table: one delivery at a
// time, lanes in turn.
type dueWork struct {
	*world
	rows   []approvals.Work
	served map[string]int
	count  int
	after  func() // each delivery, if not nil
	err    error  // of the newest delivery
}

func (w *world) due(rows ...approvals.Work) *dueWork {
	d := &dueWork{world: w, served: map[string]int{}}
	for _, r := range rows {
		if r.Due.IsZero() {
			r.Due = time.Now()
		}
		d.rows = append(d.rows, r)
	}
	return d
}

// next is the row that may be claimed now, or when that may be.
func (d *dueWork) next() (best int, at time.Time) {
	best, now := -1, time.Now()
	for i, r := range d.rows {
		ready := r.Due
		if turn := d.bot.Turn(r.Lane); turn.After(ready) {
			ready = turn
		}
		if ready.After(now) {
			if at.IsZero() || ready.Before(at) {
				at = ready
			}
			continue
		}
		if best < 0 || d.before(r, d.rows[best]) {
			best = i
		}
	}
	return best, at
}

func (d *dueWork) before(a, b approvals.Work) bool {
	switch {
	case a.Lane != b.Lane:
		return d.served[a.Lane] < d.served[b.Lane]
	case a.Rank != b.Rank:
		return a.Rank < b.Rank
	}
	return a.Due.Before(b.Due)
}

// run delivers until nothing is due any more. The clock is that of synctest.
func (d *dueWork) run(t *testing.T) {
	t.Helper()
	for range 500 {
		i, at := d.next()
		if i < 0 && at.IsZero() {
			return
		}
		if i < 0 {
			time.Sleep(time.Until(at))
			continue
		}
		r := d.rows[i]
		r.Attempt++
		d.count++
		d.served[r.Lane] = d.count
		out := d.deliver(t, r)
		d.err = out.Err
		if out.Note != "" || !out.Failed {
			d.rows[i].Note = out.Note
		}
		switch {
		case out.Due.IsZero():
			d.rows = slices.Delete(d.rows, i, i+1)
		case out.Failed:
			d.rows[i].Attempt, d.rows[i].Due = r.Attempt, out.Due
		default:
			d.rows[i].Attempt, d.rows[i].Due, d.rows[i].Rank = 0, out.Due, out.Rank
		}
		if d.after != nil {
			d.after()
		}
	}
	t.Fatal("work is due for ever")
}

// Whatever fails at whichever line: where the history can be read, each line is
// told exactly once, and in order.
func TestEachLineIsToldOnce(t *testing.T) {
	t.Parallel()
	const lines = 6 // more than a burst
	want := []string{"0", "1", "2", "3", "4", "5"}
	for name, fault := range map[string]slacktest.Fault{
		"the call is lost":     {Drop: slacktest.DropBefore, Times: 2},
		"the answer is lost":   {Drop: slacktest.DropAfter, Times: 1},
		"a fault of Slack":     {Status: 503, Times: 4},
		"throttled":            {Status: 429, RetryAfter: 40, Times: 1},
		"not in the channel":   {Error: "not_in_channel", Times: 2},
		"nobody knows it":      {Error: "teapot", Times: 5},
		"refused blocks":       {Error: "invalid_blocks", Times: 1},
		"posting is forbidden": {Error: "restricted_action", Times: 2},
	} {
		for position := range lines {
			t.Run(fmt.Sprintf("%s at %d", name, position), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := newBubble(t, slacktest.Config{RateLimits: true})
					card := w.postCard(t)
					for seq := range int64(lines) {
						w.tell(seq, nil)
					}
					f := fault
					f.Method = "chat.postMessage"
					f.Match = func(c slacktest.Call) bool {
						return strings.Contains(c.Args["metadata"], fmt.Sprintf(`"seq":"%d"`, position))
					}
					w.slack.AddFault(f)
					w.due(thread).run(t)
					if got := w.toldIn(card); !slices.Equal(got, want) {
						t.Errorf("the thread tells %v; want %v", got, want)
					}
					if r, _ := w.service.get("REQUEST1"); r.Told != lines-1 {
						t.Errorf("the cursor is at %d; want the newest event", r.Told)
					}
				})
			})
		}
	}
}

// A process that dies with a claim in its hand has recorded nothing of it.
func TestACrashRepeatsNoLine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newBubble(t, slacktest.Config{})
		card := w.postCard(t)
		for seq := range int64(5) {
			w.tell(seq, nil)
		}
		for attempt := range 3 {
			w.bot = w.fresh()
			work := thread
			work.Attempt = attempt + 1
			w.bot.Deliver(t.Context(), work) // what came of it is lost
		}
		w.due(again(thread)).run(t)
		if got := w.toldIn(card); !slices.Equal(got, []string{"0", "1", "2", "3", "4"}) {
			t.Errorf("the thread tells %v; want each line once, in order", got)
		}
	})
}

// A line that Slack takes in no form does not hold back those behind it.
func TestALineThatCannotBeTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newBubble(t, slacktest.Config{})
		card := w.postCard(t)
		for seq := range int64(3) {
			w.tell(seq, nil)
		}
		w.slack.AddFault(slacktest.Fault{Method: "chat.postMessage", Error: "invalid_blocks", Times: 3})
		w.due(thread).run(t)
		if got := w.toldIn(card); !slices.Equal(got, []string{"1", "2"}) {
			t.Errorf("the thread tells %v; want those behind it", got)
		}
		if r, _ := w.service.get("REQUEST1"); r.Told != 2 {
			t.Errorf("the cursor is at %d; want it past the line", r.Told)
		}
	})
}

// A card that was deleted comes again with its whole thread.
func TestALostCardComesWithItsThread(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newBubble(t, slacktest.Config{})
		first := w.postCard(t)
		w.tell(0, nil)
		w.tell(1, nil)
		w.due(thread).run(t)
		w.slack.RemoveMessage(deploys, first.TS)
		w.request(func(r *approvals.Request) { r.Newer = 128 })
		w.due(card).run(t)
		second := w.postCard(t)
		w.due(again(thread)).run(t)
		if got := w.toldIn(second); !slices.Equal(got, []string{"0", "1"}) {
			t.Errorf("the new thread tells %v; want the whole story", got)
		}
	})
}

// A line that finds its thread gone brings the buttons back, although nothing else
// changes on the card.
func TestAStrayLineShowsThatTheCardIsGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newBubble(t, slacktest.Config{})
		first := w.postCard(t)
		w.tell(0, nil)
		w.slack.RemoveMessage(deploys, first.TS)
		w.due(thread).run(t)
		w.due(card).run(t)
		if r, _ := w.service.get("REQUEST1"); r.Slack.TS != "" {
			t.Errorf("got a card at %+v; want it noted as lost", r.Slack)
		}
	})
}
