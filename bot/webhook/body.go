package webhook

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"mime"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

const (
	maxBody     = 64 << 10
	maxMetadata = 8 << 10
	maxDetail   = 2000 // characters
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

// fields takes members out of an object and gathers what is wrong with them.
type fields struct {
	members object
	prefix  string
	faults  []approvals.FieldError
}

func (f *fields) fault(name, detail string) {
	f.faults = append(f.faults, approvals.FieldError{Field: f.prefix + name, Detail: detail})
}

// err is nil when nothing was wrong.
func (f *fields) err() error {
	if len(f.faults) == 0 {
		return nil
	}
	return invalid(f.faults...)
}

// text takes a string; null counts as absent, which is "".
func (f *fields) text(name string, most int) string {
	raw, ok := f.members[name]
	if !ok || isNull(raw) {
		return ""
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		f.fault(name, "must be a string")
		return ""
	}
	if utf8.RuneCountInString(s) > most {
		f.fault(name, "is too long")
		return ""
	}
	return s
}

func isNull(raw json.RawMessage) bool { return bytes.Equal(raw, []byte("null")) }

// parseCreate checks the form of a create body. What the values mean, and
// whether they are right, is judged by the service.
func parseCreate(body []byte) (approvals.NewRequest, error) {
	members, refusal := parseObject(body, "app", "environment", "git_commit", "branch", "tag", "message", "ci_metadata")
	if refusal != nil {
		return approvals.NewRequest{}, refusal
	}
	f := &fields{members: members}
	n := approvals.NewRequest{
		App: f.text("app", maxBody), Environment: f.text("environment", maxBody), GitCommit: f.text("git_commit", maxBody),
		Branch: f.text("branch", maxBody), Tag: f.text("tag", maxBody), Message: f.text("message", maxBody),
	}
	if raw, ok := members["ci_metadata"]; ok && !isNull(raw) {
		f.metadata(raw, &n)
	}
	return n, f.err()
}

var digits = regexp.MustCompile(`^[0-9]{1,18}$`)

// metadata takes what is ours out of ci_metadata; the rest is kept as it is.
func (f *fields) metadata(raw json.RawMessage, n *approvals.NewRequest) {
	var compact bytes.Buffer
	var members object
	if json.Unmarshal(raw, &members) != nil || json.Compact(&compact, raw) != nil {
		f.fault("ci_metadata", "must be an object")
		return
	}
	if compact.Len() > maxMetadata {
		f.fault("ci_metadata", "must be at most 8 KiB")
		return
	}
	m := &fields{members: members, prefix: "ci_metadata."}
	ours := []string{"workflow_id", "job_id", "pipeline_number"}
	for _, key := range slices.Sorted(maps.Keys(members)) {
		if !slices.Contains(ours, key) && slices.ContainsFunc(ours, func(o string) bool { return fold(o) == fold(key) }) {
			m.fault(shown(key), "must be written in lower case")
		}
	}
	n.Metadata, n.WorkflowID, n.JobID = compact.Bytes(), m.text("workflow_id", maxMetadata), m.text("job_id", maxMetadata)
	// The seed documents the number both as a number and as a string. CircleCI's
	// own is stored, so only the form matters.
	if raw, ok := members["pipeline_number"]; ok && !isNull(raw) {
		number := string(raw)
		if strings.HasPrefix(number, `"`) {
			number = m.text("pipeline_number", maxMetadata)
		}
		if number != "" && !digits.MatchString(number) {
			m.fault("pipeline_number", "must be a whole number, or a string of digits")
		}
	}
	f.faults = append(f.faults, m.faults...)
}

// claimedApp finds out which app a faulty create body was about, "" when that
// cannot be told.
func claimedApp(body []byte) string {
	var claim struct {
		App string `json:"app"`
	}
	if json.Unmarshal(body, &claim) != nil {
		return ""
	}
	return claim.App
}

func parseVerify(body []byte) (approvals.Verification, error) {
	members, refusal := parseObject(body, "app", "environment", "git_commit", "workflow_id")
	if refusal != nil {
		return approvals.Verification{}, refusal
	}
	f := &fields{members: members}
	v := approvals.Verification{
		App: f.text("app", maxBody), Environment: f.text("environment", maxBody),
		GitCommit: f.text("git_commit", maxBody), WorkflowID: f.text("workflow_id", maxBody),
	}
	return v, f.err()
}

func parseDeploy(body []byte) (DeployBody, error) {
	members, refusal := parseObject(body, "phase", "detail", "job_id")
	if refusal != nil {
		return DeployBody{}, refusal
	}
	f := &fields{members: members}
	d := DeployBody{Phase: f.text("phase", maxBody), Detail: f.text("detail", maxDetail), JobID: f.text("job_id", maxBody)}
	return d, f.err()
}

func parseCancel(body []byte) (CancelBody, error) {
	members, refusal := parseObject(body, "reason")
	if refusal != nil {
		return CancelBody{}, refusal
	}
	f := &fields{members: members}
	c := CancelBody{Reason: f.text("reason", maxDetail)}
	return c, f.err()
}
