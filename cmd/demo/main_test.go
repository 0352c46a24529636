package main

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// The test program is the daemon when it is started as one.
func TestMain(m *testing.M) {
	if code, yes := stage.BeDaemon(context.Background(), os.Args[1:]); yes {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

func TestTorture(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	var out, errs bytes.Buffer
	if code := run(ctx, []string{"torture", "--kills", "12", "--lanes", "8", "--dir", t.TempDir()}, &out, &errs); code != 0 {
		t.Fatalf("got exit code %d; want 0\n%s%s", code, &out, &errs)
	}
	if !strings.Contains(out.String(), " 0 violations") {
		t.Errorf("got %q; want a report", out.String())
	}
}

func TestLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	var out, errs bytes.Buffer
	args := []string{"load", "--rate", "20", "--for", "1s", "--pending", "20", "--decided", "2", "--apps", "300", "--drain", "20s", "--dir", t.TempDir()}
	if code := run(ctx, args, &out, &errs); code != 0 {
		t.Fatalf("got exit code %d; want 0\n%s%s", code, &out, &errs)
	}
	for _, want := range []string{"create, 20/s for 1s", "click to modal", "decision recorded to approve call", "start after SIGKILL"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("got %q; want %q in it", out.String(), want)
		}
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args string
		want int
	}{
		{"--help", 0}, {"--nonsense", 2}, {"--auto extra", 2}, {"torture --help", 0}, {"torture --kills 0", 2}, {"torture extra", 2},
		{"load --help", 0}, {"load --rate 0", 2}, {"load --decided 9 --apps 9", 2},
		{"outage --help", 0}, {"outage extra", 2}, {"outage --for 0s", 2}, {"outage --window 90s", 2}, {"outage --requests -1", 2},
	} {
		if got := run(t.Context(), strings.Fields(tt.args), &bytes.Buffer{}, &bytes.Buffer{}); got != tt.want {
			t.Errorf("demo %s: got exit code %d; want %d", tt.args, got, tt.want)
		}
	}
}
