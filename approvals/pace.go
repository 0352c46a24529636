package approvals

import (
	"sync"
	"time"
)

// shares is how many calls a second looks of each rank may make, all workflows
// together. A rank also takes the turns that those behind it leave. Urgent looks do
// not wait: their calls are taken out of what the others may make.
var shares = [...]float64{rankDue: 1, rankOpen: 2, rankClosed: 1.5}

// pace spreads calls evenly over time, and lets no rank keep one before it waiting.
type pace struct {
	mu    sync.Mutex
	next  [len(shares)]time.Time // when the next turn of each rank's share is
	until time.Time              // when the last rest ends
	nodes func() int             // how many share the rate
}

func newPace(nodes func() int) *pace { return &pace{nodes: nodes} }

// turn takes the next turn of a rank for some calls, and returns when it is.
func (p *pace) turn(rank, calls int) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	share := max(rank, rankDue)
	for r := range p.next {
		if r > share && p.next[r].Before(p.next[share]) {
			share = r
		}
	}
	now := time.Now()
	at := latest(now, p.next[share])
	p.next[share] = at.Add(time.Duration(float64(calls*p.nodes()) / shares[share] * float64(time.Second)))
	if rank == rankUrgent {
		return now
	}
	return at
}

// rest keeps all looks that are not urgent from calling until the provider, which
// asked for it, wants to hear from us again.
func (p *pace) rest(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.until = latest(p.until, time.Now().Add(d))
	for r := range p.next {
		p.next[r] = latest(p.next[r], p.until)
	}
}

// restsUntil is when the last rest ends or ended. Turns before it that were taken
// earlier count no more.
func (p *pace) restsUntil() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.until
}
