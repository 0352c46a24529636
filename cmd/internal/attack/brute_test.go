package attack_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/totp"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// newWorld prepares a product whose daemon is a process of its own.
func newWorld(t *testing.T, o stage.Options) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	w := &world{ctx: ctx, flows: map[string]*flow{}, stepOf: map[string]time.Time{}, lastCode: map[string]string{}}
	t.Cleanup(w.end)
	dir, err := os.MkdirTemp("", "attack")
	if err != nil {
		t.Fatal(err)
	}
	if w.Stage, err = stage.New(dir, o); err != nil {
		t.Fatal(err)
	}
	must(t, w.Enrol(ctx))
	return w
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// spawn starts the daemon's process and waits until it is ready.
func (w *world) spawn(t *testing.T) *stage.Process {
	t.Helper()
	out, err := os.OpenFile(filepath.Join(w.Dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	must(t, err)
	defer out.Close()
	p, err := w.Spawn(out)
	must(t, err)
	t.Cleanup(p.Kill)
	if err := w.Ready(w.ctx, p); err != nil {
		log, _ := os.ReadFile(out.Name())
		t.Fatalf("%v\n%s", err, log)
	}
	return p
}

// pushed adds a workflow of the documentation's commit.
func (w *world) pushed(t *testing.T, number int64) *flow {
	t.Helper()
	f, err := w.pipeline(circlecitest.Pipeline{
		Number: number, Project: stage.Project, Revision: stage.Revision, Branch: stage.Branch, ActorLogin: stage.Starter,
	})
	must(t, err)
	return f
}

// requested files a request whose gate is on hold.
func (w *world) requested(t *testing.T, number int64) *flow {
	t.Helper()
	f := w.pushed(t, number)
	must(t, w.fileRequest(f))
	must(t, w.Circle.Succeed(f.workflow, "request_approval"))
	return f
}

// throttle is what the daemon sealed of a person's failures.
func (w *world) throttle(t *testing.T, user string) (state totp.Throttle) {
	t.Helper()
	must(t, w.view(func(tx approvals.Tx) (err error) { _, state, err = factor(tx, user); return err }))
	return state
}

// factor opens a person's authenticator: all its fields, and the state of its throttle.
func factor(tx approvals.Tx, user string) (fields map[string]json.RawMessage, state totp.Throttle, err error) {
	text, err := tx.Secret("authenticator/" + user)
	if err != nil {
		return nil, state, err
	}
	if err := json.Unmarshal([]byte(text), &fields); err != nil {
		return nil, state, err
	}
	return fields, state, json.Unmarshal(fields["throttle"], &state)
}

// setThrottle seals the authenticator with another state of its throttle.
func setThrottle(tx approvals.Tx, user string, fields map[string]json.RawMessage, state totp.Throttle) (err error) {
	if fields["throttle"], err = json.Marshal(state); err != nil {
		return err
	}
	text, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	return tx.SetSecret("authenticator/"+user, string(text))
}

// TestGuessingEndsAtTheTwentiethFailure: Mallory has Ana's Slack session and guesses.
// After each guess he kills the daemon with SIGKILL, in the hope that the failure is
// forgotten, and he is given what he could never have: each pause is over at once. (Threat 7)
func TestGuessingEndsAtTheTwentiethFailure(t *testing.T) {
	t.Parallel()
	w := newWorld(t, stage.Options{Env: []string{"RGW_APP_MYAPP_SETTING_SUPERSEDE=off"}})
	p := w.spawn(t)
	must(t, w.Confirmed(w.ctx))
	f := w.requested(t, 1234)
	view, err := w.Press(w.ctx, stage.Ana, f.card, "approve")
	must(t, err)
	guess := func(code string) slacktest.SubmitResult {
		t.Helper()
		got, err := w.Submit(w.ctx, stage.Ana, view, code)
		must(t, err)
		return got
	}
	for n := 1; n <= 20; n++ {
		got := guess(w.WrongCode(stage.Ana, time.Now()))
		want := "not right"
		switch {
		case n == 20:
			want = "disabled"
		case n >= 5:
			want = "Too many wrong codes"
		}
		said := got.Errors["totp"]
		if got.Updated != nil {
			said = slacktest.Text(got.Updated.Blocks)
		}
		if !strings.Contains(said, want) || got.Closed {
			t.Fatalf("guess %d: got %+v; want %q", n, got, want)
		}
		p.Kill()
		must(t, w.Slack.Wait(w.ctx, func() bool { return w.Slack.Sockets() == 0 }))
		state := w.throttle(t, stage.Ana)
		if state.Failures != n || state.Disabled != (n == 20) {
			t.Fatalf("killed after guess %d: got %d failures, disabled %t; want %d, %t", n, state.Failures, state.Disabled, n, n == 20)
		}
		p = w.spawn(t)
		if n == 5 { // a right code during a pause is neither accepted nor counted
			if got := guess(w.Code(stage.Ana, time.Now())); got.Closed || w.throttle(t, stage.Ana) != state {
				t.Fatalf("right code in the pause: got %+v; want it refused and not counted", got)
			}
		}
		must(t, w.update(func(tx approvals.Tx) error {
			fields, state, err := factor(tx, stage.Ana)
			if err != nil {
				return err
			}
			if wait := time.Until(state.WaitUntil); n >= 10 && n < 20 && wait < 59*time.Minute {
				t.Errorf("after guess %d: got a pause of %s; want an hour", n, wait)
			}
			state.WaitUntil = time.Time{}
			return setThrottle(tx, stage.Ana, fields, state)
		}))
	}

	must(t, w.Confirmed(w.ctx))
	if _, err := w.Press(w.ctx, stage.Ana, f.card, "approve"); err == nil {
		if got, _ := w.Submit(w.ctx, stage.Ana, w.Slack.View(stage.Ana), w.Code(stage.Ana, time.Now())); got.Closed {
			t.Fatal("disabled: got a right code accepted; want it refused")
		}
	}
	if r := w.Operator(w.ctx, "", "user", "unlock", "--slack-id", stage.Ana); r.Code == 0 {
		t.Errorf("unlock: got %+v; want it refused: only a new authenticator helps", r)
	}
	if !w.throttle(t, stage.Ana).Disabled {
		t.Error("got the authenticator enabled again; want it disabled")
	}
	must(t, noApproval(w, nil, w.named("first", f)))

	// Nobody else is affected, and a new authenticator works.
	w.approves(t, stage.Bea, f, "first")
	must(t, w.Admin(w.ctx, stage.Ana, "Ana", "ana"))
	w.approves(t, stage.Ana, w.requested(t, 1235), "second")
}

// named gives a flow a name for the scripts' commands.
func (w *world) named(name string, f *flow) []string {
	w.flows[name] = f
	return []string{name}
}

func (w *world) approves(t *testing.T, user string, f *flow, name string) {
	t.Helper()
	for v := w.Slack.View(user); v != nil; v = w.Slack.View(user) {
		must(t, w.Slack.CloseView(user))
	}
	view, err := w.Press(w.ctx, user, f.card, "approve")
	must(t, err)
	got, err := w.Submit(w.ctx, user, view, w.code(user, "right"))
	must(t, err)
	if !got.Closed {
		t.Fatalf("%s: got %+v; want it accepted", user, got)
	}
	must(t, approvedOnce(w, nil, w.named(name, f)))
}
