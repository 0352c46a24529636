package webhook

import (
	"bytes"
	jsonv1 "encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/plain"
)

const (
	maxBody     = 64 << 10
	maxMetadata = 8 << 10
	maxDetail   = 2000 // characters
	maxDepth    = 16

	// bodyField names the body as a whole in errors[].
	bodyField = "body"
)

// readBody reads the whole body before anything looks into it.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset := params["charset"]
	if err != nil || kind != "application/json" || charset != "" && !strings.EqualFold(charset, "utf-8") {
		return nil, refuse(CodeUnsupportedMediaType, "send the body as Content-Type: application/json")
	}
	if r.Header.Get("Content-Encoding") != "" {
		return nil, refuse(CodeUnsupportedMediaType, "send the body without Content-Encoding")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, refuse(CodeTooLarge, "the body may have at most %d bytes", maxBody)
	case err != nil:
		return nil, invalid(approvals.FieldError{Field: bodyField, Detail: "could not be read to its end"})
	}
	return body, nil
}

// A body must be one JSON object that every reader of JSON understands alike: no
// name stands in it twice, whatever its case, nor one that this call does not know.

// decodeBody reads a body of a call.
func decodeBody(body []byte, into any) error {
	if fault := checkJSON(body); fault != nil {
		return invalid(*fault)
	}
	return decode("", body, into, json.RejectUnknownMembers(true))
}

// decode reads one object and names what does not fit by its path.
func decode(prefix string, text []byte, into any, opts ...json.Options) error {
	err := json.Unmarshal(text, into, opts...)
	var misfit *json.SemanticError
	if !errors.As(err, &misfit) {
		return err
	}
	field := prefix
	for name := range misfit.JSONPointer.Tokens() {
		field = strings.TrimPrefix(field+"."+shown(name), ".")
	}
	detail := "must be a string"
	switch {
	case errors.Is(err, json.ErrUnknownName):
		detail = "is not a field of this call"
	case misfit.JSONPointer == "":
		detail = "must be an object"
	}
	return invalid(approvals.FieldError{Field: field, Detail: detail})
}

// checkJSON refuses what is not one JSON object in valid UTF-8, nested at most
// maxDepth deep, in each of whose objects all names differ in more than case.
func checkJSON(body []byte) *approvals.FieldError {
	fault := func(format string, args ...any) *approvals.FieldError {
		return &approvals.FieldError{Field: bodyField, Detail: fmt.Sprintf(format, args...)}
	}
	var names [maxDepth + 1]map[string]bool // of the objects that are open, by depth
	// The names are looked at here, because two that differ in case count as one.
	dec := jsontext.NewDecoder(bytes.NewReader(body), jsontext.AllowDuplicateNames(true))
	if kind := dec.PeekKind(); kind != jsontext.KindBeginObject && kind != jsontext.KindInvalid {
		return fault("must be a JSON object")
	}
	for ended := false; ; ended = dec.StackDepth() == 0 {
		token, err := dec.ReadToken()
		if ended && err == io.EOF {
			return nil
		}
		if ended || err != nil {
			return fault("must be one JSON document in valid UTF-8")
		}
		depth := dec.StackDepth()
		if depth > maxDepth {
			return fault("must not be nested deeper than %d", maxDepth)
		}
		in, read := dec.StackIndex(depth)
		switch {
		case token.Kind() == jsontext.KindBeginObject:
			names[depth] = map[string]bool{}
		case in == jsontext.KindBeginObject && read%2 == 1: // a name, as its value is still to come
			name := token.String()
			if names[depth][fold(name)] {
				return &approvals.FieldError{Field: shown(name), Detail: "duplicate key (upper and lower case count as the same)"}
			}
			names[depth][fold(name)] = true
		}
	}
}

// fold maps all spellings of a name that a reader which ignores case takes for the
// same one to one text: ASCII case, and look-alikes such as the Kelvin sign.
func fold(name string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
			least = min(least, next)
		}
		return least
	}, name)
}

// shown makes a name that came from outside fit to be repeated.
func shown(name string) string { return plain.Cut(plain.Name(name), 64) }

// parseCreate checks the form of a create body. What the values mean, and
// whether they are right, is judged by the service.
func parseCreate(body []byte) (approvals.NewRequest, error) {
	var b CreateBody
	if err := decodeBody(body, &b); err != nil {
		return approvals.NewRequest{}, err
	}
	n := approvals.NewRequest{App: b.App, Environment: b.Environment, GitCommit: b.GitCommit, Branch: b.Branch, Tag: b.Tag, Message: b.Message}
	err := addMetadata(&n, jsontext.Value(b.Metadata))
	return n, err
}

// pipelineNumber is a number or a string of digits: the seed documents both.
// CircleCI's own is stored, so only the form matters.
var pipelineNumber = regexp.MustCompile(`^(null|""|[0-9]{1,18}|"[0-9]{1,18}")$`)

// addMetadata takes what is ours out of ci_metadata; the rest is kept as it is.
func addMetadata(n *approvals.NewRequest, text jsontext.Value) error {
	const field = "ci_metadata"
	if text == nil || text.Kind() == jsontext.KindNull {
		return nil
	}
	var members map[string]jsontext.Value
	var ours struct {
		WorkflowID     string         `json:"workflow_id"`
		JobID          string         `json:"job_id"`
		PipelineNumber jsontext.Value `json:"pipeline_number"`
	}
	if err := errors.Join(decode(field, text, &members), decode(field, text, &ours), text.Compact()); err != nil {
		return err
	}
	if len(text) > maxMetadata {
		return invalid(approvals.FieldError{Field: field, Detail: "must be at most 8 KiB"})
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		switch low := fold(name); {
		case name != "workflow_id" && low == fold("workflow_id"), name != "job_id" && low == fold("job_id"), name != "pipeline_number" && low == fold("pipeline_number"):
			return invalid(approvals.FieldError{Field: field + "." + shown(name), Detail: "must be written in lower case"})
		}
	}
	if v := ours.PipelineNumber; v != nil && !pipelineNumber.Match(v) {
		return invalid(approvals.FieldError{Field: field + ".pipeline_number", Detail: "must be a whole number, or a string of digits"})
	}
	n.Metadata, n.WorkflowID, n.JobID = []byte(text), ours.WorkflowID, ours.JobID
	return nil
}

// claimedApp finds out which app a faulty create body was about, "" when that
// cannot be told.
func claimedApp(body []byte) string {
	var claim struct {
		App string `json:"app"`
	}
	if jsonv1.Unmarshal(body, &claim) != nil {
		return ""
	}
	return claim.App
}

func parseVerify(body []byte) (approvals.NewRequest, error) {
	var b VerifyBody
	err := decodeBody(body, &b)
	return approvals.NewRequest{App: b.App, Environment: b.Environment, GitCommit: b.GitCommit, WorkflowID: b.WorkflowID}, err
}

func parseDeploy(body []byte) (DeployBody, error) {
	var b DeployBody
	err := decodeBody(body, &b)
	if err == nil && utf8.RuneCountInString(b.Detail) > maxDetail {
		err = invalid(approvals.FieldError{Field: "detail", Detail: "is too long"})
	}
	return b, err
}

func parseCancel(body []byte) (CancelBody, error) {
	var b CancelBody
	err := decodeBody(body, &b)
	return b, err
}
