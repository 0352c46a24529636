package gatewayd_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/gatewayd"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// A stop while creates hang on CircleCI takes no more than 8 s, is recorded, and
// leaves no call that goes on.
func TestStopWhileCircleCIHangs(t *testing.T) {
	t.Parallel()
	out, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	w := setupWith(t, stage.Options{Log: out})
	w.Circle.Inject(circlecitest.Fault{Op: "workflow", Count: -1, Delay: time.Minute})
	began := len(w.Circle.Calls())
	ended := make(chan stage.Result, 3)
	for n := range 3 {
		workflow := w.Pipeline(int64(1000 + n))
		go func() { ended <- w.Client(w.ctx, workflow, append(stage.RequestArgs(workflow), "--retry-for", "0")...) }()
	}
	w.must(w.Circle.Wait(w.ctx, func() bool { return len(w.Circle.Calls()) >= began+3 }))

	start := time.Now()
	if code := w.Stop(); code != 0 {
		t.Errorf("stop: got exit %d; want 0", code)
	}
	if took := time.Since(start); took > 8*time.Second {
		t.Errorf("the stop took %s; want at most 8 s", took)
	}
	for range 3 {
		if r := <-ended; r.Code == 0 {
			t.Errorf("create: got %+v; want it to fail", r)
		}
	}
	text, err := os.ReadFile(out.Name())
	w.must(err)
	for _, fault := range []string{"database is closed", "record the stop", "calls go on although they were cancelled"} {
		if strings.Contains(string(text), fault) {
			t.Errorf("something went on behind the stop (%q):\n%s", fault, text)
		}
	}
	var export bytes.Buffer
	if code := gatewayd.Run(w.ctx, []string{"audit", "export"}, w.Environ(), strings.NewReader(""), &export, io.Discard); code != 0 || !strings.Contains(export.String(), `"process.stopped"`) {
		t.Errorf("export: got exit %d; want the stop in it:\n%s", code, export.String())
	}
}

// Ctrl-C ends what waits for somebody to type, with the code that shells expect.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	w := setup(t)
	dir := t.TempDir()
	checkpoint, key := filepath.Join(dir, "checkpoint"), filepath.Join(dir, "key")
	w.must(os.WriteFile(checkpoint, []byte(w.operator(0, "audit", "checkpoint").Stdout), 0o600))
	w.must(os.WriteFile(key, []byte(w.operator(0, "audit", "key").Stdout), 0o600))
	for _, args := range [][]string{
		{"audit", "verify", "-", "--checkpoint", checkpoint, "--key", key},
		{"user", "enroll", "--slack-id", stage.Bea, "--secret-stdin"},
	} {
		ctx, interrupt := context.WithCancel(w.ctx)
		reading := &neverTyped{asked: make(chan struct{})}
		var errs bytes.Buffer
		ended := make(chan int, 1)
		go func() { ended <- gatewayd.Run(ctx, args, w.Environ(), reading, io.Discard, &errs) }()
		select {
		case <-reading.asked:
		case code := <-ended:
			t.Fatalf("%q ended with %d before it read: %s", args, code, &errs)
		}
		interrupt()
		select {
		case code := <-ended:
			if code != 130 || !strings.Contains(errs.String(), "interrupted") {
				t.Errorf("%q: got exit %d, %s; want 130 and a word", args, code, &errs)
			}
		case <-w.ctx.Done():
			t.Fatalf("%q does not end", args)
		}
	}
	// Behind a pipe that brings everything, nothing is different.
	export := w.operator(0, "audit", "export").Stdout
	if r := w.Operator(w.ctx, export, "audit", "verify", "-", "--checkpoint", checkpoint, "--key", key); r.Code != 0 {
		t.Errorf("verify of a whole export: got %+v; want exit 0", r)
	}
}

// neverTyped is a terminal at which nobody types.
type neverTyped struct{ asked chan struct{} }

func (n *neverTyped) Read([]byte) (int, error) {
	close(n.asked)
	select {}
}

// A directory in which everybody may replace the database is refused, unless the
// owners of files alone may replace them.
func TestOpenDirectoryIsRefused(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		mode   os.FileMode
		inside string // a directory that the daemon makes for itself
		anchor bool
		want   string
	}{
		{name: "data", mode: 0o777, want: "RGW_DATABASE_URL: everybody on this machine may replace the files in "},
		{name: "anchor", mode: 0o757, anchor: true, want: "RGW_ANCHOR_FILE: everybody on this machine may replace the files in "},
		{name: "sticky", mode: 0o777 | os.ModeSticky},
		{name: "group", mode: 0o770},
		{name: "data in a directory of its own", mode: 0o777, inside: "gateway"},
		{name: "anchor in a directory of its own", mode: 0o777, inside: "gateway", anchor: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			s, err := stage.New(t.TempDir(), stage.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			dir := t.TempDir()
			name := "RGW_DATABASE_URL=sqlite:" + filepath.Join(dir, tt.inside, "rgw.db")
			if tt.anchor {
				name = "RGW_ANCHOR_FILE=" + filepath.Join(dir, tt.inside, "anchor")
			}
			if err := os.Chmod(dir, tt.mode); err != nil {
				t.Fatal(err)
			}
			s.SetEnv(name)
			switch err := s.Start(ctx); {
			case tt.want == "" && err != nil:
				t.Errorf("got %v; want a start", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want+dir)):
				t.Errorf("got %v; want %q", err, tt.want+dir)
			}
		})
	}
}
