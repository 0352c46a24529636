package gatewayd_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

func TestMain(m *testing.M) {
	// A file that may not grow is an error to a daemon in a test, not its end.
	signal.Ignore(syscall.SIGXFSZ)
	if code, yes := stage.BeProgram(); yes {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// world is a stage in a test.
type world struct {
	*stage.Stage
	t   *testing.T
	ctx context.Context
}

func setup(t *testing.T, env ...string) world {
	t.Helper()
	return setupWith(t, stage.Options{Env: env})
}

func setupWith(t *testing.T, o stage.Options) world {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	s, err := stage.New(t.TempDir(), o)
	w := world{s, t, ctx}
	w.must(err)
	t.Cleanup(s.Close)
	w.must(s.Start(ctx))
	w.must(s.People(ctx))
	return w
}

func (w world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// operator runs a command that must end with the given code.
func (w world) operator(code int, args ...string) stage.Result {
	w.t.Helper()
	r := w.Operator(w.ctx, "", args...)
	if r.Code != code {
		w.t.Fatalf("rack-gatewayd %s: got exit %d, %s; want %d", strings.Join(args, " "), r.Code, r.Stderr, code)
	}
	return r
}

func (w world) status(id string) string {
	w.t.Helper()
	var r struct{ Status string }
	got := w.Client(w.ctx, "", "deploy-approval", "show", id, "-o", "json")
	if err := json.Unmarshal([]byte(got.Stdout), &r); err != nil {
		w.t.Fatalf("show %s: %v: %s", id, err, got.Stderr)
	}
	return r.Status
}

func (w world) readyz() (int, string) {
	w.t.Helper()
	resp, err := http.Get(w.Health + "/readyz")
	w.must(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	w.must(err)
	return resp.StatusCode, string(body)
}

// request files a request for a new pipeline.
func (w world) request(number int64) (workflow, id string) {
	w.t.Helper()
	workflow = w.Pipeline(number)
	id, err := w.Request(w.ctx, workflow)
	w.must(err)
	return workflow, id
}

// press clicks Approve on a request's card; text is what the person is told
// instead of a modal.
func (w world) press(user, id string) (text string) {
	w.t.Helper()
	card, err := w.Card(w.ctx, id)
	w.must(err)
	_, err = w.Press(w.ctx, user, card, "approve")
	var refused *stage.Refused
	if errors.As(err, &refused) {
		return refused.Text
	}
	w.must(err)
	return ""
}

// approve decides a request with a right code.
func (w world) approve(user, id string) {
	w.t.Helper()
	card, err := w.Card(w.ctx, id)
	w.must(err)
	view, err := w.Press(w.ctx, user, card, "approve")
	w.must(err)
	got, err := w.Submit(w.ctx, user, view, w.Code(user, time.Now()))
	w.must(err)
	if !got.Closed {
		w.t.Fatalf("approve %s: got %+v; want the modal closed", id, got)
	}
}

// restore puts a backup in the place of the database.
func (w world) restore(backup string) {
	w.t.Helper()
	db := filepath.Join(w.Dir, "rack-gateway.db")
	copied, err := os.ReadFile(backup)
	w.must(err)
	for _, suffix := range []string{"-wal", "-shm"} {
		if err := os.Remove(db + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			w.t.Fatal(err)
		}
	}
	w.must(os.WriteFile(db, copied, 0o600))
}

// A database that was restored from a backup approves nothing until the
// operator accepts it. Then codes that may have been used are refused, what was
// pending is expired, and what was approved is not approved again.
func TestRestoredBackup(t *testing.T) {
	t.Parallel()
	w := setup(t, "RGW_SETTING_SUPERSEDE=off")
	_, pending := w.request(1)
	blocked, approved := w.request(2)
	w.approve(stage.Ana, approved)
	backup := filepath.Join(t.TempDir(), "backup.db")
	w.operator(0, "backup", backup)
	_, lost := w.request(3)
	if code := w.Stop(); code != 0 {
		t.Fatalf("stop: got exit %d; want 0", code)
	}
	oldKey := w.key()
	w.restore(backup)

	p, err := w.Spawn(os.Stderr)
	w.must(err)
	w.must(w.Slack.WaitSockets(w.ctx, 1))
	if code, body := w.readyz(); code != http.StatusServiceUnavailable || !strings.Contains(body, "old copy was restored") {
		t.Errorf("readyz after the restore: got %d %s; want 503 that says why", code, body)
	}
	if text := w.press(stage.Bea, pending); !strings.Contains(text, "old copy") {
		t.Errorf("approve after the restore: got %q; want a refusal that says why", text)
	}
	if r := w.Client(w.ctx, "", "deploy-approval", "show", lost); r.Code != 9 {
		t.Errorf("show of a lost request: got exit %d; want 9", r.Code)
	}
	w.request(4) // creating goes on
	if err := w.Circle.Succeed(blocked, "request_approval"); err != nil {
		t.Fatal(err)
	}
	w.operator(1, "recover", "--accept-rollback") // not beside a running daemon
	w.must(p.Stop())
	if n := len(w.Circle.Approvals(blocked)); n != 0 {
		t.Fatalf("got %d approve calls before the operator accepted; want none", n)
	}

	w.operator(2, "recover")
	w.operator(0, "recover", "--accept-rollback")
	if key := w.key(); key == oldKey {
		t.Error("the log goes on under the old key; want a new one")
	}
	w.must(w.Start(w.ctx))
	if got := w.status(pending); got != "expired" {
		t.Errorf("the pending request: got %s; want expired", got)
	}
	card, err := w.Card(w.ctx, approved)
	w.must(err)
	_, err = w.Replied(w.ctx, card, "Expired")
	w.must(err)
	if n := len(w.Circle.Approvals(blocked)); n != 0 {
		t.Errorf("got %d approve calls for a restored approval; want none", n)
	}
	_, fresh := w.request(5)
	card, err = w.Card(w.ctx, fresh)
	w.must(err)
	view, err := w.Press(w.ctx, stage.Bea, card, "approve")
	w.must(err)
	got, err := w.Submit(w.ctx, stage.Bea, view, w.Code(stage.Bea, time.Now()))
	w.must(err)
	if !strings.Contains(got.Errors["totp"], "already used") {
		t.Errorf("a code that may have been used: got %+v; want it refused as used", got)
	}
}

// key is the verifier key in the database.
func (w world) key() string {
	w.t.Helper()
	return strings.TrimSpace(w.operator(0, "audit", "key").Stdout)
}
