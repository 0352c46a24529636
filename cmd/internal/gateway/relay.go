package gateway

import (
	"os"
	"os/signal"
	"sync"
	"time"
)

// sameSending is how close together two equal signals count as one. timeout(1)
// sends its signal to its child and right after that to its whole process group,
// and a CI runner may do the same. A program such as Terraform takes a second
// signal as the order to drop everything, so it must not hear the pair.
const sameSending = time.Second

// relay catches the signals that would end this process and hands each of them
// on exactly once. It is made before the deploy is reported as started, and
// stopped after its outcome is reported, so that no signal cuts off the report.
type relay struct {
	caught chan os.Signal
	done   chan struct{}
	gone   sync.WaitGroup

	mu    sync.Mutex
	last  map[os.Signal]time.Time
	early os.Signal       // the first signal before there was a command; nil = none
	send  func(os.Signal) // nil while no command runs
	began bool
}

func newRelay() *relay {
	r := &relay{caught: make(chan os.Signal, 16), done: make(chan struct{}), last: map[os.Signal]time.Time{}}
	for _, s := range append(relayed, swallowed...) {
		// Under nohup a hang-up stays ignored, for us and for the command.
		if !signal.Ignored(s) {
			signal.Notify(r.caught, s)
		}
	}
	r.gone.Go(func() {
		for {
			select {
			case s := <-r.caught:
				r.pass(s)
			case <-r.done:
				return
			}
		}
	})
	return r
}

func (r *relay) stop() {
	signal.Stop(r.caught)
	close(r.done)
	r.gone.Wait()
}

// pass hands one signal on.
func (r *relay) pass(s os.Signal) {
	for _, never := range swallowed {
		if s == never {
			return
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if at, ok := r.last[s]; ok && now.Sub(at) < sameSending {
		return
	}
	r.last[s] = now
	switch {
	case r.send != nil:
		r.send(s)
	case !r.began && r.early == nil:
		r.early = s
	}
}

// start runs the command's start unless a signal came before. From then on
// signals go to send.
func (r *relay) start(start func() error, send func(os.Signal)) (early os.Signal, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.early != nil {
		return r.early, nil
	}
	if err := start(); err != nil {
		return nil, err
	}
	r.began, r.send = true, send
	return nil, nil
}

// ended says that there is nobody left to hand signals to.
func (r *relay) ended() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.send = nil
}
