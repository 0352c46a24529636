package bot

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// pressesPerMinute is how often one person may press a button within a minute
	// and still be looked up each time. A decision takes one press.
	pressesPerMinute = 10
	// mostPressers is how many people are remembered; then the memory starts anew.
	mostPressers = 10_000
)

// presses counts how often people press buttons, so that a flood of clicks costs
// no look-ups.
type presses struct {
	mu sync.Mutex
	by map[string]*rate.Limiter // by Slack user
}

func newPresses() *presses { return &presses{by: map[string]*rate.Limiter{}} }

// allow reports whether a press of this person is looked at.
func (p *presses) allow(user string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	limiter, ok := p.by[user]
	if !ok {
		if len(p.by) >= mostPressers {
			clear(p.by)
		}
		limiter = rate.NewLimiter(rate.Every(time.Minute/pressesPerMinute), pressesPerMinute)
		p.by[user] = limiter
	}
	return limiter.Allow()
}
