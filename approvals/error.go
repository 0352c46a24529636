package approvals

import (
	"errors"
	"fmt"
	"time"
)

// Code is the stable name of a refusal that a machine can act on.
type Code string

// The codes of the HTTP API.
const (
	CodeInvalid              Code = "invalid"
	CodeUnauthorized         Code = "unauthorized"
	CodeForbidden            Code = "forbidden"
	CodeNotFound             Code = "not_found"
	CodeAppUnknown           Code = "app_unknown"
	CodeEnvironmentUnknown   Code = "environment_unknown"
	CodeConflict             Code = "conflict"
	CodeAlreadyReleased      Code = "already_released"
	CodeNotApproved          Code = "not_approved"
	CodeApprovalExpired      Code = "approval_expired"
	CodeCommitNotApproved    Code = "commit_not_approved"
	CodeWorkflowNotFound     Code = "workflow_not_found"
	CodeWorkflowWrongProject Code = "workflow_wrong_project"
	CodeWorkflowFinished     Code = "workflow_finished"
	CodeCommitMismatch       Code = "commit_mismatch"
	CodeBranchMismatch       Code = "branch_mismatch"
	CodeBranchNotAllowed     Code = "branch_not_allowed"
	CodeTriggerNotAllowed    Code = "trigger_not_allowed"
	CodeConfigNotFromCommit  Code = "config_not_from_commit"
	CodeGateNotFound         Code = "approval_job_not_found"
	CodeGateAmbiguous        Code = "approval_job_ambiguous"
	CodeCIUnauthorized       Code = "circleci_unauthorized"
	CodeCIUnavailable        Code = "circleci_unavailable"
	CodeUnavailable          Code = "unavailable"
)

// Error is a refusal with a stable code and a sentence that says what to do.
type Error struct {
	Code       Code
	Message    string
	Reason     Reason        // of a refused credential; empty = the code says it
	Fields     []FieldError  // for CodeInvalid: what is wrong where
	RetryAfter time.Duration // for the codes that end in "unavailable"
}

// FieldError names one faulty field of a request body.
type FieldError struct {
	Field  string `json:"field"`
	Detail string `json:"detail"`
}

func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

func refuse(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// later refuses what may be tried again after a while.
func later(after time.Duration, format string, args ...any) *Error {
	return &Error{Code: CodeUnavailable, Message: fmt.Sprintf(format, args...), RetryAfter: after}
}

// faults are what is wrong with the fields of a body.
type faults []FieldError

func (f *faults) unless(ok bool, field, detail string) {
	if !ok {
		*f = append(*f, FieldError{field, detail})
	}
}

// refusal refuses the body; nil = it has no faults.
func (f faults) refusal(message string) error {
	if len(f) == 0 {
		return nil
	}
	return &Error{Code: CodeInvalid, Message: message, Fields: f}
}

// Sentinels that a [Store] answers with.
var (
	// ErrNotFound: there is no such row.
	ErrNotFound = errors.New("not found")
	// ErrConflict: the row changed since it was read, or a unique rule forbids it.
	ErrConflict = errors.New("changed meanwhile")
	// ErrSeal: a sealed value does not open. Its row was altered, or its key is
	// missing.
	ErrSeal = errors.New("sealed value does not open")
	// ErrLostClaim: the work was claimed anew since; the result must be dropped.
	ErrLostClaim = errors.New("claim lost")
)

// Causes that a [CIError] wraps.
var (
	// ErrCIInvalid marks a call that was never made, because an id or a slug cannot be right.
	ErrCIInvalid = errors.New("invalid argument")
	// ErrCIUnusable marks a 2xx answer that is not what the API promises: it is no
	// JSON, too large, endless, about another object, or holds an impossible value.
	ErrCIUnusable = errors.New("unusable answer")
	// ErrCIResting marks a call that was not made, because the provider is left alone
	// for a while.
	ErrCIResting = errors.New("not asked again yet")
)

// CIError is a call to the CI provider that did not succeed.
type CIError struct {
	Op         string        // what was tried, such as "approve gate"
	Status     int           // HTTP status; 0 = no answer, or nothing was sent
	Message    string        // what went wrong, for people and without Op; bounded, printable, without secrets
	RetryAfter time.Duration // at most an hour; 0 = not said
	Err        error         // the cause, when there is one
}

// Error is for logs and reads like "approve gate: 403 Forbidden: Permission denied".
func (e *CIError) Error() string {
	if e.Op == "" {
		return e.Message
	}
	return e.Op + ": " + e.Message
}

func (e *CIError) Unwrap() error { return e.Err }

// Temporary reports whether the same call may succeed later: there was no answer,
// a 429 or a 5xx, or a 2xx that could not be used. A call that changes something
// and failed so may have taken effect: read the state before making it again.
func (e *CIError) Temporary() bool {
	return errors.Is(e.Err, ErrCIUnusable) || !errors.Is(e.Err, ErrCIInvalid) && (e.Status == 0 || e.Status == 429 || e.Status >= 500)
}

// ciError is a call to the provider that failed behind err, zero when there is none.
func ciError(err error) *CIError {
	if ci, ok := errors.AsType[*CIError](err); ok {
		return ci
	}
	return &CIError{}
}

// restsOf is what a provider asked for in an answer to a call, nil when it did not.
func restsOf(err error) Rests {
	ci := ciError(err)
	if ci.Status != 429 || ci.RetryAfter <= 0 || errors.Is(err, ErrCIResting) {
		return nil
	}
	return Rests{AllCalls: time.Now().Add(ci.RetryAfter)}
}
