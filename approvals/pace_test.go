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
			p := newPace(func() int { return nodes })
			calls := 0
			for end := time.Now().Add(10 * time.Second); p.turn(rankDue, 1).Before(end); {
				calls++
			}
			if calls < want-1 || calls > want+1 {
				t.Errorf("%d nodes: each made %d calls in 10 s; want %d", nodes, calls, want)
			}
		}
	})
}

// However many looks wait their turn, those of an earlier rank do not wait behind
// them, and all together keep the rate.
func TestPaceHasRanks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace(func() int { return 1 })
		start := time.Now()
		within := 0
		count := func(rank, looks int) {
			for range looks {
				if p.turn(rank, 1).Before(start.Add(10 * time.Second)) {
					within++
				}
			}
		}
		count(rankClosed, 100)
		count(rankOpen, 100)
		if at := p.turn(rankDue, 1); !at.Equal(start) {
			t.Errorf("a look that is due waits %s behind others", at.Sub(start))
		}
		count(rankDue, 100)
		if within < 40 || within > 45 {
			t.Errorf("got %d looks within 10 s; want all shares used and not more than 4.5 a second", within)
		}
		if at := p.turn(rankUrgent, 1); !at.Equal(start) {
			t.Errorf("an urgent look waits %s", at.Sub(start))
		}
	})
}
