package soak_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/proof"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

const (
	// takeoverRate is how many requests a second are filed.
	takeoverRate = 5
	// takeoverLength is how long, around the end of a node.
	takeoverLength = 15 * time.Second
	// takeoverApps is how many apps share them, so that no channel gets more than Slack
	// takes.
	takeoverApps = 60
)

// What may be late when a node ends, and by how much.
const (
	lateAfterKill = 7 * time.Second // a node is declared dead after 6 s
	lateAfterStop = time.Second
)

// TestTakeover files requests, with the retries of the real client, while one of two
// daemons on PostgreSQL is killed, or stopped by SIGTERM: no call may fail, and no
// card be later than the other daemon needs to take over.
func TestTakeover(t *testing.T) {
	only(t, "takeovers")
	enough(t, time.Duration(*takeovers)*2*2*takeoverLength)
	database := storetest.Server(t)
	w, err := newTakeover(t.Context(), directory(t, "takeover"), database, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	for n := range *takeovers {
		for what, end := range map[string]func(*stage.Process) error{"killed": w.killAtPost, "stopped": (*stage.Process).Stop} {
			calls, cards, err := w.round(t.Context(), n%2, end)
			if err != nil {
				t.Fatalf("a node is %s: %v", what, err)
			}
			t.Logf("a node is %s: calls %s; from answer to card %s", what, calls, cards)
			most := map[string]time.Duration{"killed": lateAfterKill, "stopped": lateAfterStop}[what]
			if late := cards.most(); late > most {
				t.Errorf("a node is %s: a card is %s late; want at most %s", what, late, most)
			}
			if late := calls.most(); what == "stopped" && late > most {
				t.Errorf("a node is %s: a call takes %s; want at most %s", what, late, most)
			}
		}
	}
}

// takeover is two daemons behind a balancer.
type takeover struct {
	*bench
	balancer *stage.Balancer
	slots    [2]*stage.Process
}

func newTakeover(ctx context.Context, dir, database string, out io.Writer) (*takeover, error) {
	b := &bench{plan: loadPlan{apps: takeoverApps}, out: out}
	var err error
	if b.Stage, err = stage.New(dir, stage.Options{Env: append(b.plan.settings(), "RGW_DATABASE_URL="+database, "RGW_LOG_LEVEL=warn")}); err != nil {
		return nil, err
	}
	w := &takeover{bench: b}
	if b.log, err = os.Create(filepath.Join(dir, "daemon.log")); err == nil {
		err = b.furnish(ctx)
	}
	if err == nil {
		b.Token, err = b.NewToken(ctx, "takeover", "--role", "cicd", "--all-apps")
	}
	if err == nil {
		w.balancer, err = w.NewBalancer(len(w.slots))
	}
	for i := range w.slots {
		if err == nil {
			err = w.spawn(ctx, i)
		}
	}
	if err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

func (w *takeover) close() {
	for _, p := range w.slots {
		if p != nil {
			p.Kill()
		}
	}
	if w.balancer != nil {
		w.balancer.Close()
	}
	w.Close()
	w.log.Close()
}

// spawn starts the daemon of a slot and waits until it works.
func (w *takeover) spawn(ctx context.Context, i int) (err error) {
	address := w.balancer.Address(i)
	if w.slots[i], err = w.Spawn(w.log, "RGW_LISTEN="+address, "RGW_METRICS_LISTEN="); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	newCaller("http://"+address, w.Token).untilReady(ctx, time.Now())
	sockets := 0
	for _, p := range w.slots {
		if p != nil {
			sockets++
		}
	}
	return errors.Join(ctx.Err(), w.Slack.WaitSockets(ctx, sockets))
}

// killAtPost kills a daemon when the next card is about to be posted, by it or by the
// other one, and has Slack not take it.
func (w *takeover) killAtPost(p *stage.Process) error {
	var once sync.Once
	w.Slack.SetHook(func(method string, phase slacktest.Phase) {
		if method == "chat.postMessage" && phase == slacktest.Before {
			once.Do(func() {
				p.Kill()
				panic(http.ErrAbortHandler)
			})
		}
	})
	<-p.Ended()
	return nil
}

// filed is one request.
type filed struct {
	app      int
	id       string
	answered time.Time
	took     time.Duration
	err      error
}

// round files requests while the node of a slot ends, and starts it anew.
func (w *takeover) round(ctx context.Context, slot int, end func(*stage.Process) error) (calls, cards times, err error) {
	all := make([]filed, takeoverRate*int(takeoverLength/time.Second))
	ended := make(chan error, 1)
	tick := time.NewTicker(time.Second / takeoverRate)
	defer tick.Stop()
	var filing sync.WaitGroup
	for i := range all {
		if i == len(all)/3 {
			go func() { ended <- end(w.slots[slot]) }()
		}
		app := int(w.next) % takeoverApps
		_, body := w.pushTo(app)
		filing.Go(func() { all[i] = w.file(ctx, app, body) })
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	filing.Wait()
	if err := errors.Join(<-ended, ctx.Err()); err != nil {
		return nil, nil, err
	}
	for _, f := range all {
		if f.err != nil {
			return nil, nil, fmt.Errorf("a call failed: %w", f.err)
		}
		late, err := w.card(ctx, f)
		if err != nil {
			return nil, nil, err
		}
		calls, cards = append(calls, f.took), append(cards, late)
	}
	return calls, cards, w.spawn(ctx, slot)
}

// file files a request as a CI job does: over a connection of its own, and again for
// as long as the client tries.
func (w *takeover) file(ctx context.Context, app int, body []byte) (f filed) {
	f.app = app
	var b webhook.CreateBody
	client, err := webhook.NewClient(webhook.ClientConfig{URL: w.URL, Token: w.Token, UserAgent: "soak"})
	if f.err = errors.Join(err, json.Unmarshal(body, &b)); f.err != nil {
		return f
	}
	began := time.Now()
	r, _, err := client.Create(ctx, b)
	f.id, f.err, f.answered = r.ID, err, time.Now()
	f.took = f.answered.Sub(began)
	return f
}

// card waits for the card of a request, and says how long after the answer it came.
func (w *takeover) card(ctx context.Context, f filed) (late time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	m, err := w.Slack.WaitMessage(ctx, loadChannel(f.app), func(m slacktest.Message) bool { return proof.IsCard(m, f.id) })
	if err != nil {
		return 0, fmt.Errorf("no card of request %s: %w", f.id, err)
	}
	seconds, err := strconv.ParseFloat(m.TS, 64)
	return max(0, time.UnixMicro(int64(seconds*1e6)).Sub(f.answered)), err
}
