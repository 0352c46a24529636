package proof_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// fault breaks one call: the nth of an operation since the start.
type fault struct {
	Op   string
	Nth  int
	Kind string
}

// The ways in which a call goes wrong.
const (
	failBefore  = "error before it happened"
	failAfter   = "error after it happened"
	failSlow    = "slow"
	failNever   = "happened, and the answer never comes"
	failLimited = "429"
	failBroken  = "500"
	crashBefore = "crash before it happened"
	crashAfter  = "crash after it happened"
)

func faultKinds() []string {
	return []string{failBefore, failAfter, failSlow, failNever, failLimited, failBroken, crashBefore, crashAfter}
}

// operations are all calls that the product makes in these stories.
func operations() []string {
	return []string{
		"slack auth.test", "slack users.info", "slack chat.postMessage", "slack chat.update", "slack chat.getPermalink",
		"slack conversations.history", "slack conversations.replies", "slack views.open", "slack response_url", "slack chat.postEphemeral",
		"circleci me", "circleci user", "circleci workflow", "circleci jobs", "circleci pipeline", "circleci approve",
		"circleci cancel-job", "circleci cancel-workflow", "circleci pipeline-workflows",
	}
}

// network carries calls to the simulated services in memory, and breaks them.
type network struct {
	slack, circle, github http.Handler
	latency               time.Duration // of each call

	mu     sync.Mutex
	faults []fault
	counts map[string]int
}

func (n *network) handler(r *http.Request) http.Handler {
	switch r.URL.Host {
	case slackHost:
		return n.slack
	case githubHost:
		return n.github
	}
	return n.circle
}

const (
	slackHost  = "slack.test"
	circleHost = "circleci.test"
	githubHost = "github.test"
	botHost    = "gateway.test"
)

// operation names a call.
func operation(r *http.Request) string {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	last := parts[len(parts)-1]
	if r.URL.Host == slackHost {
		if parts[0] == "response" {
			return "slack response_url"
		}
		return "slack " + last
	}
	if r.URL.Host == githubHost {
		return "github"
	}
	parts = parts[2:] // api/v2
	switch {
	case len(parts) == 1:
		return "circleci me"
	case parts[0] == "workflow" && len(parts) == 4:
		return "circleci approve"
	case parts[0] == "workflow" && last == "cancel":
		return "circleci cancel-workflow"
	case parts[0] == "jobs":
		return "circleci cancel-job"
	case parts[0] == "workflow" && last == "job":
		return "circleci jobs"
	case parts[0] == "pipeline" && last == "workflow":
		return "circleci pipeline-workflows"
	}
	return "circleci " + parts[0]
}

// take counts a call and returns how it goes wrong, "" for not at all.
func (n *network) take(op string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.counts[op]++
	for i, f := range n.faults {
		if f.Op == op && f.Nth <= n.counts[op] {
			n.faults = append(n.faults[:i:i], n.faults[i+1:]...)
			return f.Kind
		}
	}
	return ""
}

// callsTo counts the calls so far whose operation begins so.
func (n *network) callsTo(service string) (calls int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for op, count := range n.counts {
		if strings.HasPrefix(op, service) {
			calls += count
		}
	}
	return calls
}

// calm takes back what has not gone wrong yet.
func (n *network) calm() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.faults = nil
}

var (
	errCut  = errors.New("connection reset by peer")
	errDead = errors.New("the process is gone")
)

// line is the network as one life of the process sees it: nothing of a dead one
// goes out or comes in.
type line struct {
	net  *network
	life *life
}

// RoundTrip implements http.RoundTripper.
func (l line) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		r.Body.Close()
	}
	if l.life.dead.Load() {
		return nil, errDead
	}
	if !approvals.Pause(r.Context(), l.net.latency) {
		return nil, r.Context().Err()
	}
	kind := l.net.take(operation(r))
	switch kind {
	case failBefore:
		return nil, errCut
	case crashBefore:
		l.life.die()
		return nil, errDead
	case failLimited:
		return answer(r, http.StatusTooManyRequests, "Retry-After", "1"), nil
	case failBroken:
		return answer(r, http.StatusInternalServerError), nil
	case failSlow:
		select {
		case <-time.After(4 * time.Second):
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	resp, err := serve(r.Context(), l.net.handler(r), r, body)
	switch {
	case kind == crashAfter:
		l.life.die()
		return nil, errDead
	case l.life.dead.Load():
		return nil, errDead
	case kind == failAfter:
		return nil, errCut
	case kind == failNever:
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	return resp, err
}

func answer(r *http.Request, status int, header ...string) *http.Response {
	w := httptest.NewRecorder()
	for i := 0; i < len(header); i += 2 {
		w.Header().Set(header[i], header[i+1])
	}
	w.WriteHeader(status)
	resp := w.Result()
	resp.Request = r
	return resp
}

// serve lets a handler answer a request, as a server would.
func serve(ctx context.Context, h http.Handler, r *http.Request, body []byte) (*http.Response, error) {
	w := httptest.NewRecorder()
	in := r.Clone(ctx)
	in.Body = io.NopCloser(bytes.NewReader(body))
	in.RequestURI = r.URL.RequestURI()
	done := make(chan error, 1)
	go func() {
		defer func() {
			if recover() != nil { // http.ErrAbortHandler
				done <- errCut
			}
		}()
		h.ServeHTTP(w, in)
		done <- nil
	}()
	select {
	case err := <-done:
		if err != nil {
			return nil, err
		}
		resp := w.Result()
		resp.Request = r
		return resp, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
