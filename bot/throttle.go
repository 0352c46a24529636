package bot

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"golang.org/x/time/rate"
)

// throttle slows reconnects down. The library backs off only when a dial fails;
// if Slack greets and disconnects at once, it would ask for a new connection
// thousands of times a second, while Slack allows about one a minute (Tier 1).
type throttle struct {
	next  http.RoundTripper
	opens *rate.Limiter
	most  time.Duration
}

const (
	openEvery = 15 * time.Second
	openBurst = 4 // rotations and short breaks are not slowed down
	openBody  = 1 << 20
)

func newThrottle(c *http.Client) *throttle {
	next := c.Transport
	if next == nil {
		next = http.DefaultTransport
	}
	return &throttle{next: next, opens: rate.NewLimiter(rate.Every(openEvery), openBurst), most: callTimeout}
}

// RoundTrip waits for its turn first and bounds the call itself after that, so
// that the wait does not eat the time of the call.
func (t *throttle) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasSuffix(r.URL.Path, "/apps.connections.open") {
		if err := t.opens.Wait(r.Context()); err != nil {
			return nil, fmt.Errorf("wait to reconnect: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), t.most)
	defer cancel()
	answer, err := t.next.RoundTrip(r.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, openBody))
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	answer.Body = io.NopCloser(bytes.NewReader(body))
	return answer, nil
}
