package gatewayd

import (
	"fmt"
	"log/slog"
	"mime"
	"net/http"
	"sync"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli"
)

const (
	skewWarn = 5 * time.Second
	skewHold = 30 * time.Second // beyond it codes of the wrong time would pass
	// skewSame is by how much two answers may differ that say the same.
	skewSame = 5 * time.Second
	// skewAgain is how much later the second of them must come.
	skewAgain = 2 * time.Second
)

// clock compares our clock with the Date of CircleCI's answers.
//
// One odd answer changes nothing: what differs from what was known counts only
// when a second answer, skewAgain or more later, says the same.
//
// Until something is known, no decision is taken. A start without CircleCI does
// not wait for ever all the same: until CircleCI has answered, the Date of Slack's
// answers counts, and without Slack nobody can decide anything. From then on
// CircleCI's word alone counts, because it is CircleCI that lets the deploy go.
type clock struct {
	log *slog.Logger
	// again is called when an answer has to be confirmed by another one; nil = nobody.
	again func()

	mu     sync.Mutex
	source string        // whose time is known: CircleCI's or Slack's, "" = nobody's yet
	skew   time.Duration // as it is known
	odd    time.Duration // what the last answer said, if it was something else
	oddAt  time.Time     // when that was said first; zero = it was not
	warned bool
}

// observe takes one answer of CircleCI.
func (c *clock) observe(server, local time.Time) { c.take("CircleCI", server, local) }

// observeSlack takes one answer of Slack.
func (c *clock) observeSlack(server, local time.Time) {
	c.mu.Lock()
	known := c.source == "CircleCI"
	c.mu.Unlock()
	if !known {
		c.take("Slack", server, local)
	}
}

func (c *clock) take(source string, server, local time.Time) {
	skew := difference(server, local)
	c.mu.Lock()
	defer c.mu.Unlock()
	// The first answer that agrees is enough: it takes two clocks to be wrong in the
	// same way.
	first := c.source == "" && skew.Abs() <= skewWarn
	if !first && (c.source == "" || !same(skew, c.skew)) && !c.confirmed(skew, local) {
		if c.again != nil {
			c.again()
		}
		return
	}
	c.source, c.skew, c.oddAt = source, skew, time.Time{}
	off := skew.Abs() > skewWarn
	if off && !c.warned {
		c.log.Warn("the clock differs from "+source+"'s: check NTP", "by", skew.Round(time.Second))
	}
	c.warned = off
}

// confirmed reports whether an earlier answer said the same, and remembers this
// one if none did. The caller holds the lock.
func (c *clock) confirmed(skew time.Duration, local time.Time) bool {
	if c.oddAt.IsZero() || !same(skew, c.odd) {
		c.odd, c.oddAt = skew, local
		return false
	}
	return local.Sub(c.oddAt) >= skewAgain
}

func same(a, b time.Duration) bool { return (a - b).Abs() <= skewSame }

// difference tells by how much we are ahead. A Date has whole seconds, so that up
// to one counts as agreement.
func difference(server, local time.Time) time.Duration {
	skew := local.Sub(server)
	if skew > 0 {
		skew = max(0, skew-time.Second)
	}
	return skew
}

// fault says why no decision may be taken by this clock, "" when it may.
func (c *clock) fault() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.source == "" && !c.oddAt.IsZero():
		return fmt.Sprintf("the gateway's clock seems to be off by %s: codes are not checked until another answer says how late it is", cli.Duration(c.odd.Round(time.Second)))
	case c.source == "":
		return "the gateway's clock has not been compared with anybody's since the start: codes are not checked before CircleCI or Slack has answered"
	case c.skew.Abs() > skewHold:
		return fmt.Sprintf("the gateway's clock is off by %s: codes cannot be checked", cli.Duration(c.skew.Round(time.Second)))
	}
	return ""
}

// apart says by how much this machine's clock, which pauses and deadlines go by,
// differs from that of the database server, which times are taken from; "" when it is
// at most most.
func apart(skew, most time.Duration) string {
	if skew.Abs() <= most {
		return ""
	}
	return fmt.Sprintf("the clock of this machine differs from the database server's by %s: check NTP on both", cli.Duration(skew.Round(time.Second)))
}

// state describes the clock for /readyz.
func (c *clock) state() (ok bool, detail string) {
	if why := c.fault(); why != "" {
		return false, why
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.skew.Abs() <= skewWarn {
		return true, ""
	}
	return false, fmt.Sprintf("differs from %s's by %s: check NTP", c.source, cli.Duration(c.skew.Round(time.Second)))
}

// datedTransport tells the Date of each answer that is the API's own, and not the
// error page of a proxy.
type datedTransport struct {
	next    http.RoundTripper
	observe func(server, local time.Time)
}

// RoundTrip implements http.RoundTripper.
func (t datedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := t.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	kind, _, _ := mime.ParseMediaType(answer.Header.Get("Content-Type"))
	if date, bad := http.ParseTime(answer.Header.Get("Date")); bad == nil && answer.StatusCode < 500 && kind == "application/json" {
		t.observe(date, time.Now())
	}
	return answer, nil
}
