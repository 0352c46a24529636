package webhook

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"path"
	"regexp"
	"runtime/debug"
	"slices"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// Config builds a [Handler].
type Config struct {
	Service Service
	Links   Links
	// Ready says what /readyz answers; nil = always ok. It must be quick.
	Ready func(context.Context) Readiness
	// RateLimit is how many calls a token may make per minute; 0 = no limit.
	RateLimit int
	// TrustedProxies are the networks whose X-Forwarded-For is believed.
	TrustedProxies []netip.Prefix
	// MaxInFlight is how many calls are worked on at once, MaxWaiting how many wait
	// for a status and MaxExports how many exports are written besides; more are
	// told to come back. One token gets no more than are left free, so half of each
	// when it is alone. 0 = 128, 512, 8.
	MaxInFlight, MaxWaiting, MaxExports int
	// Log gets one line per call; nil = none.
	Log *slog.Logger
	// Observe is told the route (its pattern, or "other"), the status and the
	// duration of every call; nil = nobody.
	Observe func(route string, status int, took time.Duration)
}

// Handler serves the API. It answers every path that it does not know, so that
// a server can give it all that other handlers do not take.
type Handler struct {
	service  Service
	links    Links
	ready    func(context.Context) Readiness
	trusted  []netip.Prefix
	log      *slog.Logger
	observe  func(string, int, time.Duration)
	mux      *http.ServeMux
	patterns []string

	tokens    *limiter
	strangers *limiter // failed calls of one address
	pages     *limiter // calls to the handlers behind [Handler.Guard]
	fronts    *limiter // both, for a proxy that is not in TrustedProxies
	proxies   proxySight
	entering  chan struct{} // calls whose API token is being looked up
	proving   chan struct{} // calls whose OIDC token is being checked
	working   *slots
	waiting   *slots
	exporting *slots
	stopping  context.Context
	stop      context.CancelFunc
}

// New makes a handler.
func New(c Config) *Handler {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Ready == nil {
		c.Ready = func(context.Context) Readiness { return Readiness{Status: StatusOK} }
	}
	if c.Observe == nil {
		c.Observe = func(string, int, time.Duration) {}
	}
	if c.MaxInFlight == 0 {
		c.MaxInFlight = 128
	}
	if c.MaxWaiting == 0 {
		c.MaxWaiting = 512
	}
	if c.MaxExports == 0 {
		c.MaxExports = 8
	}
	h := &Handler{
		service: c.Service, links: c.Links, ready: c.Ready, trusted: c.TrustedProxies, log: c.Log, observe: c.Observe,
		mux: http.NewServeMux(), tokens: newLimiter(c.RateLimit),
		strangers: newLimiter(strangerRate), pages: newLimiter(strangerRate), fronts: newLimiter(frontRate),
		entering: make(chan struct{}, c.MaxInFlight), proving: make(chan struct{}, c.MaxInFlight), working: newSlots(c.MaxInFlight),
		waiting: newSlots(c.MaxWaiting), exporting: newSlots(c.MaxExports),
	}
	h.stopping, h.stop = context.WithCancel(context.Background())
	for pattern, endpoint := range h.endpoints() {
		h.patterns = append(h.patterns, pattern)
		h.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			c := callOf(r.Context())
			c.route = pattern
			c.err = h.enter(w, r, c, endpoint)
		})
	}
	slices.Sort(h.patterns)
	return h
}

// EndWaits answers all calls that wait for a status with the current state, so
// that a server can stop quickly. Register it with [http.Server.RegisterOnShutdown].
func (h *Handler) EndWaits() { h.stop() }

// Routes lists the patterns that are served.
func (h *Handler) Routes() []string { return slices.Clone(h.patterns) }

// call is what is known of the call being served.
type call struct {
	id    string
	route string
	from  netip.Addr
	token approvals.Token
	err   error
}

type callKey struct{}

func callOf(ctx context.Context) *call { return ctx.Value(callKey{}).(*call) }

// ServeHTTP is the one place that answers errors, logs and counts.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	c := &call{id: requestID(r), route: "other", from: clientAddress(r, h.trusted)}
	h.watchProxy(r)
	out := &answer{ResponseWriter: w}
	header := out.Header()
	header.Set("X-Request-Id", c.id)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-store")

	err := h.serve(out, r.WithContext(context.WithValue(r.Context(), callKey{}, c)), c)
	if err != nil && out.status == 0 {
		if r.ContentLength != 0 {
			// The server would otherwise read on, and a body that does not come
			// would keep the connection and the answer back.
			header.Set("Connection", "close")
		}
		writeProblem(out, newProblem(err, c.id))
	}
	took := time.Since(start)
	h.observe(c.route, out.status, took)
	attrs := []slog.Attr{
		slog.String("method", r.Method), slog.String("route", c.route), slog.Int("status", out.status),
		slog.Duration("took", took), slog.String("request_id", c.id), slog.String("from", c.from.String()),
	}
	if c.token.ID != "" {
		attrs = append(attrs, slog.String("token", c.token.ID))
	}
	if err != nil {
		attrs = append(attrs, slog.String("err", err.Error()))
	}
	h.log.LogAttrs(r.Context(), level(c.route, out.status), "api call", attrs...)
}

