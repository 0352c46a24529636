package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// The test program is the client when a job starts it as one.
func TestMain(m *testing.M) {
	if code, yes := stage.BeProgram(); yes {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

func TestAuto(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"--auto"}, &out, &errs); code != 0 {
		t.Fatalf("got exit code %d; want 0\n%s%s", code, &out, &errs)
	}
	for _, want := range []string{"@Ana", "Rejected by @Bea", "Not deploying", "verify-receipt"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("got %s\nwant %q in it", &out, want)
		}
	}
	for _, markup := range []string{"⟦", "<!date", "<@", "<http"} {
		if strings.Contains(out.String(), markup) {
			t.Errorf("got %s\nwant no %q in it", &out, markup)
		}
	}
	if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v; want nothing", left, err)
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args string
		want int
	}{
		{"--help", 0}, {"--nonsense", 2}, {"--auto extra", 2}, {"--auto --simulators", 2}, {"--simulators --http", 2}, {"--nodes 3", 2}, {"--nodes 2 --simulators", 2},
	} {
		if got := run(t.Context(), strings.Fields(tt.args), &bytes.Buffer{}, &bytes.Buffer{}); got != tt.want {
			t.Errorf("demo %s: got exit code %d; want %d", tt.args, got, tt.want)
		}
	}
}
