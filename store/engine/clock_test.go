package engine

import (
	"testing"
	"time"
)

// The time stands still while a clock goes back a little, and follows a clock that was
// set back.
func TestClock(t *testing.T) {
	var c Clock
	start := time.Date(2026, 11, 27, 10, 0, 0, 0, time.UTC)
	for i, tt := range []struct{ shown, want time.Duration }{
		{0, 0}, {time.Second, time.Second}, {600 * time.Millisecond, time.Second}, {0, time.Second}, {1200 * time.Millisecond, 1200 * time.Millisecond},
		{time.Hour, time.Hour}, {2 * time.Second, 2 * time.Second}, {3 * time.Second, 3 * time.Second},
		{1999 * time.Millisecond, 1999 * time.Millisecond}, {time.Second, 1999 * time.Millisecond},
		{-time.Hour, -time.Hour}, {-time.Hour + 999*time.Microsecond, -time.Hour},
	} {
		got := c.At(start.Add(tt.shown))
		if !got.Equal(start.Add(tt.want)) || got.Location() != time.UTC {
			t.Errorf("reading %d, %v after the start: got %v; want %v", i, tt.shown, got.Sub(start), tt.want)
		}
	}
}