func level(route string, status int) slog.Level {
	switch {
	case status >= http.StatusInternalServerError && status != http.StatusServiceUnavailable:
		return slog.LevelError
	case status == http.StatusServiceUnavailable:
		return slog.LevelWarn
	case isHealth(route):
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// serve finds the route. A panic ends the call, not the process.
func (h *Handler) serve(w *answer, r *http.Request, c *call) (err error) {
	defer func() {
		switch p := recover(); p {
		case nil:
		case http.ErrAbortHandler:
			panic(p)
		default:
			h.log.Error("api call panicked", "request_id", c.id, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = refuse(CodeInternal, "the gateway failed: its log says why beside this request_id")
		}
	}()
	handler, pattern := h.mux.Handler(r)
	if pattern == "" || path.Clean(r.URL.Path) != r.URL.Path {
		return h.unrouted(w, r, handler)
	}
	h.mux.ServeHTTP(w, r)
	return c.err
}

// unrouted refuses paths and methods that no route takes. The mux knows the
// methods of a path, but tells them only in an answer of plain text.
func (h *Handler) unrouted(w http.ResponseWriter, r *http.Request, mux http.Handler) error {
	if wait := h.stranger(r, h.strangers); wait > 0 {
		return tooMany(wait)
	}
	told := &answer{ResponseWriter: discard{}}
	mux.ServeHTTP(told, r)
	if told.status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", told.Header().Get("Allow"))
		return refuse(CodeMethodNotAllowed, "use %s", told.Header().Get("Allow"))
	}
	return refuse(approvals.CodeNotFound, "there is no such path; the API is below %s", Base)
}

// enterTime is how long a call may wait until its token can be looked up.
const enterTime = 2 * time.Second

// enter lets a call through to its endpoint: token, rate, role, room. Nothing of
// a body has been read before.
func (h *Handler) enter(w http.ResponseWriter, r *http.Request, c *call, to endpoint) error {
	if isHealth(c.route) || c.route == routeOpenAPI {
		return to(w, r, c)
	}
	if err := h.authenticate(r, c); err != nil {
		return err
	}
	if wait := h.tokens.take(c.token.ID); wait > 0 {
		return tooMany(wait)
	}
	if !slices.Contains(access[c.route], c.token.Role) {
		why := refuse(approvals.CodeForbidden, "a token with the role %s may not do this", c.token.Role)
		if c.route == routeCreate {
			h.service.Refused(context.WithoutCancel(r.Context()), c.token, "", why)
		}
		return why
	}
	free, ok := h.room(r, c).take(c.token.ID)
	if !ok {
		return tooMany(time.Second)
	}
	defer free()
	return to(w, r, c)
}

// room picks the slots that a call needs.
func (h *Handler) room(r *http.Request, c *call) *slots {
	switch {
	case c.route == routeAudit:
		return h.exporting
	case r.URL.Query().Has("wait"):
		return h.waiting
	}
	return h.working
}

// authenticate counts failures per address, before any of them is told apart.
// Calls with a good token are never held back by what others do.
func (h *Handler) authenticate(r *http.Request, c *call) error {
	err := error(refuse(approvals.CodeUnauthorized, "no bearer token"))
	if text, ok := bearer(r.Header); ok {
		c.token, err = h.lookUp(r.Context(), text)
	}
	var why *approvals.Error
	if errors.As(err, &why) && (why.Code == approvals.CodeUnauthorized || why.Reason == approvals.ReasonKey) {
		if wait := h.stranger(r, h.strangers); wait > 0 {
			return tooMany(wait)
		}
	}
	return err
}

// lookUp asks whose token a text is, for so many callers at once. Those who have to
// wait for the issuer of OIDC tokens do not hold up the others.
func (h *Handler) lookUp(ctx context.Context, text string) (approvals.Token, error) {
	entering := h.entering
	if approvals.IsJWT(text) {
		entering = h.proving
	}
	enough := time.NewTimer(enterTime)
	defer enough.Stop()
	select {
	case entering <- struct{}{}:
		defer func() { <-entering }()
		return h.service.Authenticate(ctx, text)
	case <-enough.C:
		return approvals.Token{}, tooMany(time.Second)
	case <-ctx.Done():
		return approvals.Token{}, ctx.Err()
	}
}

// A token is b64token of RFC 6750, 2.1; the scheme's case does not matter.
var bearerPattern = regexp.MustCompile(`^(?i:bearer) +([A-Za-z0-9._~+/-]+=*)$`)

// maxBearer is the length of the longest header that is looked at. An OIDC token of
// CircleCI has somewhat more than 1,000 characters.
const maxBearer = 8 << 10

func bearer(h http.Header) (token string, ok bool) {
	values := h.Values("Authorization")
	if len(values) != 1 || len(values[0]) > maxBearer {
		return "", false
	}
	found := bearerPattern.FindStringSubmatch(values[0])
	if found == nil {
		return "", false
	}
	return found[1], true
}

func tooMany(wait time.Duration) error {
	return &approvals.Error{Code: CodeRateLimited, Message: "too many calls: wait for as many seconds as Retry-After says", RetryAfter: wait}
}

// requestIDPattern fits the ids of common proxies, but no token of ours or of
// Slack, which begin rgw_ and xoxb-.
var requestIDPattern = regexp.MustCompile(`^[A-Fa-f0-9-]{8,64}$`)

// requestID keeps the id that a proxy gave, if it is fit for a log.
func requestID(r *http.Request) string {
	if id := r.Header.Get("X-Request-Id"); requestIDPattern.MatchString(id) {
		return id
	}
	return rand.Text()
}
