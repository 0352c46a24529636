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

// wait blocks until one more call fits the pace.
func (p *pace) wait(ctx context.Context) error {
	p.mu.Lock()
	now := time.Now()
	at := p.next
	if at.Before(now) {
		at = now
	}
	p.next = at.Add(p.every)
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
