package soak_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
)

// caller calls the API over connections that stay open, as a busy CI's do not:
// so that the daemon is measured, not the making of connections.
type caller struct {
	url, token string
	http       *http.Client
	made       atomic.Int64
}

func newCaller(url, token string) *caller {
	return &caller{url: url, token: token, http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}}}
}

func (c *caller) do(ctx context.Context, method, path string, body []byte, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, c.url+webhook.Base+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, text)
	}
	return json.Unmarshal(text, into)
}

// create files a request and returns its id.
func (c *caller) create(ctx context.Context, body []byte) (string, error) {
	var r webhook.Request
	err := c.do(ctx, http.MethodPost, "/deploy-approval-requests", body, &r)
	if err == nil {
		c.made.Add(1)
	}
	return r.ID, err
}

// recorded waits until the daemon knows where the card of a request stands.
func (c *caller) recorded(ctx context.Context, id string) error {
	var err error
	late := again(ctx, func() bool {
		var r webhook.Request
		err = c.do(ctx, http.MethodGet, "/deploy-approval-requests/"+id, nil, &r)
		return err != nil || r.Slack.TS != ""
	})
	return errors.Join(err, late)
}

// decided is when the decision of a request was recorded.
func (c *caller) decided(ctx context.Context, id string) (time.Time, error) {
	var h webhook.History
	if err := c.do(ctx, http.MethodGet, "/deploy-approval-requests/"+id+"/events", nil, &h); err != nil {
		return time.Time{}, err
	}
	for _, e := range h.Events {
		if e.Type == approvals.EventApproved {
			return e.At(), nil
		}
	}
	return time.Time{}, fmt.Errorf("request %s has no decision", id)
}

// untilReady waits for /readyz and returns the time since began.
func (c *caller) untilReady(ctx context.Context, began time.Time) time.Duration {
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+"/readyz", nil)
		if err != nil {
			return 0
		}
		if resp, err := c.http.Do(req); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return time.Since(began)
			}
		}
		if pause(ctx, time.Millisecond) != nil {
			return time.Since(began)
		}
	}
}

// creates files requests with so many callers while more says so of the number
// that was begun.
func (b *bench) creates(ctx context.Context, many int, more func(begun int) bool) (times, error) {
	var mu sync.Mutex
	var all times
	var failed error
	begun := 0
	next := func() ([]byte, bool) {
		mu.Lock()
		defer mu.Unlock()
		if failed != nil || ctx.Err() != nil || !more(begun) {
			return nil, false
		}
		begun++
		return b.push(), true
	}
	var calling sync.WaitGroup
	for range many {
		calling.Go(func() {
			for {
				body, ok := next()
				if !ok {
					return
				}
				began := time.Now()
				_, err := b.caller.create(ctx, body)
				took := time.Since(began)
				mu.Lock()
				if err != nil && failed == nil {
					failed = err
				}
				all = append(all, took)
				mu.Unlock()
			}
		})
	}
	calling.Wait()
	return all, failed
}

// steady files requests at a fixed rate, however long each takes.
func (b *bench) steady(ctx context.Context) error {
	var mu sync.Mutex
	var all times
	failures := map[string]int{}
	var calling sync.WaitGroup
	ticker := time.NewTicker(time.Second / time.Duration(b.plan.rate))
	defer ticker.Stop()
	began := time.Now()
	for time.Since(began) < b.plan.length {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		body := b.push()
		sent := time.Now()
		calling.Go(func() {
			_, err := b.caller.create(ctx, body)
			took := time.Since(sent)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, took)
			if err != nil {
				failures[err.Error()]++
			}
		})
	}
	calling.Wait()
	fmt.Fprintf(b.out, "%-34s %.0f/s, %s, %d failed\n", fmt.Sprintf("create, %d/s for %s", b.plan.rate, b.plan.length), float64(len(all))/time.Since(began).Seconds(), all, len(failures))
	for text, n := range failures {
		fmt.Fprintf(b.out, "%34d %s\n", n, text)
	}
	b.memory("memory with these")
	return nil
}

// memory prints what the daemon takes, as the kernel counts it (Linux).
func (b *bench) memory(what string) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.daemon.PID()))
	if err != nil {
		return // not Linux
	}
	var now, peak string
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			now = strings.TrimSpace(v)
		}
		if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			peak = strings.TrimSpace(v)
		}
	}
	fmt.Fprintf(b.out, "%-34s %s, at most %s\n", what, now, peak)
}

// times are durations that are told as quantiles.
type times []time.Duration

// String gives median, 99th percentile and greatest.
func (t times) String() string {
	if len(t) == 0 {
		return "none"
	}
	sorted := slices.Sorted(slices.Values(t))
	at := func(q float64) time.Duration { return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))] }
	return fmt.Sprintf("p50 %s, p99 %s, max %s of %d", short(at(0.5)), short(at(0.99)), short(at(1)), len(sorted))
}

func (t times) most() time.Duration { return slices.Max(t) }

func short(d time.Duration) string { return d.Round(10 * time.Microsecond).String() }
