package gatewayd

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// Whatever the format, a duration has its unit.
func TestDurationsInTheLog(t *testing.T) {
	t.Parallel()
	for format, want := range map[string]string{"json": `"took":"1.5ms","call":{"wait":"24h"}`, "tint": "took=1.5ms call.wait=24h"} {
		var out bytes.Buffer
		newLog(&out, "info", format).Info("done", "took", 1500*time.Microsecond, slog.Group("call", "wait", 24*time.Hour))
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s: got %s; want %s", format, out.String(), want)
		}
	}
}
