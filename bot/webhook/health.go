package webhook

import "net/http"

// The states of a [Readiness] and of its parts.
const (
	StatusOK          = "ok"
	StatusDegraded    = "degraded"
	StatusUnavailable = "unavailable"
)

// Readiness is the answer of /readyz.
type Readiness struct {
	// Status is unavailable only when the store cannot be written, or log, keys
	// or clock forbid decisions; /readyz then answers 503.
	Status string          `json:"status"`
	Parts  map[string]Part `json:"parts"` // store, slack, circleci, clock, role
}

// Part is the state of one part.
type Part struct {
	Status string `json:"status"`
	Detail string `json:"detail,omitempty"` // for people, no secrets
}

func (h *Handler) health(w http.ResponseWriter, _ *http.Request, _ *call) error {
	return writeJSON(w, http.StatusOK, map[string]string{"status": StatusOK})
}

func (h *Handler) readiness(w http.ResponseWriter, r *http.Request, _ *call) error {
	ready := h.ready(r.Context())
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
