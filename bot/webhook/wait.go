package webhook

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

const (
	// pollWait is how long the server holds a poll.
	pollWait = 30 * time.Second
	// polls that answer at once, and polls that fail, are spaced by this.
	shortPause, longPause = time.Second, 15 * time.Second
)

// Wait polls until done says that r is what was waited for, and returns that.
// told gets every answer and every failed poll; nil = nobody.
//
// A failed poll does not end the wait: only ctx does, and a refusal (4xx) that
// the next poll confirms. The request is then as it was last seen.
func (c *Client) Wait(ctx context.Context, r Request, done func(Request) bool, told func(Request, error)) (Request, error) {
	if told == nil {
		told = func(Request, error) {}
	}
	var failed int
	var refused bool
	for !done(r) {
		if ctx.Err() != nil {
			return r, ctx.Err()
		}
		began := time.Now()
		next, err := c.poll(ctx, r.ID, r.Status)
		if ctx.Err() != nil && err != nil {
			return r, ctx.Err()
		}
		told(next, err)
		pause := jitter(shortPause)
		switch {
		case err != nil:
			if final(err) && refused {
				return r, err
			}
			failed++
			refused = final(err)
			pause = jitter(approvals.Backoff(failed, shortPause, longPause))
			pause = max(pause, asksToWait(err))
		case next.Status != r.Status:
			failed, refused = 0, false
			r = next
			continue
		default:
			failed, refused = 0, false
			r = next
			if time.Since(began) < shortPause {
				pause += shortPause // a server that does not hold polls is not hurried
			}
		}
		if !approvals.Pause(ctx, pause) {
			return r, ctx.Err()
		}
	}
	return r, nil
}

func (c *Client) poll(ctx context.Context, id string, not approvals.Status) (r Request, err error) {
	wait := pollWait
	if deadline, ok := ctx.Deadline(); ok {
		wait = min(wait, max(time.Until(deadline), time.Millisecond)).Round(time.Millisecond)
	}
	query := url.Values{"wait": {wait.String()}, "status": {string(not)}}
	_, err = c.once(ctx, wait+attemptTime, http.MethodGet, requestPath(id)+"?"+query.Encode(), nil, &r, r.about(sameRequest(id)))
	return r, err
}

// final reports whether the gateway refused for good.
func final(err error) bool {
	var p *Problem
	return errors.As(err, &p) && p.Status/100 == 4 && p.Status != http.StatusTooManyRequests
}
