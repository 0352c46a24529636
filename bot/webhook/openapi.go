package webhook

import (
	_ "embed"
	"net/http"
)

// OpenAPI is the description of the API as OpenAPI 3.1. The tests hold every answer
// against it.
//
//go:embed openapi.json
var OpenAPI []byte

// description hands the document out to everybody, within the rate of callers without
// a token.
func (h *Handler) description(w http.ResponseWriter, r *http.Request, _ *call) error {
	if wait := h.stranger(r, h.pages); wait > 0 {
		return tooMany(wait)
	}
	w.Header().Set("Content-Type", "application/json")
	_, err := w.Write(OpenAPI)
	return wrapWrite(err)
}
