package slacktest

import (
	"math"
	"net/http"
	"slices"
	"time"

	"golang.org/x/time/rate"
)

// Phase tells a hook on which side of an effect it runs.
type Phase int

// A hook runs before the effect of a call, and after it but before the answer leaves.
const (
	Before Phase = iota
	After
)

// Drop says when a connection is cut without an answer.
type Drop int

// DropBefore loses the call; DropAfter loses only the answer.
const (
	NoDrop Drop = iota
	DropBefore
	DropAfter
)

// Fault is one way in which calls go wrong. Its zero effect fields do nothing.
type Fault struct {
	Method string // a Web API method or "response_url"; "" matches every call
	Times  int    // how many calls it hits; 0 means until it is removed
	Match  func(Call) bool

	Delay      time.Duration
	Error      string // answered as ok:false
	Status     int    // answered as a bare HTTP status
	RetryAfter int    // seconds, sent with Status
	Drop       Drop
}

// Call is one line of the log of calls, without the token. Error is what was answered, "" for success.
type Call struct {
	At     time.Time
	Method string
	Args   map[string]string
	Error  string
	Status int // 0 when the connection was cut
}

// AddFault puts a fault in front of the calls and returns how to remove it. Of several that match the oldest counts.
func (s *Server) AddFault(f Fault) (remove func()) {
	fault := &f
	s.change(func() { s.faults = append(s.faults, fault) })
	return func() {
		s.change(func() { s.faults = slices.DeleteFunc(s.faults, func(other *Fault) bool { return other == fault }) })
	}
}

// ClearFaults removes all faults, mute sockets and the outage. Rate limits stay.
func (s *Server) ClearFaults() {
	s.change(func() { s.faults, s.outage, s.mute, s.disconnectNew = nil, false, false, "" })
}

// SetOutage cuts every connection, sockets included, until it is switched off.
func (s *Server) SetOutage(on bool) {
	s.change(func() { s.outage = on })
	if on {
		s.CloseSockets()
	}
}

// SetHook sets what is called around the effect of each Web API method, of "response_url", and of each delivery
// (see Deliver), with no lock held; nil removes it.
func (s *Server) SetHook(hook func(method string, phase Phase)) {
	s.change(func() { s.hook = hook })
}

// SetRateLimits switches Slack's tiers on or off and forgets what was used.
func (s *Server) SetRateLimits(on bool) {
	s.change(func() { s.rateLimits, s.limiters = on, newLimiters() })
}

// Calls returns the log of calls, oldest first.
func (s *Server) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// CallsOf returns the calls of one method, oldest first.
func (s *Server) CallsOf(method string) []Call {
	return slices.DeleteFunc(s.Calls(), func(c Call) bool { return c.Method != method })
}

func (s *Server) callHook(method string, phase Phase) {
	s.mu.Lock()
	hook := s.hook
	s.mu.Unlock()
	if hook != nil {
		hook(method, phase)
	}
}

func (s *Server) takeFault(call Call) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, f := range s.faults {
		if f.Method != "" && f.Method != call.Method || f.Match != nil && !f.Match(call) {
			continue
		}
		taken := *f
		if f.Times > 0 {
			if f.Times--; f.Times == 0 {
				s.faults = slices.Delete(s.faults, i, i+1)
			}
		}
		return taken
	}
	return Fault{}
}

func (s *Server) logCall(call Call, code string, status int) {
	call.At, call.Error, call.Status = s.cfg.Now(), code, status
	if code == "" && status != http.StatusOK {
		call.Error = http.StatusText(status)
	}
	s.change(func() { s.calls = append(s.calls, call) })
}

// limiters hold one bucket per method, and for chat.postMessage one per channel.
// Source: https://docs.slack.dev/apis/web-api/rate-limits
type limiters struct{ buckets map[string]*rate.Limiter }

func newLimiters() *limiters { return &limiters{buckets: map[string]*rate.Limiter{}} }

func perMinute(method string) int {
	switch method {
	case "apps.connections.open":
		return 1
	case "usergroups.list":
		return 20
	case "chat.update", "conversations.info", "conversations.replies", "conversations.history":
		return 50
	case "views.open", "views.publish", "chat.postEphemeral", "users.info":
		return 100
	case "chat.postMessage", "auth.test", "chat.getPermalink":
		return 300
	}
	return 0
}

// postBurst is how many messages a channel takes at once before one a second applies; Slack names no number.
const postBurst = 4

// wait returns the seconds after which a call is allowed, 0 for now.
func (l *limiters) wait(key string, limit rate.Limit, burst int, now time.Time) int {
	bucket, ok := l.buckets[key]
	if !ok {
		bucket = rate.NewLimiter(limit, burst)
		l.buckets[key] = bucket
	}
	reservation := bucket.ReserveN(now, 1)
	delay := reservation.DelayFrom(now)
	if delay <= 0 {
		return 0
	}
	reservation.CancelAt(now)
	return int(math.Ceil(delay.Seconds()))
}

func (s *Server) limited(call Call) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := perMinute(call.Method)
	if !s.rateLimits || n == 0 {
		return 0
	}
	now := s.cfg.Now()
	if call.Method == "chat.postMessage" {
		if wait := s.limiters.wait(call.Method+" "+call.Args["channel"], 1, postBurst, now); wait > 0 {
			return wait
		}
	}
	return s.limiters.wait(call.Method, rate.Limit(float64(n)/60), n, now)
}
