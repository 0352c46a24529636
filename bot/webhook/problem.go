package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// Codes that only the edge gives.
const (
	CodeMethodNotAllowed     approvals.Code = "method_not_allowed"
	CodeTooLarge             approvals.Code = "too_large"
	CodeUnsupportedMediaType approvals.Code = "unsupported_media_type"
	CodeRateLimited          approvals.Code = "rate_limited"
	CodeInternal             approvals.Code = "internal"
)

// kinds is the one place that gives codes their HTTP status and title.
var kinds = map[approvals.Code]struct {
	status int
	title  string
}{
	approvals.CodeInvalid:              {400, "The request is not valid"},
	approvals.CodeUnauthorized:         {401, "A valid API token is required"},
	approvals.CodeForbidden:            {403, "The token does not allow this"},
	approvals.CodeNotFound:             {404, "Not found"},
	approvals.CodeAppUnknown:           {404, "Unknown app"},
	approvals.CodeEnvironmentUnknown:   {404, "Unknown environment"},
	CodeMethodNotAllowed:               {405, "Method not allowed"},
	approvals.CodeConflict:             {409, "Not possible in the current state"},
	approvals.CodeAlreadyReleased:      {409, "The gate is approved already"},
	approvals.CodeNotApproved:          {409, "Not approved"},
	approvals.CodeApprovalExpired:      {409, "The approval has expired"},
	approvals.CodeCommitNotApproved:    {409, "Another commit was approved"},
	CodeTooLarge:                       {413, "The body is too large"},
	CodeUnsupportedMediaType:           {415, "The body must be JSON"},
	approvals.CodeWorkflowNotFound:     {422, "Workflow not found"},
	approvals.CodeWorkflowWrongProject: {422, "The workflow belongs to another project"},
	approvals.CodeWorkflowFinished:     {422, "The workflow is finished"},
	approvals.CodeCommitMismatch:       {422, "The commit is not the pipeline's"},
	approvals.CodeBranchMismatch:       {422, "The branch or tag is not the pipeline's"},
	approvals.CodeBranchNotAllowed:     {422, "The branch or tag may not be deployed"},
	approvals.CodeTriggerNotAllowed:    {422, "A pipeline with this trigger may not be deployed"},
	approvals.CodeConfigNotFromCommit:  {422, "The CI configuration is not that of the commit"},
	approvals.CodeGateNotFound:         {422, "Approval job not found"},
	approvals.CodeGateAmbiguous:        {422, "Approval job is ambiguous"},
	CodeRateLimited:                    {429, "Too many calls"},
	CodeInternal:                       {500, "Internal error"},
	approvals.CodeCIUnauthorized:       {502, "CircleCI refused the gateway's token"},
	approvals.CodeCIUnavailable:        {503, "CircleCI cannot be asked now"},
	approvals.CodeUnavailable:          {503, "Not available now"},
}

// Problem is an error of the API as RFC 9457 problem details. The client
// returns it as an error.
type Problem struct {
	Type      string                 `json:"type"`
	Title     string                 `json:"title"`
	Status    int                    `json:"status"`
	Detail    string                 `json:"detail,omitempty"`
	Code      approvals.Code         `json:"code"`
	Reason    approvals.Reason       `json:"reason,omitempty"` // of a refused credential
	RequestID string                 `json:"request_id"`
	Errors    []approvals.FieldError `json:"errors,omitempty"`

	// RetryAfter is the Retry-After header; 0 = none.
	RetryAfter time.Duration `json:"-"`
}

func (p *Problem) Error() string {
	text := p.Title
	if p.Detail != "" {
		text = p.Detail
	}
	for _, f := range p.Errors {
		text += fmt.Sprintf("; %s: %s", f.Field, f.Detail)
	}
	switch {
	case p.Code == "":
		return fmt.Sprintf("%s (HTTP %d)", text, p.Status)
	case p.Reason != "":
		return fmt.Sprintf("%s (%s, %s)", text, p.Code, p.Reason)
	}
	return fmt.Sprintf("%s (%s)", text, p.Code)
}

// unauthorizedDetail is the same for every refused API token, whatever is wrong with
// it.
const unauthorizedDetail = "send a valid, unexpired API token as: Authorization: Bearer rgw_…"

// defaultRetry is what clients are told to wait when nothing better is known.
const defaultRetry = 5 * time.Second

// newProblem says to the client what err means. It gives away nothing of an
// error that was not made for clients.
func newProblem(err error, requestID string) Problem {
	var e *approvals.Error
	switch {
	case errors.As(err, &e):
	case errors.Is(err, approvals.ErrNotFound):
		e = &approvals.Error{Code: approvals.CodeNotFound, Message: "there is no such request"}
	case errors.Is(err, approvals.ErrConflict):
		e = &approvals.Error{Code: approvals.CodeConflict, Message: "the request changed meanwhile: look again"}
	case errors.Is(err, context.DeadlineExceeded):
		e = &approvals.Error{Code: approvals.CodeUnavailable, Message: "this took too long: try again"}
	default:
		// A commit that failed may have happened all the same. Every call can be
		// repeated safely, so the client is told to.
		e = &approvals.Error{Code: approvals.CodeUnavailable, Message: "the gateway could not do this now: try again"}
	}
	kind, known := kinds[e.Code]
	if !known {
		return newProblem(&approvals.Error{Code: CodeInternal, Message: "the gateway failed: its log says why beside this request_id"}, requestID)
	}
	p := Problem{
		Type: "urn:rack-gateway:error:" + string(e.Code), Title: kind.title, Status: kind.status,
		Detail: e.Message, Code: e.Code, Reason: e.Reason, RequestID: requestID, Errors: e.Fields, RetryAfter: e.RetryAfter,
	}
	if p.Code == approvals.CodeUnauthorized && p.Reason == "" {
		p.Detail = unauthorizedDetail
	}
	if p.RetryAfter == 0 && (p.Status == http.StatusTooManyRequests || p.Status == http.StatusServiceUnavailable) {
		p.RetryAfter = defaultRetry
	}
	return p
}

func writeProblem(w http.ResponseWriter, p Problem) {
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", "Bearer")
	}
	if p.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(p.RetryAfter.Seconds()))))
	}
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // a client that is gone is nobody's fault
}

// retryAfter reads a Retry-After header: seconds, or a date (RFC 9110, 10.2.3).
func retryAfter(value string, now time.Time) time.Duration {
	if s, err := strconv.ParseUint(strings.TrimSpace(value), 10, 31); err == nil {
		return time.Duration(s) * time.Second
	}
	if t, err := http.ParseTime(value); err == nil && t.After(now) {
		return t.Sub(now)
	}
	return 0
}

func refuse(code approvals.Code, format string, args ...any) *approvals.Error {
	return &approvals.Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// invalid leaves the names of the fields to the answer: the message goes into
// the log too, and a caller may have put anything where a name belongs.
func invalid(fields ...approvals.FieldError) *approvals.Error {
	return &approvals.Error{Code: approvals.CodeInvalid, Message: "the request is not valid: errors names each field and what is wrong with it", Fields: fields}
}
