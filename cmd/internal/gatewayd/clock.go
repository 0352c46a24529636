package gatewayd

import (
	"fmt"
	"log/slog"
	"sync"
	"time"
)

const (
	skewWarn = 5 * time.Second
	skewHold = 30 * time.Second // beyond it codes of the wrong time would pass
)

// clock compares our clock with the Date of CircleCI's answers.
type clock struct {
	log *slog.Logger

	mu     sync.Mutex
	skew   time.Duration
	warned bool
}

// observe takes one answer. A Date has whole seconds, so that up to one counts
// as agreement.
func (c *clock) observe(server, local time.Time) {
	skew := local.Sub(server)
	if skew > 0 {
		skew = max(0, skew-time.Second)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.skew = skew
	off := skew.Abs() > skewWarn
	if off && !c.warned {
		c.log.Warn("the clock differs from CircleCI's: check NTP", "by", skew.Round(time.Second).String())
	}
	c.warned = off
}

// fault says why no decision may be taken by this clock, "" when it may.
func (c *clock) fault() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.skew.Abs() <= skewHold {
		return ""
	}
	return fmt.Sprintf("the gateway's clock is off by %s: codes cannot be checked", c.skew.Round(time.Second))
}

// state describes the clock for /readyz.
func (c *clock) state() (ok bool, detail string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.skew.Abs() <= skewWarn {
		return true, ""
	}
	return false, fmt.Sprintf("differs from CircleCI's by %s: check NTP", c.skew.Round(time.Second))
}
