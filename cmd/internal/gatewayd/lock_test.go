package gatewayd_test

import (
	"context"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/gatewayd"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// second starts another serve on the database, at an address of its own.
func (w world) second(log io.Writer, more ...string) (stop func() int, ended <-chan int) {
	w.t.Helper()
	env := append(append([]string{}, w.Environ()...), "RGW_LISTEN=127.0.0.1:0", "RGW_METRICS_LISTEN=")
	env = append(env, more...)
	ctx, cancel := context.WithCancel(w.ctx)
	over := make(chan int, 1)
	go func() { over <- gatewayd.Run(ctx, []string{"serve"}, env, strings.NewReader(""), io.Discard, log) }()
	w.t.Cleanup(cancel)
	return func() int { cancel(); return <-over }, over
}

// A serve that is stopped while it waits for the lock ends well.
func TestStopWhileWaiting(t *testing.T) {
	t.Parallel()
	w := setup(t)
	log := &firstLine{word: "another serve holds the database", found: make(chan struct{})}
	stop, ended := w.second(log)
	select {
	case <-log.found:
	case code := <-ended:
		t.Fatalf("the second serve ended with %d: %s", code, &log.text)
	}
	if code := stop(); code != 0 || strings.Contains(log.text.String(), "rack-gatewayd:") {
		t.Errorf("stopped while it waited: got exit %d, %s; want 0 and no error", code, &log.text)
	}
	w.request(1) // the first one never noticed
}

// A killed serve leaves no lock behind: the next one starts at once, and carries
// on with what was decided.
func TestStartAfterKill(t *testing.T) {
	t.Parallel()
	w := setup(t)
	if code := w.Stop(); code != 0 {
		t.Fatalf("stop: got exit %d; want 0", code)
	}
	p, err := w.Spawn(os.Stderr)
	w.must(err)
	w.must(w.Ready(w.ctx, p))
	workflow, id := w.request(1)
	w.approve(stage.Ana, id)
	p.Kill()
	w.must(w.Circle.Succeed(workflow, "request_approval"))
	w.must(w.Start(w.ctx))
	w.until(func() bool { return w.status(id) == "released" })
	if n := len(w.Circle.Approvals(workflow)); n != 1 {
		t.Errorf("got %d approve calls; want 1", n)
	}
}

// A serve that lost its lock takes no vote in a modal that was open before, and
// calls no gate for what was decided before. The one that took the lock does.
// Operator commands go on all the time.
func TestLostLockHandsOver(t *testing.T) {
	t.Parallel()
	w := setup(t, "RGW_SETTING_SUPERSEDE=off")
	workflow, decided := w.request(1)
	w.approve(stage.Ana, decided)
	_, open := w.request(2)
	card, err := w.Card(w.ctx, open)
	w.must(err)
	view, err := w.Press(w.ctx, stage.Bea, card, "approve")
	w.must(err)
	w.must(os.Remove(w.file(".lock")))
	w.operator(0, "token", "create", "--name", "x", "--role", "cicd", "--app", stage.App)

	got, err := w.Submit(w.ctx, stage.Bea, view, w.Code(stage.Bea, time.Now()))
	w.must(err)
	if got.Closed || !strings.Contains(text(got), "lock") {
		t.Errorf("a vote: got %+v %q; want it refused because of the lock", got, text(got))
	}
	w.must(w.Circle.Succeed(workflow, "request_approval")) // now the gate could be opened
	w.must(w.Circle.Wait(w.ctx, func() bool { return w.Circle.JobStatus(workflow, stage.Gate) == "on_hold" }))
	looks := len(w.Circle.Calls())
	w.must(w.Circle.Wait(w.ctx, func() bool { return len(w.Circle.Calls()) > looks+5 }))
	if n := len(w.Circle.Approvals(workflow)); n != 0 {
		t.Fatalf("got %d approve calls without the lock; want none", n)
	}

	stop, _ := w.second(io.Discard) // nothing to wait for
	w.must(w.Circle.Wait(w.ctx, func() bool { return w.Circle.JobStatus(workflow, stage.Gate) == "success" }))
	w.operator(0, "token", "revoke", "x")
	w.until(func() bool { return w.status(decided) == "released" })
	if n := len(w.Circle.Approvals(workflow)); n != 1 {
		t.Errorf("got %d approve calls; want 1", n)
	}
	if code := stop(); code != 0 {
		t.Errorf("the second serve: got exit %d; want 0", code)
	}
}
