package approvals

import (
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
	nodes func() int // how many share the rate
}

func newPace(perSecond float64, nodes func() int) *pace {
	return &pace{every: time.Duration(float64(time.Second) / perSecond), nodes: nodes}
}

// take is for how long some calls keep others waiting. Each node takes its part of
// the rate.
func (p *pace) take(calls int) time.Duration {
	return time.Duration(calls*p.nodes()) * p.every
}

// reserve takes the next turn for some calls, and returns when it is.
func (p *pace) reserve(calls int) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	at := p.next
	if at.Before(now) {
		at = now
	}
	p.next = at.Add(p.take(calls))
	return at
}

// spend takes calls that cannot wait out of what the others may do.
func (p *pace) spend(calls int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); p.next.Before(now) {
		p.next = now
	}
	p.next = p.next.Add(p.take(calls))
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
