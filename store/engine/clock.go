package engine

import (
	"sync/atomic"
	"time"
)

// Clock gives times in milliseconds that do not go back when what it is read from
// does.
type Clock struct{ last atomic.Int64 }

// At is the time that a clock showed, or that of the call before if it was later.
func (c *Clock) At(shown time.Time) time.Time {
	now := shown.UnixMilli()
	for {
		last := c.last.Load()
		if now <= last {
			return time.UnixMilli(last).UTC()
		}
		if c.last.CompareAndSwap(last, now) {
			return time.UnixMilli(now).UTC()
		}
	}
}
