package webhook

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// The patterns of the routes.
const (
	routeCreate     = "POST " + requestsPath
	routeList       = "GET " + requestsPath
	routeGet        = "GET " + requestsPath + "/{id}"
	routeEvents     = "GET " + requestsPath + "/{id}/events"
	routeCancel     = "POST " + requestsPath + "/{id}/cancel"
	routeVerify     = "POST " + requestsPath + "/verify"
	routeDeploy     = "POST " + requestsPath + "/{id}/deploy"
	routeAudit      = "GET " + Base + "/audit"
	routeCheckpoint = "GET " + Base + "/audit/checkpoint"
	routeKey        = "GET " + Base + "/audit/key"
	routeOpenAPI    = "GET " + Base + "/openapi.json"
	routeHealth     = "GET /healthz"
	routeReady      = "GET /readyz"
)

// access is who may call what. A route without an entry is closed to all; the
// health routes and the description of the API alone need no token.
var access = map[string][]approvals.Role{
	routeCreate:     {approvals.RoleCICD},
	routeList:       {approvals.RoleCICD, approvals.RoleAuditor},
	routeGet:        {approvals.RoleCICD, approvals.RoleAuditor},
	routeEvents:     {approvals.RoleCICD, approvals.RoleAuditor},
	routeCancel:     {approvals.RoleCICD},
	routeVerify:     {approvals.RoleCICD},
	routeDeploy:     {approvals.RoleCICD},
	routeAudit:      {approvals.RoleAuditor},
	routeCheckpoint: {approvals.RoleAuditor},
	routeKey:        {approvals.RoleAuditor},
}

func isHealth(route string) bool { return route == routeHealth || route == routeReady }

// endpoint answers one call, or returns why not.
type endpoint func(w http.ResponseWriter, r *http.Request, c *call) error

func (h *Handler) endpoints() map[string]endpoint {
	return map[string]endpoint{
		routeCreate: h.create, routeList: h.list, routeVerify: h.verify,
		routeGet: ofRequest(h.get), routeEvents: ofRequest(h.events), routeCancel: ofRequest(h.cancel), routeDeploy: ofRequest(h.deploy),
		routeAudit: h.audit, routeCheckpoint: h.checkpoint, routeKey: h.key,
		routeOpenAPI: h.description, routeHealth: h.health, routeReady: h.readiness,
	}
}

// ofRequest answers a call about the request whose id or number is in the path. A text
// that cannot be either is answered like a request that does not exist.
func ofRequest(answer func(w http.ResponseWriter, r *http.Request, c *call, id string) error) endpoint {
	return func(w http.ResponseWriter, r *http.Request, c *call) error {
		id := r.PathValue("id")
		if !idPattern.MatchString(id) {
			return refuse(approvals.CodeNotFound, "there is no such request")
		}
		return answer(w, r, c, id)
	}
}

// createTime is what a create may take: it asks CircleCI several things.
const createTime = 25 * time.Second

func (h *Handler) create(w http.ResponseWriter, r *http.Request, c *call) error {
	body, err := readBody(w, r)
	var n approvals.NewRequest
	if err == nil {
		n, err = parseCreate(body)
	}
	if err != nil {
		var why *approvals.Error
		if errors.As(err, &why) {
			// Recorded even if the client does not wait for the answer.
			h.service.Refused(context.WithoutCancel(r.Context()), c.token, claimedApp(body), why)
		}
		return err
	}
	ctx, cancel := patience(w, r, createTime)
	defer cancel()
	request, created, err := h.service.Request(ctx, c.token, n)
	if err != nil {
		return err
	}
	if !created {
		return writeJSON(w, http.StatusOK, render(request, h.links))
	}
	w.Header().Set("Location", requestsPath+"/"+request.ID)
	return writeJSON(w, http.StatusCreated, render(request, h.links))
}

