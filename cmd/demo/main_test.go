package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args string
		want int
	}{
		{"--help", 0}, {"--nonsense", 2}, {"--auto extra", 2},
	} {
		if got := run(t.Context(), strings.Fields(tt.args), &bytes.Buffer{}, &bytes.Buffer{}); got != tt.want {
			t.Errorf("demo %s: got exit code %d; want %d", tt.args, got, tt.want)
		}
	}
}
