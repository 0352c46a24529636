package gatewayd_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// stop ends the daemon, which must end well.
func (w world) stop() {
	w.t.Helper()
	if code := w.Stop(); code != 0 {
		w.t.Fatalf("stop: got exit %d; want 0", code)
	}
}

// startHeld starts the daemon where it may not approve, and checks that it says so.
func (w world) startHeld(why string) (stop func()) {
	w.t.Helper()
	p, err := w.Spawn(os.Stderr)
	w.must(err)
	w.until(func() bool {
		resp, err := http.Get(w.URL + "/healthz")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	})
	w.must(w.Slack.WaitSockets(w.ctx, 1))
	code, body := w.readyz()
	if code != http.StatusServiceUnavailable || !strings.Contains(body, why) {
		w.t.Errorf("readyz: got %d %s; want 503 with %q", code, body, why)
	}
	return func() { w.t.Helper(); w.must(p.Stop()) }
}

// recovered is the data of the newest event of a recovery.
func (w world) recovered() map[string]string {
	w.t.Helper()
	var data map[string]string
	for line := range strings.Lines(w.operator(0, "audit", "export").Stdout) {
		var e struct {
			Type string
			Data map[string]string
		}
		w.must(json.Unmarshal([]byte(line), &e))
		if e.Type == "process.recovered" {
			data = e.Data
		}
	}
	return data
}

// explains asks what speaks against approving a workflow: nothing, or only why the log
// lets nobody do it.
func (w world) explains(workflow, why string) {
	w.t.Helper()
	var x struct {
		Checks []struct{ Check, Answer, Detail string }
		People []struct {
			Approve bool
			Told    string
		}
	}
	w.must(json.Unmarshal([]byte(w.operator(0, "explain", "--app", stage.App, "--workflow", workflow, "-o", "json").Stdout), &x))
	answer := ""
	for _, c := range x.Checks {
		if c.Check == "the log is as it was left" {
			answer = c.Answer + " " + c.Detail
		}
	}
	if want := map[bool]string{true: "yes ", false: "no "}[why == ""]; !strings.HasPrefix(answer, want) || !strings.Contains(answer, why) {
		w.t.Errorf("explain: got %q of the log; want %s%s", answer, want, why)
	}
	can, told := 0, 0
	for _, p := range x.People {
		if p.Approve {
			can++
		} else if why != "" && strings.Contains(p.Told, why) {
			told++
		}
	}
	if (can > 0) != (why == "") || (told > 0) != (why != "") {
		w.t.Errorf("explain: got %+v; want nobody who can approve only while %q", x.People, why)
	}
}

func (w world) anchorText() string {
	w.t.Helper()
	text, err := os.ReadFile(w.Variable("RGW_ANCHOR_FILE"))
	w.must(err)
	return string(text)
}

