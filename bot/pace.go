package bot

import (
	"context"
	"sync"
	"time"

	"github.com/slack-go/slack"
	"golang.org/x/time/rate"
)

// pace keeps us below Slack's rates: a method that was refused with 429 rests
// as long as Slack says, and each channel gets one message a second.
// Source: https://docs.slack.dev/apis/web-api/rate-limits
type pace struct {
	mu       sync.Mutex
	rests    map[string]time.Time
	channels map[string]*rate.Limiter
}

const (
	postsPerSecond = 1
	postBurst      = 3
)

func newPace() *pace {
	return &pace{rests: map[string]time.Time{}, channels: map[string]*rate.Limiter{}}
}

// call makes a call unless its method rests.
func (p *pace) call(method string, do func() error) error {
	p.mu.Lock()
	wait := time.Until(p.rests[method])
	p.mu.Unlock()
	if wait > 0 {
		return &slack.RateLimitedError{RetryAfter: wait}
	}
	err := do()
	if err == nil {
		return nil
	}
	if f := diagnose(err); f.kind == limited {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.rests[method] = time.Now().Add(f.after)
	}
	return err
}

// turn waits until the channel may get another message.
func (p *pace) turn(ctx context.Context, channel string) error {
	p.mu.Lock()
	limiter, ok := p.channels[channel]
	if !ok {
		limiter = rate.NewLimiter(postsPerSecond, postBurst)
		p.channels[channel] = limiter
	}
	p.mu.Unlock()
	return limiter.Wait(ctx)
}
