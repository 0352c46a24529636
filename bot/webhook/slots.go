package webhook

import "sync"

// slots bound how many calls are worked on at once, in all and for one caller, so
// that no caller can take them all by being slow.
type slots struct {
	all, each int

	mu    sync.Mutex
	taken int
	by    map[string]int
}

func newSlots(all, each int) *slots {
	return &slots{all: all, each: max(1, each), by: map[string]int{}}
}

// take takes a slot for a caller; free gives it back. ok is false when there is none.
func (s *slots) take(caller string) (free func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken >= s.all || s.by[caller] >= s.each {
		return nil, false
	}
	s.taken++
	s.by[caller]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.taken--
		if s.by[caller]--; s.by[caller] == 0 {
			delete(s.by, caller)
		}
	}, true
}
