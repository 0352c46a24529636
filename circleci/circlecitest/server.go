// Package circlecitest is a CircleCI with state for tests and demonstrations: users, projects, pipelines, workflows and
// gates behind the calls of API v2 that package circleci makes, with humans who click beside it and faults on demand.
//
// It refuses what the real service refuses. Where the real behaviour is not documented it does one plausible thing and
// an option does the other, so that a client must cope with both. It reads no configuration files, runs no jobs, sends no
// webhooks and never decides by itself when a job ends.
//
// Mount a Server as an http.Handler (the API is below /api/v2) or call Start. All methods are safe for concurrent use.
// Add… methods panic on a mistake of the test; methods that act return an error.
package circlecitest

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// Options change how the whole server behaves. The zero value is a service at its most ordinary.
type Options struct {
	// PageSize cuts lists into pages; 0 = one page.
	PageSize int
	// ListLagReads and ListLag keep the job list as it was before an approve or cancel for that many readings within ten
	// seconds, or that long, whichever is longer. Nothing else lags.
	ListLagReads int
	ListLag      time.Duration
	// HideBlockedRequestID leaves approval_request_id out while a gate is blocked.
	HideBlockedRequestID bool
	// BlockedStays leaves jobs that can no longer run as blocked when the workflow ends; otherwise they become not_run.
	BlockedStays bool
	// CancelBlocked lets a job be cancelled while it is blocked; otherwise that is refused with 400.
	CancelBlocked bool
	// PendingApprove answers approvals by API with 202 and forgets them.
	PendingApprove bool
	// ListDefaults lists also those parameters among the values of a pipeline that it was not started with.
	ListDefaults bool
	// DateSkew is added to the Date header.
	DateSkew time.Duration
}

// Phase is a side of an operation's effect.
type Phase string

// The two sides of an effect.
const (
	Before Phase = "before"
	After  Phase = "after"
)

// Server is a simulated CircleCI. Make it with New.
type Server struct {
	mu        sync.Mutex
	opts      Options
	hook      func(op string, phase Phase)
	faults    []*Fault
	users     []*User
	tokens    map[string]*User
	projects  []*Project
	pipelines []*pipeline
	workflows map[string]*workflow
	pages     pageStore
	calls     []*Call
	counts    map[string]int
	approvals []approvalRecord
	jobNumber int64
	changed   chan struct{}
}

// New makes a server without users, projects or pipelines.
func New() *Server {
	return &Server{
		tokens:    map[string]*User{},
		workflows: map[string]*workflow{},
		counts:    map[string]int{},
		changed:   make(chan struct{}),
	}
}

// Configure changes options; they count from the next call on.
func (s *Server) Configure(change func(*Options)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.opts)
}

// SetHook installs a function that is called around the effect of every operation, without any lock held: it may block,
// act on the server, or end the process under test. Nil removes it.
func (s *Server) SetHook(hook func(op string, phase Phase)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hook = hook
}

// Start serves on a free port of the loopback interface. The base URL includes /api/v2; stop ends all connections and
// returns when the server has ended. It panics when there is no port.
func (s *Server) Start() (baseURL string, stop func()) {
	baseURL, stop, err := s.StartAt("127.0.0.1:0")
	if err != nil {
		panic("circlecitest: " + err.Error())
	}
	return baseURL, stop
}

// StartAt is Start at an address.
func (s *Server) StartAt(address string) (baseURL string, stop func(), err error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return "", nil, fmt.Errorf("listen: %w", err)
	}
	srv := &http.Server{Handler: s, ReadHeaderTimeout: 5 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(ln) // ends with ErrServerClosed
	}()
	return "http://" + ln.Addr().String() + "/api/v2", func() {
		_ = srv.Close()
		<-done
	}, nil
}

// Wait returns when cond holds; it is asked again after each call and each change of state. cond may use the server.
func (s *Server) Wait(ctx context.Context, cond func() bool) error {
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		if cond() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// notify wakes those who Wait. The lock is held.
func (s *Server) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}
