package gatewayd_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// alarms counts the alarms in the channel.
func (w world) alarms() (n int) {
	for _, m := range w.Slack.Messages(stage.Channel) {
		if strings.Contains(m.Text, "Nothing is approved any more") {
			n++
		}
	}
	return n
}

// A log that was changed while the daemon did not run is found at the start:
// /readyz and check say so, the channel is alarmed, nothing is approved or signed,
// and the anchor file stays. A copy of the database from before ends it.
func TestChangedLogIsFoundAtTheStart(t *testing.T) {
	t.Parallel()
	w := setup(t)
	id := w.carded(1)
	w.anchorsAll()
	w.stop()
	lost := w.anchorText()
	intact := filepath.Join(t.TempDir(), "intact.db")
	w.operator(0, "backup", intact)
	if r := w.Operator(w.ctx, "", "check"); !strings.Contains(r.Stdout, "ok    log: anchored in RGW_ANCHOR_FILE") {
		t.Errorf("check before: got %s; want the log fine", r.Stdout)
	}
	w.raw("DROP TRIGGER audit_no_update", `UPDATE audit SET line = replace(line, '"required":1', '"required":0') WHERE line LIKE '%request.created%'`)

	const why = "the log was changed by somebody without the keys"
	stop := w.startHeld(why)
	w.until(func() bool { return w.alarms() == 1 })
	if text := w.press(stage.Ana, id); !strings.Contains(text, why) {
		t.Errorf("approve: got %q; want a refusal that says why", text)
	}
	if r := w.Operator(w.ctx, "", "check"); r.Code != 1 || !strings.Contains(r.Stdout, "FAULT log: "+why) || strings.Contains(r.Stdout, why+": "+why) {
		t.Errorf("check: got exit %d, %s; want a fault of the log", r.Code, r.Stdout)
	}
	if r := w.operator(1, "audit", "checkpoint"); r.Stdout != "" || !strings.Contains(r.Stderr, why) {
		t.Errorf("checkpoint: got %q, %q; want none, and why", r.Stdout, r.Stderr)
	}
	stop()

	if got := w.anchorText(); got != lost {
		t.Errorf("the anchor file was changed to %q", got)
	}

	w.restore(intact) // nothing was lost, as the anchor file proves
	w.must(w.Start(w.ctx))
	w.approve(stage.Ana, id)
}

// What was found holds when the log is put back as it was, until the operator
// accepts it.
func TestStartForgivesNothing(t *testing.T) {
	t.Parallel()
	w := setup(t)
	workflow, _ := w.request(1)
	w.stop()
	change := func(from, to string) {
		w.raw("DROP TRIGGER IF EXISTS audit_no_update", `UPDATE audit SET line = replace(line, '`+from+`', '`+to+`') WHERE line LIKE '%request.created%'`)
	}
	change(`"required":1`, `"required":0`)
	const why = "the log was changed by somebody without the keys"
	w.startHeld(why)()
	anchor := w.anchorText()
	if r := w.operator(1, "recover", "--accept-rollback"); !strings.Contains(r.Stderr, "first bad sequence number ") || !strings.Contains(r.Stderr, "put a backup back") {
		t.Errorf("recover: got %q; want the changed event named, and what to do", r.Stderr)
	}
	change(`"required":0`, `"required":1`)
	w.explains(workflow, why)
	w.startHeld(why)()
	if r := w.Operator(w.ctx, "", "check"); r.Code != 1 || !strings.Contains(r.Stdout, "FAULT log: "+why) || strings.Contains(r.Stdout, why+": "+why) {
		t.Errorf("check: got exit %d, %s; want a fault of the log, said once", r.Code, r.Stdout)
	}
	if got := w.anchorText(); got != anchor {
		t.Errorf("the anchor file changed to %q", got)
	}
	if r := w.operator(0, "rebuild", "--check"); !strings.Contains(r.Stderr, "until you run rack-gatewayd recover --accept-rollback") {
		t.Errorf("rebuild: got %q; want a word on what holds", r.Stderr)
	}
	w.operator(0, "recover", "--accept-rollback")
	w.must(w.Start(w.ctx))
	if code, body := w.readyz(); code != http.StatusOK {
		t.Errorf("readyz after the recovery: got %d %s; want 200", code, body)
	}
	if r := w.Operator(w.ctx, "", "check"); strings.Contains(r.Stdout, "FAULT log") {
		t.Errorf("check after it: got %s; want the log fine", r.Stdout)
	}
}

// A checkpoint goes to a file beside those that are there, whatever their names.
func TestCheckpointBesideOtherFiles(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	o.events(2)
	o.write("F.tmp", "mine")
	o.must("audit", "export", "--with-checkpoint", o.path("F"))
	if got := o.read("F.tmp"); got != "mine" {
		t.Errorf("F.tmp: got %q; want it as it was", got)
	}
	if !strings.HasPrefix(o.read("F"), "rack-gateway/") {
		t.Errorf("F: got %q; want a checkpoint", o.read("F"))
	}
	entries, err := os.ReadDir(o.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "F.") && e.Name() != "F.tmp" {
			t.Errorf("%s was left behind", e.Name())
		}
	}
}

// A row that was changed under the running daemon is found before it gives a
// right, and a row that is right again does not end that.
func TestChangedRowStopsDecisions(t *testing.T) {
	t.Parallel()
	w := setup(t)
	id := w.carded(1)
	card, err := w.Card(w.ctx, id)
	w.must(err)
	view, err := w.Press(w.ctx, stage.Ana, card, "approve")
	w.must(err)
	w.raw(`UPDATE requests SET body = json_set(body, '$.required', 0)`)
	got, err := w.Submit(w.ctx, stage.Ana, view, w.Code(stage.Ana, time.Now()))
	w.must(err)
	if got.Closed {
		t.Errorf("a vote on a changed row: got %+v; want it refused", got)
	}
	const why = "the row of request #1 says something else than its events: required"
	w.notReady(why)
	w.until(func() bool { return w.alarms() == 1 })
	if r := w.operator(0, "rebuild"); !strings.Contains(r.Stdout, "request #1: required differs (repaired)") || !strings.Contains(r.Stderr, why) {
		t.Errorf("rebuild: got %q, %q; want the row made anew, and what still holds", r.Stdout, r.Stderr)
	}
	w.notReady(why)
	w.stop()
	w.startHeld(why)()
	w.operator(0, "recover", "--accept-rollback")
	w.must(w.Start(w.ctx))
}
