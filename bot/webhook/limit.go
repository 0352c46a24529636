package webhook

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// strangerRate is how many refused calls an address has per minute.
	strangerRate = 30
	// frontRate is the same for everybody together behind a proxy that is not trusted.
	frontRate = 20 * strangerRate
	// maxCallers bounds the memory of a limiter.
	maxCallers = 10_000
)

// limiter gives each caller so many calls per minute; the bucket holds one
// minute's worth.
type limiter struct {
	perMinute int // 0 = no limit

	mu      sync.Mutex
	callers map[string]*rate.Limiter
	crowd   *rate.Limiter // shared by all for whom there is no room
	swept   time.Time
}

func newLimiter(perMinute int) *limiter {
	l := &limiter{perMinute: perMinute, callers: map[string]*rate.Limiter{}}
	l.crowd = l.bucket()
	return l
}

func (l *limiter) bucket() *rate.Limiter {
	return rate.NewLimiter(rate.Limit(float64(l.perMinute)/60), l.perMinute)
}

// take counts one call; wait is how long the caller must wait, 0 = go on.
func (l *limiter) take(caller string) (wait time.Duration) {
	if l.perMinute <= 0 {
		return 0
	}
	now := time.Now()
	reserved := l.of(caller, now).ReserveN(now, 1)
	if wait = reserved.DelayFrom(now); wait > 0 {
		reserved.CancelAt(now)
	}
	return wait
}

func (l *limiter) of(caller string, now time.Time) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b, ok := l.callers[caller]; ok {
		return b
	}
	if len(l.callers) >= maxCallers && now.Sub(l.swept) > time.Second {
		l.swept = now
		// A full bucket remembers nothing: forgetting it changes nothing.
		for name, b := range l.callers {
			if b.TokensAt(now) >= float64(l.perMinute) {
				delete(l.callers, name)
			}
		}
	}
	if len(l.callers) >= maxCallers {
		return l.crowd
	}
	b := l.bucket()
	l.callers[caller] = b
	return b
}

// strangerKey names the network that a stranger's calls are counted for: one
// IPv6 caller commonly has a whole /64.
func strangerKey(a netip.Addr) string {
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}
