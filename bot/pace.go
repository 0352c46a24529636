package bot

import (
	"math"
	"sync"
	"time"

	"github.com/slack-go/slack"
	"golang.org/x/time/rate"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// pace says when a channel may get its next message. It keeps us below Slack's
// rates: a channel gets one message a second after a short burst, and a method that
// was refused with 429 rests as long as Slack says. Lines of threads leave the last
// message of a burst of several to new cards, so that no card waits for them. After
// trouble the channel, or all of Slack, rests for a while. Nothing ever waits here.
//
// Several nodes share the rate of a channel: each takes its part, so that together
// they keep to it without asking one another. A rest that Slack asks for is told to the
// other nodes with the outcome of the delivery; one after trouble is each node's own.
// Source: https://docs.slack.dev/apis/web-api/rate-limits
type pace struct {
	nodes func() int // how many share the rates

	mu       sync.Mutex
	rests    map[string]rest // by method, channel, lane or allOfSlack
	asked    approvals.Rests // what Slack asked for and the other nodes are not told yet
	channels map[string]*rate.Limiter
}

// rest is a time in which nothing is sent.
type rest struct {
	until time.Time
	tries int // how many in a row failed
}

const (
	postsPerSecond = 1
	postBurst      = 3 // messages, divided among the nodes; each has one at least
	keptForCards   = 1 // message of a burst that lines leave

	methodPost   = "chat.postMessage"
	methodUpdate = "chat.update"
	allOfSlack   = "slack"
)

func newPace(nodes func() int) *pace {
	return &pace{nodes: nodes, rests: map[string]rest{}, asked: approvals.Rests{}, channels: map[string]*rate.Limiter{}}
}

// share is this node's part of what a channel takes; the caller holds the lock.
func (p *pace) share(channel string) *rate.Limiter {
	n := p.nodes()
	limit, burst := rate.Limit(float64(postsPerSecond)/float64(n)), max(1, postBurst/n)
	l := p.channels[channel]
	if l == nil {
		l = rate.NewLimiter(limit, burst)
		p.channels[channel] = l
	}
	if l.Limit() != limit {
		l.SetLimit(limit)
		l.SetBurst(burst)
	}
	return l
}

// call makes a call unless its method rests.
func (p *pace) call(method string, do func() error) error {
	if wait := time.Until(p.until(method)); wait > 0 {
		return &slack.RateLimitedError{RetryAfter: wait}
	}
	err := do()
	if err == nil {
		return nil
	}
	if f := diagnose(err); f.kind == limited {
		p.rest(method, f.after)
		if f.said {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.asked[method] = time.Now().Add(f.after)
		}
	}
	return err
}

// until is when the rest of a method, channel or lane ends.
func (p *pace) until(name string) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rests[name].until
}

// rest has a method or a lane wait.
func (p *pace) rest(name string, d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rests[name] = rest{until: latest(p.rests[name].until, time.Now().Add(d))}
}

// toTell returns what Slack asked for since it was called last.
func (p *pace) toTell() approvals.Rests {
	p.mu.Lock()
	defer p.mu.Unlock()
	asked := p.asked
	p.asked = approvals.Rests{}
	return asked
}

// turn is when a channel takes the next of a kind of traffic. A time that is past
// means now.
func (p *pace) turn(channel string, t approvals.Traffic) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	method := methodPost
	if t == approvals.Updates {
		method = methodUpdate
	}
	var at time.Time
	for _, name := range []string{allOfSlack, channel, method} {
		at = latest(at, p.rests[name].until)
	}
	if method == methodUpdate || p.channels[channel] == nil {
		return at
	}
	share, from := p.share(channel), latest(at, time.Now())
	needed := 1.0
	if t == approvals.Lines && share.Burst() > keptForCards {
		needed += keptForCards
	}
	if missing := needed - share.TokensAt(from); missing > 0 {
		at = from.Add(time.Duration(math.Ceil(missing*1000/float64(share.Limit()))) * time.Millisecond)
	}
	return at
}

// take uses the channel's turn for one message, if it has come.
func (p *pace) take(channel string, t approvals.Traffic) bool {
	if p.turn(channel, t).After(time.Now()) {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.share(channel).Allow()
}

// trouble makes a channel or all of Slack rest, longer each time. What fails
// while it rests already began before, and does not count again.
func (p *pace) trouble(with string) (pause time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	had := p.rests[with]
	if wait := time.Until(had.until); wait > 0 {
		return wait
	}
	tries := had.tries + 1
	pause = approvals.Backoff(tries, retryFirst, retryMost)
	p.rests[with] = rest{time.Now().Add(pause), tries}
	return pause
}

// good ends the trouble with a channel and with Slack: it took a message.
func (p *pace) good(channel string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.rests, channel)
	delete(p.rests, allOfSlack)
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