func (h *Handler) list(w http.ResponseWriter, r *http.Request, c *call) error {
	filter, err := parseFilter(r.URL.RawQuery)
	if err != nil {
		return err
	}
	size := filter.Limit
	filter.Limit++ // one more tells whether another page follows
	found, err := h.service.List(r.Context(), c.token, filter)
	if err != nil {
		return err
	}
	page := Page{Requests: []Request{}}
	if len(found) > size {
		found = found[:size]
		page.NextCursor = newCursor(found[size-1].Number)
	}
	for _, request := range found {
		page.Requests = append(page.Requests, render(request, h.links))
	}
	return writeJSON(w, http.StatusOK, page)
}

func (h *Handler) get(w http.ResponseWriter, r *http.Request, c *call, id string) error {
	wait, not, err := parseWait(r.URL.RawQuery)
	if err != nil {
		return err
	}
	request, err := h.await(w, r, c, id, not, wait)
	return h.answer(w, request, err)
}

func (h *Handler) await(w http.ResponseWriter, r *http.Request, c *call, id string, not approvals.Status, wait time.Duration) (approvals.Request, error) {
	if wait == 0 {
		return h.service.Get(r.Context(), c.token, id)
	}
	ctx, cancel := patience(w, r, wait+5*time.Second)
	defer cancel()
	defer context.AfterFunc(h.stopping, cancel)()
	request, err := h.service.Await(ctx, c.token, id, not, wait)
	if err != nil && h.stopping.Err() != nil && r.Context().Err() == nil {
		return h.service.Get(r.Context(), c.token, id)
	}
	return request, err
}

func (h *Handler) events(w http.ResponseWriter, r *http.Request, c *call, id string) error {
	events, err := h.service.History(r.Context(), c.token, id)
	if err != nil {
		return err
	}
	if events == nil {
		events = []approvals.Event{}
	}
	return writeJSON(w, http.StatusOK, History{Events: events})
}

func (h *Handler) cancel(w http.ResponseWriter, r *http.Request, c *call, id string) error {
	cancel, err := parsed(w, r, parseCancel)
	if err != nil {
		return err
	}
	request, err := h.service.Withdraw(r.Context(), c.token, id, cancel.Reason)
	return h.answer(w, request, err)
}

func (h *Handler) verify(w http.ResponseWriter, r *http.Request, c *call) error {
	v, err := parsed(w, r, parseVerify)
	if err != nil {
		return err
	}
	verified, err := h.service.Verify(r.Context(), c.token, v)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, Verified{Request: render(verified.Request, h.links), Receipt: verified.Receipt})
}

func (h *Handler) deploy(w http.ResponseWriter, r *http.Request, c *call, id string) error {
	d, err := parsed(w, r, parseDeploy)
	if err != nil {
		return err
	}
	request, err := h.service.ReportDeploy(r.Context(), c.token, id, approvals.Phase(d.Phase), d.Detail, d.JobID)
	return h.answer(w, request, err)
}

// answer writes a request as it is now, unless there is an error instead.
func (h *Handler) answer(w http.ResponseWriter, request approvals.Request, err error) error {
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, render(request, h.links))
}

// parsed reads the body of a call.
func parsed[T any](w http.ResponseWriter, r *http.Request, parse func([]byte) (T, error)) (T, error) {
	body, err := readBody(w, r)
	if err != nil {
		var none T
		return none, err
	}
	return parse(body)
}

func (h *Handler) checkpoint(w http.ResponseWriter, r *http.Request, _ *call) error {
	note, err := h.service.Checkpoint(r.Context(), 0)
	if err != nil {
		return err
	}
	return writeText(w, note)
}

func (h *Handler) key(w http.ResponseWriter, _ *http.Request, _ *call) error {
	return writeText(w, []byte(h.service.VerifierKey()+"\n"))
}

// patience gives a call longer than the server's time-outs. The read deadline
// goes along with the write deadline: when it passes, net/http takes the client
// for gone and cancels the call.
func patience(w http.ResponseWriter, r *http.Request, d time.Duration) (context.Context, context.CancelFunc) {
	control, until := http.NewResponseController(w), time.Now().Add(d+10*time.Second)
	// A connection that knows no deadlines needs none moved.
	_ = control.SetReadDeadline(until)
	_ = control.SetWriteDeadline(until)
	return context.WithTimeout(r.Context(), d)
}
