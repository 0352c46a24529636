package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

const (
	firstPause = 500 * time.Millisecond
	mostPause  = 15 * time.Second
)

// retry runs once until it succeeds, fails for good, ctx ends, or another
// try would begin later than retryFor after the first. The error is that of
// the last try.
func retry(ctx context.Context, retryFor time.Duration, told func(error, time.Duration), once func(context.Context) error) error {
	start := time.Now()
	for attempt := 1; ; attempt++ {
		err := once(ctx)
		if err == nil || ctx.Err() != nil || !passing(err) {
			return err
		}
		pause := jitter(approvals.Backoff(attempt, firstPause, mostPause))
		var p *Problem
		if errors.As(err, &p) && p.RetryAfter > 0 {
			// Not before that, and not all clients at that very moment.
			pause = p.RetryAfter + rand.N(p.RetryAfter/10+100*time.Millisecond)
		}
		if time.Since(start)+pause > retryFor {
			return err
		}
		told(err, pause)
		if !sleep(ctx, pause) {
			return err
		}
	}
}

// passing reports whether a failure may be over soon. Every call of the API may
// be repeated.
func passing(err error) bool {
	var p *Problem
	if errors.As(err, &p) {
		switch p.Status {
		case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return true
		case http.StatusBadGateway: // a proxy's; ours says that CircleCI refuses the token
			return p.Code == ""
		}
		return false
	}
	var certificate *tls.CertificateVerificationError
	var connection *ConnectionError
	return errors.As(err, &connection) && !errors.As(err, &certificate)
}

// jitter spreads a pause over its upper half.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// sleep is false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
