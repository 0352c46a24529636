package gatewayd_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

func (w world) file(suffix string) string { return filepath.Join(w.Dir, "rack-gateway.db"+suffix) }

// until polls until ready says so.
func (w world) until(ready func() bool) {
	w.t.Helper()
	for !ready() {
		select {
		case <-w.ctx.Done():
			w.t.Fatal(w.ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// create asks once for a workflow, without patience.
func (w world) create(workflow string) stage.Result {
	return w.Client(w.ctx, workflow, append(stage.RequestArgs(workflow), "--retry-for", "0s")...)
}

// notReady checks that /readyz refuses and says why.
func (w world) notReady(why string) {
	w.t.Helper()
	var code int
	var body string
	// Before it has started, the daemon is not ready for another reason.
	w.until(func() bool {
		code, body = w.readyz()
		return code == http.StatusServiceUnavailable && !strings.Contains(body, `"role":{"status":"waiting"`)
	})
	if !strings.Contains(body, why) || !strings.Contains(body, `"store":{"status":"unavailable"`) {
		w.t.Errorf("readyz: got %d %s; want the store unavailable with %q", code, body, why)
	}
}

// unavailable checks that a call gets the answer of a database that cannot be used.
func (w world) unavailable(r stage.Result) {
	w.t.Helper()
	if r.Code != 10 || r.Stdout != "" || !strings.Contains(r.Stderr, "the database cannot be used right now; try again later (unavailable)") {
		w.t.Errorf("got exit %d, %q, %q; want 10 and why", r.Code, r.Stdout, r.Stderr)
	}
}

// A log that somebody removed under the daemon: nothing is acknowledged any more
// that nobody would find, and a restart has all that was.
func TestRemovedLogFile(t *testing.T) {
	t.Parallel()
	w := setup(t, "RGW_SETTING_SUPERSEDE=off")
	_, first := w.request(1)
	_, second := w.request(2)
	w.approve(stage.Ana, second)
	w.must(os.Remove(w.file("-wal")))
	w.notReady("a file of the database was removed or replaced")
	w.unavailable(w.create(w.Pipeline(3)))
	w.unavailable(w.Client(w.ctx, "", "deploy-approval", "show", first, "--retry-for", "0s"))
	if text := w.press(stage.Bea, first); !strings.Contains(text, "Nothing was counted") {
		t.Errorf("approve: got %q; want a refusal", text)
	}
	if code := w.Stop(); code != 0 {
		t.Errorf("stop: got exit %d; want 0", code)
	}
	w.must(w.Start(w.ctx))
	if a, b := w.status(first), w.status(second); a != "pending" || b != "approved" {
		t.Errorf("after the restart: got %s and %s; want pending and approved", a, b)
	}
	w.approve(stage.Bea, first)
}

// Another database in the place of the running one, as by a restore without a
// stop: nothing is written to either, and a start works with what is there.
func TestReplacedDatabase(t *testing.T) {
	t.Parallel()
	w := setup(t)
	_, first := w.request(1)
	backup := filepath.Join(t.TempDir(), "backup.db")
	w.operator(0, "backup", backup)
	_, lost := w.request(2)
	w.anchorsAll()
	w.must(os.Rename(backup, w.file("")))
	w.notReady("is another file")
	w.unavailable(w.create(w.Pipeline(3)))
	if code := w.Stop(); code != 0 {
		t.Errorf("stop: got exit %d; want 0", code)
	}
	stop := w.startHeld("an old copy was restored")
	if r := w.Client(w.ctx, "", "deploy-approval", "show", lost); r.Code != 9 {
		t.Errorf("show of what the copy lacks: got exit %d; want 9", r.Code)
	}
	if got := w.status(first); got != "pending" {
		t.Errorf("what the copy has: got %s; want pending", got)
	}
	stop()
}

// Damage that a call meets under the running daemon stops decisions, and stops
// the next start.
func TestDamagedDatabase(t *testing.T) {
	t.Parallel()
	w := setup(t)
	_, id := w.request(1)
	if code := w.Stop(); code != 0 { // it folds the log into the file
		t.Fatalf("stop: got exit %d; want 0", code)
	}
	w.must(w.Start(w.ctx))
	f, err := os.OpenFile(w.file(""), os.O_RDWR, 0)
	w.must(err)
	defer f.Close()
	info, err := f.Stat()
	w.must(err)
	for at := int64(4096); at < info.Size(); at += 4096 { // all but the schema's first page
		_, err := f.WriteAt([]byte(strings.Repeat("\x55", 4096)), at)
		w.must(err)
	}
	w.until(func() bool {
		return w.Client(w.ctx, "", "deploy-approval", "show", id, "--retry-for", "0s").Code == 10
	})
	w.notReady("database is damaged")
	w.unavailable(w.create(w.Pipeline(2)))
	w.Stop()
	for _, command := range [][]string{{"serve"}, {"token", "list"}, {"backup", filepath.Join(t.TempDir(), "x.db")}} {
		if r := w.operator(1, command...); !strings.Contains(r.Stderr, "the database cannot be used: open database: "+w.file("")+": database is damaged") {
			t.Errorf("%s: got %q; want the file and that it is damaged", command[0], r.Stderr)
		}
	}
}

// Without its anchor file the daemon goes on, and says that it is not anchored. The
// directory is made at the start only: when it is gone later, so is its volume.
func TestAnchorCannotBeWritten(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "volume", "gateway")
	w := setup(t, "RGW_ANCHOR_FILE="+filepath.Join(dir, "anchor"))
	w.until(func() bool { _, err := os.Stat(filepath.Join(dir, "anchor")); return err == nil })
	w.must(os.RemoveAll(dir))
	_, first := w.request(1)
	w.until(func() bool {
		code, body := w.readyz()
		if code != http.StatusOK {
			t.Fatalf("readyz: got %d %s; want 200", code, body)
		}
		return strings.Contains(body, `"store":{"status":"degraded","detail":"write RGW_ANCHOR_FILE: `)
	})
	w.approve(stage.Ana, first)
	w.must(os.Mkdir(dir, 0o700))
	w.until(func() bool { _, body := w.readyz(); return strings.Contains(body, `"store":{"status":"ok"}`) })
	if size := w.anchored(filepath.Join(dir, "anchor")); size == "" {
		t.Error("there is no checkpoint in the anchor file")
	}
}

// anchorsAll waits until the anchor file has a checkpoint of the whole log.
func (w world) anchorsAll() {
	w.t.Helper()
	w.until(func() bool {
		text, err := os.ReadFile(w.Variable("RGW_ANCHOR_FILE"))
		w.must(err)
		return w.operator(0, "audit", "checkpoint").Stdout == string(text)
	})
}

// anchored is the size in an anchor file.
func (w world) anchored(path string) string {
	w.t.Helper()
	text, err := os.ReadFile(path)
	w.must(err)
	_, rest, _ := strings.Cut(string(text), "\n")
	size, _, _ := strings.Cut(rest, "\n")
	return size
}

// What is wrong with files is for the operator to know.
func TestOperatorIsToldTheCause(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for _, tt := range []struct {
		args []string
		text string
	}{
		{[]string{"backup", filepath.Join(w.Dir, "no", "x.db")}, "no such file or directory"},
		{[]string{"backup", w.Dir}, "is not a regular file"},
		{[]string{"backup", w.file("")}, "belongs to the database itself"},
	} {
		if r := w.operator(1, tt.args...); !strings.Contains(r.Stderr, tt.text) || strings.Count(r.Stderr, "\n") != 1 {
			t.Errorf("%v: got %q; want one line with %q", tt.args, r.Stderr, tt.text)
		}
	}
	w.SetEnv("RGW_DATABASE_URL=sqlite:"+filepath.Join(w.file(""), "x.db"), "RGW_LISTEN=127.0.0.1:0", "RGW_METRICS_LISTEN=")
	for _, args := range [][]string{{"serve"}, {"token", "list"}, {"recover", "--accept-rollback"}} {
		if r := w.operator(1, args...); !strings.Contains(r.Stderr, "not a directory") {
			t.Errorf("%v: got %q; want why", args, r.Stderr)
		}
	}
}

// text is what a submission left the person with.
func text(got slacktest.SubmitResult) string {
	if got.Updated == nil {
		return ""
	}
	return slacktest.Text(got.Updated.Blocks)
}
