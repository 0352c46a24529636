package webhook

import (
	"errors"
	"net/http"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// The states of a [Readiness] and of its parts.
const (
	StatusOK          = "ok"
	StatusDegraded    = "degraded"
	StatusUnavailable = "unavailable"
	// Of the part role, before the service works.
	StatusStandby = "standby" // another process serves
	StatusWaiting = "waiting" // the database cannot be used yet
)

// Readiness is the answer of /readyz.
type Readiness struct {
	// Status is unavailable only when the store cannot be written, or log, keys, lock
	// or clock forbid decisions; /readyz then answers 503.
	Status string          `json:"status"`
	Parts  map[string]Part `json:"parts"` // store, slack, circleci, clock, role
}

// Part is the state of one part.
type Part struct {
	Status string `json:"status"`
	Detail string `json:"detail,omitempty"` // for people, no secrets
}

// Health answers /healthz and /readyz, with every detail, on a listener that only
// the operator's own machines reach.
func (h *Handler) Health() http.Handler {
	mux := http.NewServeMux()
	for route, to := range map[string]func(http.ResponseWriter, *http.Request) error{
		routeHealth: func(w http.ResponseWriter, _ *http.Request) error { return writeHealth(w) },
		routeReady:  func(w http.ResponseWriter, r *http.Request) error { return writeReadiness(w, h.ready(r.Context())) },
	} {
		mux.HandleFunc(route, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "no-store")
			if err := to(w, r); err != nil {
				h.log.DebugContext(r.Context(), "health was not told", "route", route, "err", err)
			}
		})
	}
	return mux
}

// Waiting answers while the service behind a [Handler] cannot be built yet: the
// process is alive but not ready, and everything else is to be tried again.
// detailed is as for [Handler.Health].
func Waiting(ready func() Readiness, detailed bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc(routeHealth, func(w http.ResponseWriter, _ *http.Request) { _ = writeHealth(w) })
	mux.HandleFunc(routeReady, func(w http.ResponseWriter, _ *http.Request) {
		state := ready()
		if !detailed {
			state = state.brief()
		}
		_ = writeReadiness(w, state)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		id := requestID(r)
		w.Header().Set("X-Request-Id", id)
		e := &approvals.Error{Code: approvals.CodeUnavailable, Message: "the gateway is starting or stands by: try again"}
		writeProblem(w, newProblem(e, id))
	})
	return mux
}

func (h *Handler) health(w http.ResponseWriter, _ *http.Request, _ *call) error {
	return writeHealth(w)
}

// readiness tells anybody which part is in what state, and auditors also why: the
// details name files, channels and groups.
func (h *Handler) readiness(w http.ResponseWriter, r *http.Request, c *call) error {
	detailed, err := h.isAuditor(r, c)
	if err != nil {
		return err
	}
	ready := h.ready(r.Context())
	if !detailed {
		ready = ready.brief()
	}
	return writeReadiness(w, ready)
}

// isAuditor reports whether a call to a health route has an auditor's token. These
// routes need no token, so a bad one is not refused here; it only counts against the
// caller's rate.
func (h *Handler) isAuditor(r *http.Request, c *call) (bool, error) {
	if _, sent := bearer(r.Header); !sent {
		return false, nil
	}
	err := h.authenticate(r, c)
	var why *approvals.Error
	if errors.As(err, &why) && why.Code == CodeRateLimited {
		return false, err
	}
	// Without the store nobody's token can be looked up, which is the very moment
	// in which the state of the parts has to be told.
	return err == nil && c.token.Role == approvals.RoleAuditor, nil
}

// brief leaves the details out.
func (r Readiness) brief() Readiness {
	short := Readiness{Status: r.Status, Parts: map[string]Part{}}
	for name, part := range r.Parts {
		short.Parts[name] = Part{Status: part.Status}
	}
	return short
}

func writeHealth(w http.ResponseWriter) error {
	return writeJSON(w, http.StatusOK, map[string]string{"status": StatusOK})
}

func writeReadiness(w http.ResponseWriter, ready Readiness) error {
	if ready.Parts == nil {
		ready.Parts = map[string]Part{}
	}
	status := http.StatusOK
	if ready.Status == StatusUnavailable {
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", "5")
	}
	return writeJSON(w, status, ready)
}
