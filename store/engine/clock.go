package engine

import (
	"sync/atomic"
	"time"
)

// Clock gives times in milliseconds. They do not go back when what it is read from
// goes back by no more than standstill, as it does when answers of a server take
// longer or shorter, or when NTP corrects it a little.
type Clock struct{ last atomic.Int64 }

// standstill is for how long the time may stand still. A clock that is set back by
// more was wrong, and what is read from it now is right: codes, pauses and the
// deadlines of other nodes, which go by the true time, cannot wait for it to be
// reached again. It is well below the two seconds for which a node of a server stays
// alive for the others longer than it trusts in that itself.
const standstill = time.Second

// At is the time that a clock showed, or that of the call before if it was a little
// later.
func (c *Clock) At(shown time.Time) time.Time {
	now := shown.UnixMilli()
	for {
		last := c.last.Load()
		if now <= last && last-now <= standstill.Milliseconds() {
			return time.UnixMilli(last).UTC()
		}
		if c.last.CompareAndSwap(last, now) {
			return time.UnixMilli(now).UTC()
		}
	}
}
