package enroll

import (
	"context"
	"errors"
	"log/slog"
	"mime"
	"net/http"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/totp"
)

const (
	// Route is what this package serves, and what it logs instead of a path.
	Route = "/enroll/{token}"
	// bodyLimit is far more than a form with one code.
	bodyLimit = 4 << 10
)

// Service is what the page asks for. [approvals.Admin] is one.
type Service interface {
	// Enrolment reads a link and changes nothing. It answers
	// [approvals.ErrLinkGone] for one that does not work.
	Enrolment(ctx context.Context, token string) (approvals.Enrolment, error)
	// ShowSecret makes the secret of a link, once: every further call answers
	// [approvals.ErrLinkGone], also of calls at the same time.
	ShowSecret(ctx context.Context, token string) (approvals.Person, totp.Secret, error)
	// ConfirmSecret ends an enrolment with a code of the shown secret. A wrong
	// code is an *[approvals.Error] with [approvals.CodeInvalid]; after several
	// the link is gone.
	ConfirmSecret(ctx context.Context, token, code string) (approvals.Person, error)
}

// Config builds the page.
type Config struct {
	Service Service
	// PublicURL is the base of the links that people open. With https, browsers
	// are told to stay there (HSTS).
	PublicURL string
	// Log gets one line per call; nil = none.
	Log *slog.Logger
}

type handler struct {
	service Service
	guard   *guard
	log     *slog.Logger
}

// New makes the handler of everything below /enroll/.
func New(c Config) http.Handler {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	h := &handler{service: c.Service, guard: newGuard(c.PublicURL), log: c.Log}
	mux := http.NewServeMux()
	mux.Handle(Route, h)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { h.answer(w, r, time.Now(), incomplete()) })
	return mux
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	h.answer(w, r, start, h.serve(w, r))
}

// answer writes the page and the one log line of a call. The path is left out
// of it: it holds the token.
func (h *handler) answer(w http.ResponseWriter, r *http.Request, start time.Time, p page) {
	header := w.Header()
	h.guard.setHeaders(header)
	for name, value := range p.header {
		header.Set(name, value)
	}
	w.WriteHeader(p.status)
	_ = p.markup().Render(w) // a browser that went away is no fault

	attrs := []slog.Attr{
		slog.String("method", r.Method), slog.String("route", Route), slog.Int("status", p.status),
		slog.String("page", p.Name), slog.Duration("took", time.Since(start)),
	}
	if p.Person.SlackID != "" {
		attrs = append(attrs, slog.String("user", p.Person.SlackID))
	}
	level := slog.LevelInfo
	if p.err != nil {
		level = slog.LevelError
		attrs = append(attrs, slog.String("err", p.err.Error()))
	}
	h.log.LogAttrs(r.Context(), level, "enrolment page", attrs...)
}

func (h *handler) serve(w http.ResponseWriter, r *http.Request) page {
	token := r.PathValue("token")
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		return h.open(r.Context(), token, false)
	case http.MethodPost:
	default:
		return methodNotAllowed()
	}
	if !h.guard.sameOrigin(r) {
		return foreign()
	}
	code, typed, refused := readForm(w, r)
	switch {
	case refused != nil:
		return *refused
	case typed:
		return h.confirm(r.Context(), token, code)
	}
	return h.open(r.Context(), token, true)
}

// readForm returns the code, and whether the form has one: the form of the
// first page has none.
func readForm(w http.ResponseWriter, r *http.Request) (code string, typed bool, refused *page) {
	if r.ContentLength != 0 {
		if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/x-www-form-urlencoded" {
			return "", false, new(notAForm(http.StatusUnsupportedMediaType))
		}
	}
	r.Body = http.MaxBytesReader(w, r.Body, bodyLimit)
	// The form alone counts: a code in a query would end up in logs of proxies.
	if err := r.ParseForm(); err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			return "", false, new(notAForm(http.StatusRequestEntityTooLarge))
		}
		return "", false, new(notAForm(http.StatusBadRequest))
	}
	return r.PostForm.Get("code"), r.PostForm.Has("code"), nil
}

// open answers GET, and with pressed the button of its page, which shows the key.
func (h *handler) open(ctx context.Context, token string, pressed bool) page {
	e, err := h.service.Enrolment(ctx, token)
	switch {
	case err != nil:
		return notOpen(err)
	case e.Shown:
		return shownAlready(e)
	case !pressed:
		return start(e)
	}
	_, secret, err := h.service.ShowSecret(ctx, token)
	if errors.Is(err, approvals.ErrLinkGone) {
		// Another call was faster, or the time is just over.
		return h.open(ctx, token, false)
	}
	if err != nil {
		return failed(err)
	}
	return key(e, secret)
}

// confirm answers a code.
func (h *handler) confirm(ctx context.Context, token, code string) page {
	e, err := h.service.Enrolment(ctx, token)
	switch {
	case err != nil:
		return notOpen(err)
	case !e.Shown:
		return notShownYet(e)
	}
	// What cannot be a code is a slip, and must not cost a try.
	if _, err := totp.ParseCode(code); err != nil {
		return wrong(e, "A code is six digits.")
	}
	_, err = h.service.ConfirmSecret(ctx, token, code)
	var refused *approvals.Error
	switch {
	case errors.As(err, &refused) && refused.Code == approvals.CodeInvalid:
		return wrong(e, "That code is not right.")
	case err != nil:
		return notOpen(err)
	}
	return done(e)
}

func notOpen(err error) page {
	if errors.Is(err, approvals.ErrLinkGone) {
		return gone()
	}
	return failed(err)
}
