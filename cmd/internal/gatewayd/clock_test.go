package gatewayd

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// The clock is compared with CircleCI's: a little is nothing, more is told once,
// and too much forbids decisions until it is right again.
func TestClock(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	c := &clock{log: slog.New(slog.NewTextHandler(&log, nil))}
	at := time.Date(2026, 11, 26, 10, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		by    time.Duration // we are ahead
		fine  bool
		holds bool
		logs  int // so far
	}{
		{0, true, false, 0},
		{999 * time.Millisecond, true, false, 0}, // a Date is cut to the second
		{6 * time.Second, true, false, 0},
		{6*time.Second + time.Millisecond, false, false, 1},
		{-5 * time.Second, true, false, 1},
		{-5*time.Second - time.Millisecond, false, false, 2},
		{-30 * time.Second, false, false, 2},
		{-30*time.Second - time.Millisecond, false, true, 2},
		{31 * time.Second, false, false, 2},
		{31*time.Second + time.Millisecond, false, true, 2},
		{365 * 24 * time.Hour, false, true, 2},
		{0, true, false, 2},
		{time.Minute, false, true, 3},
	} {
		c.observe(at, at.Add(tt.by))
		ok, detail := c.state()
		if ok != tt.fine || (detail == "") != tt.fine {
			t.Errorf("ahead by %s: got %v, %q; want %v", tt.by, ok, detail, tt.fine)
		}
		if why := c.fault(); (why != "") != tt.holds {
			t.Errorf("ahead by %s: got the fault %q; want one: %v", tt.by, why, tt.holds)
		}
		if got := strings.Count(log.String(), "\n"); got != tt.logs {
			t.Errorf("ahead by %s: got %d log lines; want %d", tt.by, got, tt.logs)
		}
	}
}
