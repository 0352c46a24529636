// Package slacktest is a Slack that runs on loopback and refuses what Slack refuses: the Web API methods of an
// approval bot, Socket Mode, signed HTTP requests, response URLs, modals, limits, scopes, trigger expiry, rate limits.
// It also has the hands of people (clicks, submissions, slash commands) and the faults of networks.
//
// It does not do what no approval bot needs: files, search, user tokens, org installs, OAuth, unfurling. Where Slack's
// documentation is silent the simulator takes the stricter reading. It must never listen on anything but loopback.
package slacktest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Config describes the workspace and the app. Every zero field gets a working default in New.
type Config struct {
	BotToken, AppToken, SigningSecret string

	TeamID, TeamName, TeamDomain string
	AppID, BotID, BotUserID      string

	// Scopes granted to the bot token; nil means DefaultScopes.
	Scopes []string

	// RequestURL is the base of the app's HTTP endpoints (/slack/interactions, /slack/commands, /slack/events).
	// Empty means Socket Mode: Slack uses one transport per app.
	RequestURL string

	// Address is where Start listens, default a free port: "127.0.0.1:0".
	Address string

	// Command is the slash command, default "/approvals".
	Command string

	// RateLimits switches Slack's real tiers on.
	RateLimits bool

	// StrictAcks accepts an acknowledgement only on the socket that carried the envelope.
	StrictAcks bool

	AckBudget    time.Duration // how long an acknowledgement may take, default 3 s
	TriggerLife  time.Duration // default 3 s
	PingInterval time.Duration // default 10 s; clients give up after 30 s without a ping

	// Now is the clock of time stamps, trigger expiry, response URLs and rate limits. Default time.Now.
	Now func() time.Time
}

// DefaultScopes are what the bot's manifest asks for, with the optional history scopes.
func DefaultScopes() []string {
	return []string{
		"chat:write", "commands", "users:read", "usergroups:read", "channels:read", "groups:read",
		"channels:history", "groups:history",
	}
}

// Server is one simulated workspace with one installed app. All methods are safe for concurrent use.
// Values that readers return share memory with the server: read them, do not change them.
type Server struct {
	cfg Config

	mu      sync.Mutex
	changed chan struct{} // closed and replaced at every change
	closed  bool

	baseURL      string
	requestURL   string
	scopes       []string
	organisation bool              // the app was installed for a whole organisation
	refused      map[string]string // token to API error

	users    map[string]User
	groups   map[string]UserGroup
	channels map[string]*channel
	dms      map[string]string // user to DM channel

	ephemerals map[string][]Message
	views      map[string]*View // the open modal of a user
	homes      map[string]*View
	triggers   map[string]*trigger
	responses  map[string]*responseURL

	calls      []Call
	faults     []*Fault
	outage     bool
	hook       func(method string, phase Phase)
	limiters   *limiters
	rateLimits bool

	sockets       []*socket
	tickets       map[string]time.Time
	nextSocket    int
	mute          bool
	disconnectNew string
	pending       map[string]*pendingAck
	acks          []Ack

	lastTS  int64 // microseconds
	counter int

	http     *http.Server
	delivery *http.Client
	done     chan struct{}
	running  sync.WaitGroup
}

