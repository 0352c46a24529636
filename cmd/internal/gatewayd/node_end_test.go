package gatewayd_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

// When a newer version has migrated the database, the older ones end by themselves,
// with a sentence and a code of their own, and cannot be started again.
func TestNewerVersionEndsOlder(t *testing.T) {
	t.Parallel()
	w, database := onServer(t)
	log := &firstLine{word: "the newest known is", found: make(chan struct{})}
	_, ended := w.second(log)
	w.nodes(2)
	storetest.SQL(t, database, "UPDATE meta SET schema = schema + 1") // as a migration does
	if code := <-ended; code != 3 || !strings.Contains(log.text.String(), "database is newer than this program") {
		t.Errorf("the second node: got exit %d, %s; want 3 and why", code, &log.text)
	}
	if code := w.Stop(); code != 3 {
		t.Errorf("the first node: got exit %d; want 3", code)
	}
	for _, args := range [][]string{{"serve"}, {"token", "list"}, {"migrate"}} {
		if r := w.Operator(w.ctx, "", args...); r.Code != 3 || !strings.Contains(r.Stderr, "run the newer program") {
			t.Errorf("%v: got exit %d, %s; want 3 and why", args, r.Code, r.Stderr)
		}
	}
}

// recover beside a serve that starts at the same moment is refused, or done before:
// then the daemon signs with the new key.
func TestRecoverWhileServeStarts(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"file", "server"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			w := world{}
			if engine == "file" {
				w = setup(t)
			} else {
				w, _ = onServer(t)
			}
			w.stop()
			for round := range 4 {
				var r stage.Result
				recovered := make(chan struct{})
				recover := func() {
					defer close(recovered)
					r = w.Operator(w.ctx, "", "recover", "--accept-rollback")
				}
				if round%2 == 0 {
					go recover()
					w.must(w.Start(w.ctx))
				} else {
					started := make(chan error, 1)
					go func() { started <- w.Start(w.ctx) }()
					recover()
					w.must(<-started)
				}
				<-recovered
				if r.Code != 0 && (r.Code != 1 || !strings.Contains(r.Stderr, "the daemon is running")) {
					t.Errorf("recover: got exit %d, %s; want it done or refused", r.Code, r.Stderr)
				}
				w.until(func() bool { code, _ := w.readyz(); return code == http.StatusOK })
				w.anchorsAll()
				if origin, _, _ := strings.Cut(w.anchorText(), "\n"); !strings.HasPrefix(w.key(), origin+"+") {
					t.Errorf("after %s: the daemon signs as %s; want the log of %s", r.Stderr, origin, w.key())
				}
				w.stop()
			}
		})
	}
}

// A node that stood still while the operator recovered the log signs nothing under
// its old name, and ends.
func TestNodeThatSleptThroughRecovery(t *testing.T) {
	t.Parallel()
	w, database := onServer(t)
	w.stop()
	text, err := os.Create(filepath.Join(t.TempDir(), "log"))
	w.must(err)
	defer text.Close()
	p, err := w.Spawn(text)
	w.must(err)
	w.must(w.Ready(w.ctx, p))
	w.anchorsAll()
	w.must(syscall.Kill(p.PID(), syscall.SIGSTOP))
	storetest.SQL(t, database, "UPDATE nodes SET until = 1") // it is silent for long
	w.operator(0, "recover", "--accept-rollback")
	anchor := w.anchorText()
	w.must(syscall.Kill(p.PID(), syscall.SIGCONT))
	<-p.Ended()
	said, err := os.ReadFile(text.Name())
	w.must(err)
	if p.Err() == nil || !strings.Contains(string(said), "the log was recovered while this process was running") {
		t.Errorf("got %v, want it to end and say why:\n%s", p.Err(), said)
	}
	if now := w.anchorText(); now != anchor {
		t.Errorf("it signed %s over %s", now, anchor)
	}
}
