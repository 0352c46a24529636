package approvals

import (
	"testing"
	"testing/synctest"
	"time"
)

// Nodes share what CircleCI gets: two of them together make no more calls than one.
func TestPaceIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for nodes, want := range map[int]int{1: 45, 2: 22, 3: 15} {
			p := newPace(lookRate, func() int { return nodes })
			calls := 0
			for end := time.Now().Add(10 * time.Second); p.reserve(1).Before(end); {
				calls++
			}
			if calls < want-1 || calls > want+1 {
				t.Errorf("%d nodes: each made %d calls in 10 s; want %d", nodes, calls, want)
			}
		}
	})
}
