package webhook

import "sync"

// slots bound how many calls are worked on at once. No caller gets more of them
// than are left free, so that nobody can take them all by being slow: one caller
// gets a half, two get a third each, and so on (the dynamic thresholds of
// Choudhury and Hahne).
type slots struct {
	all int

	mu    sync.Mutex
	taken int
	by    map[string]int
}

func newSlots(all int) *slots { return &slots{all: all, by: map[string]int{}} }

// take takes a slot for a caller; free gives it back. ok is false when there is none.
func (s *slots) take(caller string) (free func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.by[caller] >= s.all-s.taken {
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
