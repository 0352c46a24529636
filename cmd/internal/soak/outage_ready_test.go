package soak_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
)

// How soon /readyz names a service that is away. CircleCI is asked once a minute
// and when a call to it fails; Slack is in use all the time.
const (
	nameSlackWithin  = 10 * time.Second
	nameCircleWithin = 20 * time.Second
)

// lookout looks at /readyz for as long as an outage lasts.
type lookout struct {
	url   string
	parts map[string]time.Duration // how soon each is named

	mu     sync.Mutex
	blind  bool // the daemon is down
	alone  bool // the daemon was started while both services were away
	since  time.Time
	named  map[string]time.Duration
	broken map[string]bool
}

func newLookout(url string, services []*service) *lookout {
	l := &lookout{url: url, parts: map[string]time.Duration{}, since: time.Now(), named: map[string]time.Duration{}, broken: map[string]bool{}}
	for _, s := range services {
		l.parts[s.name] = s.namedWithin
	}
	return l
}

// watch looks until ctx ends.
func (l *lookout) watch(ctx context.Context) {
	for pause(ctx, 250*time.Millisecond) == nil {
		ready, status, err := readiness(ctx, l.url)
		l.mu.Lock()
		if !l.blind && ctx.Err() == nil {
			l.judge(ready, status, err)
		}
		l.mu.Unlock()
	}
}

func (l *lookout) judge(ready webhook.Readiness, status int, err error) {
	switch {
	case err != nil:
		l.broken[fmt.Sprintf("/readyz gave no answer during the outage: %v", err)] = true
		return
	case !serving(ready, status, l.alone):
		l.broken[fmt.Sprintf("/readyz answered %d during the outage: %+v", status, ready)] = true
		return
	}
	for name, within := range l.parts {
		_, already := l.named[name]
		down := ready.Status != webhook.StatusOK && ready.Parts[name].Status == webhook.StatusDegraded
		switch away := time.Since(l.since); {
		case down && !already:
			l.named[name] = away
		case !down && already:
			l.broken[fmt.Sprintf("/readyz does not name %s any more, which still is away", name)] = true
		case !down && away > within:
			l.broken[fmt.Sprintf("/readyz does not name %s within %s of its outage", name, within)] = true
		}
	}
}

// serving reports whether the daemon does all that it can do. Alone since its start,
// it has nobody's clock to compare its own with, and says that it decides nothing
// until then; that is all that may be unavailable.
func serving(ready webhook.Readiness, status int, alone bool) bool {
	if status == http.StatusOK || !alone {
		return status == http.StatusOK
	}
	for name, part := range ready.Parts {
		if part.Status == webhook.StatusUnavailable && name != "clock" {
			return false
		}
	}
	return ready.Parts["clock"].Status == webhook.StatusUnavailable
}

// shut stops judging while the daemon is down; open starts anew after a start for
// which both services were away.
func (l *lookout) shut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.blind = true
}

func (l *lookout) open() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.blind, l.alone, l.since = false, true, time.Now()
	clear(l.named)
}

// readiness asks /readyz.
func readiness(ctx context.Context, base string) (ready webhook.Readiness, status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/readyz", nil)
	if err != nil {
		return ready, 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return ready, 0, err
	}
	defer resp.Body.Close()
	return ready, resp.StatusCode, json.NewDecoder(resp.Body).Decode(&ready)
}
