package soak_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

const (
	// mostAway is how long nothing may be acknowledged after a synchronous standby was
	// promoted.
	mostAway = 5 * time.Second
	// lag is how far an asynchronous standby is behind: more than the time between two
	// signs of life of a node.
	lag = 2 * time.Second
)

// failover is two daemons on two servers, of which the second stands by.
type failover struct {
	*deploy
	primary, standby *server
	procs            [2]*stage.Process

	stop   chan struct{}
	filing sync.WaitGroup
	mu     sync.Mutex
	acked  map[string]time.Time // requests, and when their creation was answered
}

func newFailover(ctx context.Context, t *testing.T, synchronous bool) *failover {
	t.Helper()
	f := &failover{primary: newServer(t, nil), stop: make(chan struct{}), acked: map[string]time.Time{}}
	f.standby = newServer(t, f.primary)
	if synchronous {
		storetest.SQL(t, f.primary.url(), "ALTER SYSTEM SET synchronous_standby_names = 'standby'", "SELECT pg_reload_conf()")
	}
	var err error
	f.deploy, err = newDeploy(t, "postgres://postgres@127.0.0.1:"+f.primary.port+",127.0.0.1:"+f.standby.port+"/postgres?sslmode=disable")
	if err == nil {
		f.SetEnv("RGW_SETTING_SUPERSEDE=off", "RGW_RATE_LIMIT=0")
		f.procs, err = f.start(ctx, [2]int{0, 1}, f.Spawn)
	}
	if err == nil {
		err = f.People(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// file files requests, ten a second, until stop is closed. Each call is repeated for
// some time, negative = not at all; then it may fail.
func (f *failover) file(ctx context.Context, t *testing.T, retry time.Duration) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for n := int64(1000); ; n++ {
		select {
		case <-f.stop:
			return
		case <-tick.C:
		}
		workflow := f.Pipeline(n)
		f.filing.Go(func() {
			client, err := webhook.NewClient(webhook.ClientConfig{URL: f.URL, Token: f.Token, UserAgent: "soak", RetryFor: retry})
			if err != nil {
				t.Error(err)
				return
			}
			r, _, err := client.Create(ctx, webhook.CreateBody{
				App: stage.App, GitCommit: stage.Revision, Branch: stage.Branch, Metadata: fmt.Appendf(nil, `{"workflow_id":%q}`, workflow),
			})
			if err != nil {
				if retry > 0 {
					t.Errorf("a call failed: %v", err)
				}
				return
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			f.acked[r.ID] = time.Now()
		})
	}
}

// missing counts acknowledged requests that are not there.
func (f *failover) missing(ctx context.Context, t *testing.T, before time.Time) (n, of int) {
	t.Helper()
	client, err := webhook.NewClient(webhook.ClientConfig{URL: f.URL, Token: f.Token, UserAgent: "soak"})
	if err != nil {
		t.Fatal(err)
	}
	for id, at := range f.acked {
		if !at.Before(before) {
			continue
		}
		of++
		_, err := client.Get(ctx, id)
		var p *webhook.Problem
		if errors.As(err, &p) && p.Status == http.StatusNotFound {
			n++
		} else if err != nil {
			t.Fatal(err)
		}
	}
	return n, of
}

// readyz is the status of each node, 0 while there is none.
func (f *failover) readyz() (codes [2]int) {
	for i := range codes {
		if resp, err := http.Get("http://" + f.balancer.Address(i) + "/readyz"); err == nil {
			resp.Body.Close()
			codes[i] = resp.StatusCode
		}
	}
	return codes
}

// TestSynchronousFailover kills the server while requests are filed, and promotes its
// synchronous standby: nothing that was acknowledged is lost.
func TestSynchronousFailover(t *testing.T) {
	only(t, "failovers")
	t.Parallel()
	serverPrograms(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	f := newFailover(ctx, t, true)
	var filing sync.WaitGroup
	filing.Go(func() { f.file(ctx, t, time.Minute) })
	if err := pause(ctx, 4*time.Second); err != nil {
		t.Fatal(err)
	}
	f.primary.kill()
	killed := time.Now()
	f.standby.promote()
	promoted := time.Now()
	if err := pause(ctx, 8*time.Second); err != nil {
		t.Fatal(err)
	}
	close(f.stop)
	filing.Wait()
	f.filing.Wait()
	back := time.Time{}
	for _, at := range f.acked {
		if at.After(killed) && (back.IsZero() || at.Before(back)) {
			back = at
		}
	}
	lost, of := f.missing(ctx, t, time.Now())
	t.Logf("%d requests acknowledged, %d lost; promoted %s after the kill, acknowledging again %s after that", of, lost, short(promoted.Sub(killed)), short(back.Sub(promoted)))
	if lost > 0 || of < 50 || back.IsZero() || back.Sub(promoted) > mostAway {
		t.Errorf("want nothing lost, and to be back within %s", mostAway)
	}
	if codes := f.readyz(); codes != [2]int{200, 200} {
		t.Errorf("readyz: got %v; want both ready", codes)
	}
}

// TestAsynchronousFailover promotes a standby that lacks what was acknowledged last:
// every node answers 503, and nothing is approved or signed, until the operator
// accepts it.
func TestAsynchronousFailover(t *testing.T) {
	only(t, "failovers")
	t.Parallel()
	serverPrograms(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	f := newFailover(ctx, t, false)
	workflow := f.Pipeline(1)
	id, err := f.Request(ctx, workflow)
	if err != nil {
		t.Fatal(err)
	}
	card, err := f.Card(ctx, id)
	if err == nil {
		err = newCaller(f.URL, f.Token).recorded(ctx, id)
	}
	if err == nil {
		err = f.Circle.Succeed(workflow, "request_approval")
	}
	if err == nil {
		err = pause(ctx, time.Second) // the standby has it
	}
	if err != nil {
		t.Fatal(err)
	}
	view, err := f.Press(ctx, stage.Ana, card, "approve")
	if err != nil {
		t.Fatal(err)
	}

	var filing sync.WaitGroup
	filing.Go(func() { f.file(ctx, t, -1) })
	receiver, err := storetest.Count(f.standby.url(), "SELECT pid FROM pg_stat_wal_receiver")
	if err == nil {
		err = errors.Join(syscall.Kill(int(receiver), syscall.SIGSTOP), pause(ctx, lag))
	}
	if err != nil {
		t.Fatal(err)
	}
	close(f.stop)
	filing.Wait()
	f.primary.kill()
	killed := time.Now()
	if err := syscall.Kill(int(receiver), syscall.SIGKILL); err != nil { // its server starts anew, with what it has
		t.Fatal(err)
	}
	f.standby.answers(20 * time.Second)
	anchor := f.anchor(t) // nothing can be signed meanwhile
	f.standby.promote()
	promoted := time.Now()
	// Somebody approves at once.
	got, err := f.Submit(ctx, stage.Ana, view, f.Code(stage.Ana, time.Now()))
	if got.Closed {
		t.Error("a vote was accepted on a database that went back")
	}
	const stopped = "nothing is approved or signed any more"
	var said []byte
	unsaid := again(ctx, func() bool {
		said, err = os.ReadFile(f.log.Name())
		return err != nil || strings.Count(string(said), stopped) >= len(f.procs) && f.readyz() == [2]int{503, 503}
	})
	if err := errors.Join(unsaid, err); err != nil {
		t.Fatalf("not every node says so: %v, %v\n%s", err, f.readyz(), said)
	}
	noticed := time.Now()
	f.filing.Wait()
	lost, of := f.missing(ctx, t, killed)
	for line := range strings.Lines(string(said)) {
		if strings.Contains(line, stopped) {
			t.Log(strings.TrimSpace(line))
		}
	}
	t.Logf("%d of %d acknowledged requests were lost; every node said so %s after the promotion", lost, of, short(noticed.Sub(promoted)))
	if lost == 0 {
		t.Error("nothing was lost, so that nothing was tested")
	}
	if err := pause(ctx, 3*time.Second); err != nil {
		t.Fatal(err)
	}
	if n := len(f.Circle.Approvals(workflow)); n > 0 {
		t.Errorf("%d approve calls were made", n)
	}
	if now := f.anchor(t); now != anchor {
		t.Errorf("it signed\n%s\nafter\n%s", now, anchor)
	}
	f.recover(ctx, t)
}

func (f *failover) anchor(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(f.Variable("RGW_ANCHOR_FILE"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// recover accepts the database as it is, and has everything work again.
func (f *failover) recover(ctx context.Context, t *testing.T) {
	t.Helper()
	for _, p := range f.procs {
		if err := p.Stop(); err != nil {
			t.Errorf("a daemon did not stop well: %v", err)
		}
	}
	if r := f.Operator(ctx, "", "recover", "--accept-rollback"); r.Code != 0 {
		t.Fatalf("recover: %s", r.Stderr)
	}
	if _, err := f.start(ctx, [2]int{0, 1}, f.Spawn); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Request(ctx, f.Pipeline(9000)); err != nil {
		t.Error(err)
	}
}

// TestBackendKilledAtCommit kills the session that commits a click, with SIGKILL,
// after its changes are on disk and before they are: what the person is told agrees
// with the log.
func TestBackendKilledAtCommit(t *testing.T) {
	only(t, "failovers")
	t.Parallel()
	serverPrograms(t)
	for name, settings := range map[string][2]string{
		"after the flush":  {"synchronous_standby_names = 'nobody'", "wait_event = 'SyncRep'"},
		"before the flush": {"commit_delay = 100000", "state = 'active' AND query = 'COMMIT'"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			killAtCommit(t, settings[0], settings[1])
		})
	}
}

func killAtCommit(t *testing.T, setting, committing string) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	s := newServer(t, nil)
	d, err := newDeploy(t, s.url())
	if err != nil {
		t.Fatal(err)
	}
	if _, err = d.start(ctx, [2]int{0, 1}, d.Spawn); err == nil {
		err = d.People(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	id, err := d.Request(ctx, d.Pipeline(1))
	if err != nil {
		t.Fatal(err)
	}
	card, err := d.Card(ctx, id)
	if err == nil {
		err = newCaller(d.URL, d.Token).recorded(ctx, id)
	}
	if err != nil {
		t.Fatal(err)
	}
	view, err := d.Press(ctx, stage.Ana, card, "reject")
	if err != nil {
		t.Fatal(err)
	}
	storetest.SQL(t, s.url(), "ALTER SYSTEM SET commit_siblings = 0", "ALTER SYSTEM SET "+setting, "SELECT pg_reload_conf()")
	answer := make(chan slacktest.SubmitResult, 1)
	go func() {
		got, _ := d.Slack.Submit(ctx, stage.Ana, view.ID, slacktest.Values{"reason": {"text": "not today"}})
		answer <- got
	}()
	// It is the click's, or one that the click waits for.
	which := "SELECT coalesce(max(pid), 0) FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND application_name = 'rack-gatewayd' AND " + committing
	pid := int64(0)
	for pid == 0 && err == nil {
		pid, err = storetest.Count(s.url(), which)
	}
	if err == nil {
		err = syscall.Kill(int(pid), syscall.SIGKILL)
	}
	if err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	for storetest.Exec(s.url(), "ALTER SYSTEM RESET ALL", "SELECT pg_reload_conf()") != nil {
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	got := <-answer
	answered := time.Now()
	rejects := 0
	events, err := stage.Events(ctx, d.URL, d.Token, id)
	for err != nil && pause(ctx, 100*time.Millisecond) == nil { // the server takes no session for a moment
		events, err = stage.Events(ctx, d.URL, d.Token, id)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if e.Type == "decision.rejected" {
			rejects++
		}
	}
	t.Logf("answered %s after the kill: closed %v, %v; %d decisions in the log", short(answered.Sub(killed)), got.Closed, got.Errors, rejects)
	if got.Closed && rejects != 1 || rejects > 1 {
		t.Errorf("the person was told closed %v, and the log has %d decisions", got.Closed, rejects)
	}
	if r := d.Operator(ctx, "", "rebuild", "--check"); r.Code != 0 {
		t.Errorf("rows and log differ: %s%s", r.Stdout, r.Stderr)
	}
}
