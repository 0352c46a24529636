package gatewayd_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// starve makes every write beyond size bytes of a file fail in another process.
func (w world) starve(p *stage.Process, size uint64) {
	w.t.Helper()
	limit := syscall.Rlimit{Cur: size, Max: 1 << 62}
	_, _, errno := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, uintptr(p.PID()), syscall.RLIMIT_FSIZE, uintptr(unsafe.Pointer(&limit)), 0, 0, 0)
	if errno != 0 {
		w.t.Fatal(errno)
	}
}

// While the disk fails the daemon acknowledges nothing, decides nothing and
// counts no code, and says why; it goes on when the disk works again.
func TestFailingDisk(t *testing.T) {
	t.Parallel()
	w := setup(t, "RGW_SETTING_SUPERSEDE=off", "RGW_ANCHOR_FILE="+filepath.Join(t.TempDir(), "anchor"))
	if code := w.Stop(); code != 0 {
		t.Fatalf("stop: got exit %d; want 0", code)
	}
	p, err := w.Spawn(os.Stderr)
	w.must(err)
	defer p.Stop()
	w.must(w.Ready(w.ctx, p))
	workflow, id := w.request(1)
	card, err := w.Card(w.ctx, id)
	w.must(err)
	view, err := w.Press(w.ctx, stage.Ana, card, "approve")
	w.must(err)

	w.starve(p, 1000)
	code := w.Code(stage.Ana, time.Now())
	got, err := w.Submit(w.ctx, stage.Ana, view, code)
	w.must(err)
	if !strings.Contains(text(got), "could not record your decision") && !strings.Contains(text(got), "cannot be written") {
		t.Errorf("a submission: got %+v %q; want that it is not recorded", got, text(got))
	}
	w.must(w.Slack.CloseView(stage.Ana))
	w.notReady("the database cannot be written: commit: disk I/O error")
	again := w.Pipeline(2)
	w.unavailable(w.create(again))
	if text := w.press(stage.Bea, id); !strings.Contains(text, "cannot be written") {
		t.Errorf("approve: got %q; want a refusal that says why", text)
	}
	if got := w.status(id); got != "pending" {
		t.Errorf("what can be read: got %s; want pending", got)
	}
	w.operator(0, "token", "list") // it reads in another process

	w.starve(p, 1<<62)
	w.must(w.Ready(w.ctx, p))
	r := w.create(again)
	if r.Code != 0 || !strings.Contains(r.Stderr, "created") {
		t.Errorf("create afterwards: got exit %d, %s; want it created", r.Code, r.Stderr)
	}
	w.must(w.Circle.Succeed(workflow, "request_approval"))
	view, err = w.Press(w.ctx, stage.Ana, card, "approve")
	w.must(err)
	if got, err = w.Submit(w.ctx, stage.Ana, view, code); err != nil || !got.Closed {
		t.Fatalf("the code that was not recorded: got %+v, %v; want it accepted", got, err)
	}
	w.must(w.Circle.Wait(w.ctx, func() bool { return w.Circle.JobStatus(workflow, stage.Gate) == "success" }))
	if n := len(w.Circle.Approvals(workflow)); n != 1 {
		t.Errorf("got %d approve calls; want 1", n)
	}
	w.must(p.Stop())
}