// New builds a workspace that holds only the bot's own user. It serves once Start ran, or as an http.Handler.
func New(cfg Config) *Server {
	setDefault(&cfg.BotToken, "xoxb-simulated")
	setDefault(&cfg.AppToken, "xapp-simulated")
	setDefault(&cfg.SigningSecret, "simulated-signing-secret")
	setDefault(&cfg.TeamID, "T0RACK")
	setDefault(&cfg.TeamName, "Rack")
	setDefault(&cfg.TeamDomain, "rack")
	setDefault(&cfg.AppID, "A0GATEWAY")
	setDefault(&cfg.BotID, "B0GATEWAY")
	setDefault(&cfg.BotUserID, "U0GATEWAY")
	setDefault(&cfg.Address, "127.0.0.1:0")
	setDefault(&cfg.Command, "/approvals")
	setDefault(&cfg.AckBudget, 3*time.Second)
	setDefault(&cfg.TriggerLife, 3*time.Second)
	setDefault(&cfg.PingInterval, 10*time.Second)
	if cfg.Scopes == nil {
		cfg.Scopes = DefaultScopes()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Server{
		cfg:        cfg,
		changed:    make(chan struct{}),
		requestURL: strings.TrimSuffix(cfg.RequestURL, "/"),
		scopes:     slices.Clone(cfg.Scopes),
		refused:    map[string]string{},
		users:      map[string]User{},
		groups:     map[string]UserGroup{},
		channels:   map[string]*channel{},
		dms:        map[string]string{},
		ephemerals: map[string][]Message{},
		views:      map[string]*View{},
		homes:      map[string]*View{},
		triggers:   map[string]*trigger{},
		responses:  map[string]*responseURL{},
		limiters:   newLimiters(),
		rateLimits: cfg.RateLimits,
		tickets:    map[string]time.Time{},
		pending:    map[string]*pendingAck{},
		done:       make(chan struct{}),
		delivery: &http.Client{
			Transport:     &http.Transport{},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	s.users[cfg.BotUserID] = User{ID: cfg.BotUserID, TeamID: cfg.TeamID, Name: "gateway", RealName: "Gateway", IsBot: true}
	return s
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Config returns the configuration with its defaults filled in.
func (s *Server) Config() Config { return s.cfg }

// Start listens on a free loopback port.
func (s *Server) Start() error {
	listener, err := net.Listen("tcp", s.cfg.Address)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	s.SetBaseURL("http://" + listener.Addr().String())
	server := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	s.mu.Lock()
	s.http = server
	s.mu.Unlock()
	s.running.Go(func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			panic(fmt.Sprintf("simulated slack: %v", err))
		}
	})
	return nil
}

// Close ends the listener and every socket. It may be called twice.
func (s *Server) Close() {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed = true
	close(s.done)
	server := s.http
	s.mu.Unlock()
	s.CloseSockets()
	if server != nil {
		server.Close()
	}
	s.delivery.CloseIdleConnections()
	s.running.Wait()
}

// SetBaseURL tells a server that is used as an http.Handler where it can be reached (no trailing slash).
func (s *Server) SetBaseURL(base string) {
	s.change(func() { s.baseURL = strings.TrimSuffix(base, "/") })
}

// URL is the Web API's base with the trailing slash that SLACK_API_URL needs.
func (s *Server) URL() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.baseURL + "/api/"
}

// ServeHTTP serves the Web API, the Socket Mode endpoint and response URLs.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	outage := s.outage
	s.mu.Unlock()
	if outage {
		panic(http.ErrAbortHandler)
	}
	switch {
	case strings.HasPrefix(r.URL.Path, "/api/"):
		s.serveMethod(w, r, strings.TrimPrefix(r.URL.Path, "/api/"))
	case r.URL.Path == socketPath:
		s.serveSocket(w, r)
	case strings.HasPrefix(r.URL.Path, responsePath):
		s.serveResponseURL(w, r, strings.TrimPrefix(r.URL.Path, responsePath))
	default:
		http.NotFound(w, r)
	}
}

// change runs edit under the lock and wakes every waiter.
func (s *Server) change(edit func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	edit()
	s.notify()
}

// notify wakes the waiters; the caller holds the lock.
func (s *Server) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Changed returns a channel that is closed at the next change of anything a reader can see.
// Take the channel first, read then: so no change is missed.
func (s *Server) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// Wait returns nil as soon as the condition holds. It evaluates it at once and after every change, with no lock held,
// so the condition may use any reader. The error is the context's.
func (s *Server) Wait(ctx context.Context, condition func() bool) error {
	for {
		changed := s.Changed()
		if condition() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for slack: %w", ctx.Err())
		}
	}
}

// WaitMessage returns the first message of a channel, replies included, that matches, waiting for it if need be.
func (s *Server) WaitMessage(ctx context.Context, channel string, match func(Message) bool) (Message, error) {
	var found Message
	err := s.Wait(ctx, func() bool {
		for _, m := range s.AllMessages(channel) {
			if match(m) {
				found = m
				return true
			}
		}
		return false
	})
	return found, err
}

// WaitView returns the user's top modal once one is open.
func (s *Server) WaitView(ctx context.Context, user string) (*View, error) {
	var view *View
	err := s.Wait(ctx, func() bool { view = s.View(user); return view != nil })
	return view, err
}

// WaitSockets returns once at least n sockets are connected.
func (s *Server) WaitSockets(ctx context.Context, n int) error {
	return s.Wait(ctx, func() bool { return s.Sockets() >= n })
}

// nextID makes an id that looks like Slack's; the caller holds the lock.
func (s *Server) nextID(prefix string) string {
	s.counter++
	return fmt.Sprintf("%s%08d", prefix, s.counter)
}

// nextTS makes a message time stamp, unique in the workspace; the caller holds the lock.
func (s *Server) nextTS() string {
	now := s.cfg.Now().UnixMicro()
	s.lastTS = max(now, s.lastTS+1)
	return fmt.Sprintf("%010d.%06d", s.lastTS/1_000_000, s.lastTS%1_000_000)
}
