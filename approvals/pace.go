package approvals

import (
	"context"
	"sync"
	"time"
)

// lookRate is how many calls a second the watcher makes at the most, all
// workflows together.
const lookRate = 4.5

// pace spreads calls evenly over time.
type pace struct {
	mu    sync.Mutex
	next  time.Time
	every time.Duration
}

func newPace(perSecond float64) *pace {
	return &pace{every: time.Duration(float64(time.Second) / perSecond)}
}

// wait blocks until calls more fit the pace.
func (p *pace) wait(ctx context.Context, calls int) error {
	p.mu.Lock()
	now := time.Now()
	at := p.next
	if at.Before(now) {
		at = now
	}
	p.next = at.Add(time.Duration(calls) * p.every)
	p.mu.Unlock()
	t := time.NewTimer(at.Sub(now))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// rest keeps all from calling until the provider, which asked for it, wants to
// hear from us again.
func (p *pace) rest(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if at := time.Now().Add(d); at.After(p.next) {
		p.next = at
	}
}

// resting is how long a call would have to wait.
func (p *pace) resting() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Until(p.next)
}
