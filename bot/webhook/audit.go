package webhook

import (
	"errors"
	"net/http"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/audit"
)

// pageTime is how long a client may take to receive one page of an export. A slower
// client is cut off, so that it does not hold a slot that others need.
const pageTime = 30 * time.Second

// audit streams an export. A failure in the middle cuts the connection: an
// answer that ends as usual would pass for the whole.
func (h *Handler) audit(w http.ResponseWriter, r *http.Request, c *call) error {
	q := parseQuery(r.URL.RawQuery, "from", "to", "app", "format")
	if err := q.err(); err != nil {
		return err
	}
	x, err := audit.ParseExport(q.values.Get("format"), q.values.Get("from"), q.values.Get("to"), q.values.Get("app"))
	if err != nil {
		return err
	}
	x.Token, x.PipelineURL = &c.token, h.links.PipelineURL
	out := &pages{w: w, control: http.NewResponseController(w), format: x.Format}
	_, err = h.service.Export(r.Context(), x, out)
	if err != nil && out.begun {
		h.log.WarnContext(r.Context(), "export was cut off", "request_id", c.id, "token", c.token.ID, "err", err)
		panic(http.ErrAbortHandler)
	}
	return err
}

// pages sends each Write to the client at once, and gives each of them pageTime.
type pages struct {
	w       http.ResponseWriter
	control *http.ResponseController
	format  string
	begun   bool
}

func (p *pages) Write(b []byte) (int, error) {
	until := time.Now().Add(pageTime)
	// A connection that knows no deadlines needs none moved.
	_ = p.control.SetReadDeadline(until)
	_ = p.control.SetWriteDeadline(until)
	if !p.begun {
		kind := "application/x-ndjson"
		if p.format == audit.ExportCSV {
			kind = "text/csv; charset=utf-8; header=present"
		}
		p.w.Header().Set("Content-Type", kind)
		p.w.Header().Set("Content-Disposition", `attachment; filename="rack-gateway-audit.`+p.format+`"`)
		p.begun = true
	}
	n, err := p.w.Write(b)
	if err == nil {
		if err = p.control.Flush(); errors.Is(err, http.ErrNotSupported) {
			err = nil
		}
	}
	return n, wrapWrite(err)
}