// While an old copy is in place, what is no approval goes on and nothing is
// signed. The recovery names the lost checkpoint, whose file it replaces.
func TestRollbackIsNamed(t *testing.T) {
	t.Parallel()
	w := setup(t, "RGW_SETTING_SUPERSEDE=off", "RGW_RATE_LIMIT=0")
	workflow, pending := w.request(1)
	w.until(func() bool {
		return strings.Contains(w.Client(w.ctx, "", "deploy-approval", "show", pending).Stdout, "Card: ")
	})
	_, posted := w.request(2) // the copy may not know that its card was posted
	backup := filepath.Join(t.TempDir(), "backup.db")
	w.operator(0, "backup", backup)
	_, err := w.Card(w.ctx, posted)
	w.must(err)
	w.request(3)
	w.anchorsAll()
	w.stop()
	w.explains(workflow, "")
	w.restore(backup)
	lost := w.anchorText()
	w.explains(workflow, "an old copy was restored")

	stop := w.startHeld("an old copy was restored")
	card, err := w.Card(w.ctx, pending)
	w.must(err)
	view, err := w.Press(w.ctx, stage.Bea, card, "reject")
	w.must(err)
	got, err := w.Slack.Submit(w.ctx, stage.Bea, view.ID, slacktest.Values{"reason": {"text": "not today"}})
	w.must(err)
	if !got.Closed {
		t.Errorf("reject: got %+v; want the modal closed", got)
	}
	w.until(func() bool { return w.status(pending) == "rejected" })
	w.until(func() bool {
		return strings.Contains(w.Client(w.ctx, "", "deploy-approval", "show", posted).Stdout, "Card: ")
	})
	cards := 0
	for _, m := range w.Slack.Messages(stage.Channel) {
		if m.ThreadTS == "" && m.Metadata != nil && m.Metadata.EventPayload["request_id"] == posted {
			cards++
		}
	}
	if cards != 1 {
		t.Errorf("got %d cards of a request that the copy did not know to be posted; want 1", cards)
	}
	if r := w.operator(1, "audit", "checkpoint"); r.Stdout != "" || !strings.Contains(r.Stderr, "no checkpoint is signed: ") {
		t.Errorf("checkpoint: got %q, %q; want none, and why", r.Stdout, r.Stderr)
	}
	stop()
	if got := w.anchorText(); got != lost {
		t.Errorf("the anchor file was changed to %q before the operator accepted", got)
	}

	key := w.key()
	anchor := w.Variable("RGW_ANCHOR_FILE")
	w.SetEnv("RGW_ANCHOR_FILE=" + filepath.Join(w.file(""), "anchor"))
	if r := w.Operator(w.ctx, "", "recover", "--accept-rollback"); r.Code != 1 || !strings.Contains(r.Stderr, "nothing was changed") {
		t.Errorf("recover without a way to write the anchor file: got exit %d, %q; want 1 and that nothing changed", r.Code, r.Stderr)
	}
	w.SetEnv("RGW_ANCHOR_FILE=" + anchor)
	if w.key() != key {
		t.Error("a recovery that was refused changed the key")
	}
	w.operator(0, "recover", "--accept-rollback")
	lines := strings.Split(lost, "\n")
	data := w.recovered()
	if want := strings.Join(lines[:3], " "); data["old_checkpoint"] != want {
		t.Errorf("the recovery names %q; want %q", data["old_checkpoint"], want)
	}
	if origin, _, _ := strings.Cut(w.anchorText(), "\n"); origin == lines[0] || !strings.HasPrefix(w.key(), origin+"+") {
		t.Errorf("the anchor file is of %q and the key is %q; want the new origin", origin, w.key())
	}
	w.must(w.Start(w.ctx))
}

// What was released since the copy is found out and not repeated.
func TestReleasedSinceTheCopy(t *testing.T) {
	t.Parallel()
	for name, startedBefore := range map[string]bool{"recovered at once": false, "started once before": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t, "RGW_RATE_LIMIT=0")
			workflow, id := w.request(1)
			w.approve(stage.Ana, id) // the gate is not reached yet
			backup := filepath.Join(t.TempDir(), "backup.db")
			w.operator(0, "backup", backup)
			w.must(w.Circle.Succeed(workflow, "request_approval"))
			w.until(func() bool { return w.status(id) == "released" })
			w.anchorsAll()
			w.stop()
			w.restore(backup)
			if startedBefore {
				w.startHeld("an old copy was restored")()
			}
			w.operator(0, "recover", "--accept-rollback")
			w.must(w.Start(w.ctx))
			w.until(func() bool { return w.status(id) == "released" })
			if n := len(w.Circle.Approvals(workflow)); n != 1 {
				t.Errorf("got %d approve calls; want the one before the restore", n)
			}
		})
	}
}

// A checkpoint that another log signed forbids decisions too, and the recovery
// ends that: when the copy is older than the last recovery, and when the
// database is a new one.
func TestForeignAnchorIsRecovered(t *testing.T) {
	t.Parallel()
	w := setup(t, "RGW_SETTING_SUPERSEDE=off", "RGW_RATE_LIMIT=0")
	backup := filepath.Join(t.TempDir(), "backup.db")
	w.operator(0, "backup", backup)
	w.request(1)
	w.stop()
	w.restore(backup)
	w.operator(0, "recover", "--accept-rollback")
	w.must(w.Start(w.ctx))
	w.request(2)
	w.stop()

	for name, replace := range map[string]func(){
		"older than the recovery": func() { w.restore(backup) },
		"new": func() {
			for _, suffix := range []string{"", "-wal", "-shm"} {
				if err := os.Remove(w.file(suffix)); err != nil && !errors.Is(err, os.ErrNotExist) {
					t.Fatal(err)
				}
			}
		},
	} {
		replace()
		foreign := strings.Split(w.anchorText(), "\n")
		w.startHeld("was not signed by this database's log")()
		w.operator(0, "recover", "--accept-rollback")
		if want := strings.Join(foreign[:3], " ") + " (not signed by this log)"; w.recovered()["old_checkpoint"] != want {
			t.Errorf("%s: the recovery names %q; want %q", name, w.recovered()["old_checkpoint"], want)
		}
		w.must(w.Start(w.ctx))
		w.stop()
	}
}
