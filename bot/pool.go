package bot

import (
	"sync"
	"time"
)

// pool runs tasks side by side, but never more than its size at once: what
// reads Slack's events must never wait for a task.
type pool struct {
	slots chan struct{}
	fault func(panicked any)

	mu     sync.Mutex
	closed bool
	busy   sync.WaitGroup
}

func newPool(size int, fault func(any)) *pool {
	return &pool{slots: make(chan struct{}, size), fault: fault}
}

// try starts a task, or reports that the pool is full or closed.
func (p *pool) try(task func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	select {
	case p.slots <- struct{}{}:
	default:
		return false
	}
	p.busy.Go(func() {
		defer func() { <-p.slots }()
		defer func() {
			if panicked := recover(); panicked != nil {
				p.fault(panicked)
			}
		}()
		task()
	})
	return true
}

// drain takes no more tasks and waits for those that run, at most so long.
func (p *pool) drain(most time.Duration) {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	done := make(chan struct{})
	go func() { p.busy.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(most):
	}
}
