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
	// mostAsked bounds what a Retry-After may ask for. A page of a load balancer may
	// name an hour, and the gateway be back in a minute.
	mostAsked = time.Minute
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
		if after := asksToWait(err); after > 0 {
			// The wait is a little longer than was asked for, so that not all clients
			// come back at the same moment.
			pause = after + rand.N(after/10+100*time.Millisecond)
		}
		if time.Since(start)+pause > retryFor {
			return err
		}
		told(err, pause)
		if !approvals.Pause(ctx, pause) {
			return err
		}
	}
}

// passing reports whether a failure may be over soon. Every call of the API may
// be repeated.
func passing(err error) bool {
	var p *Problem
	var f *ForeignAnswer
	switch {
	case errors.As(err, &p):
		// The gateway knows whether asking again helps: 500 and its 502, which
		// says that CircleCI refuses the gateway's token, stay as they are.
		return p.Status == http.StatusTooManyRequests || p.Status == http.StatusServiceUnavailable
	case errors.As(err, &f):
		// Somebody between us and the gateway failed, and may recover.
		return f.Status == http.StatusTooManyRequests || f.Status/100 == 5
	}
	var certificate *tls.CertificateVerificationError
	var connection *ConnectionError
	return errors.As(err, &connection) && !errors.As(err, &certificate)
}

// asksToWait is how long an answer asks us to wait, as far as we do; 0 = it does not.
func asksToWait(err error) time.Duration {
	var p *Problem
	var f *ForeignAnswer
	switch {
	case errors.As(err, &p):
		return min(p.RetryAfter, mostAsked)
	case errors.As(err, &f):
		return min(f.RetryAfter, mostAsked)
	}
	return 0
}

// jitter spreads a pause over its upper half.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }
