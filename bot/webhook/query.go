package webhook

import (
	"encoding/base64"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

const (
	defaultLimit = 50
	maxLimit     = 200
	maxWait      = 60 * time.Second
	cursorPrefix = "before:"
)

var digits = regexp.MustCompile(`^[0-9]{1,18}$`)

// query takes parameters out of a URL's query and gathers what is wrong.
type query struct {
	values url.Values
	faults []approvals.FieldError
}

// parseQuery refuses parameters that the route does not know: a filter that is
// misspelt must not select everything.
func parseQuery(raw string, known ...string) *query {
	q := &query{}
	values, err := url.ParseQuery(raw)
	if err != nil {
		q.fault("query", "is not well formed")
	}
	q.values = values
	for name, given := range values {
		if !slices.Contains(known, name) {
			q.fault(shown(name), "is not a parameter of this call")
		} else if len(given) > 1 {
			q.fault(name, "must be given only once")
		}
	}
	slices.SortFunc(q.faults, func(a, b approvals.FieldError) int { return strings.Compare(a.Field, b.Field) })
	return q
}

func (q *query) fault(name, detail string) {
	q.faults = append(q.faults, approvals.FieldError{Field: name, Detail: detail})
}

func (q *query) err() error {
	if len(q.faults) == 0 {
		return nil
	}
	return invalid(q.faults...)
}

var (
	commitPrefix = regexp.MustCompile(`^[0-9a-fA-F]{7,40}$`)
	idPattern    = regexp.MustCompile(`^[0-9A-Za-z_-]{1,64}$`)
)

// parseFilter reads the filters of a list. Limit is the size of the page.
func parseFilter(raw string) (approvals.Filter, error) {
	q := parseQuery(raw, "app", "environment", "status", "git_commit", "branch", "workflow_id", "limit", "cursor")
	f := approvals.Filter{
		Environment: q.values.Get("environment"), Branch: q.values.Get("branch"),
		Revision: strings.ToLower(q.values.Get("git_commit")), WorkflowID: strings.ToLower(q.values.Get("workflow_id")),
		Limit: defaultLimit,
	}
	if app := q.values.Get("app"); app != "" {
		f.Apps = []string{app}
	}
	for _, name := range []string{"app", "environment"} {
		if given := q.values.Get(name); given != "" && !approvals.ValidName(given) {
			q.fault(name, "must be a name: a lower case letter, then up to 39 lower case letters, digits and hyphens")
		}
	}
	if f.Revision != "" && !commitPrefix.MatchString(f.Revision) {
		q.fault("git_commit", "must be 7 to 40 hex digits")
	}
	if s := q.values.Get("status"); s != "" {
		f.Statuses = q.statuses(s)
	}
	if s := q.values.Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > maxLimit {
			q.fault("limit", "must be a whole number from 1 to 200")
		}
		f.Limit = n
	}
	if s := q.values.Get("cursor"); s != "" {
		n, ok := parseCursor(s)
		if !ok {
			q.fault("cursor", "must be the next_cursor of a list")
		}
		f.Before = n
	}
	return f, q.err()
}

// statuses reads a comma list of statuses, "open" and "closed".
func (q *query) statuses(list string) []approvals.Status {
	var out []approvals.Status
	for name := range strings.SplitSeq(list, ",") {
		switch status := approvals.Status(name); {
		case name == "open":
			out = append(out, approvals.OpenStatuses()...)
		case name == "closed":
			out = append(out, approvals.ClosedStatuses()...)
		case status.Known():
			out = append(out, status)
		default:
			q.fault("status", "must be a status, open or closed")
			return nil
		}
	}
	return out
}

// parseWait reads how long to wait, 0 = not at all, and for which status to go.
// Longer waits are cut to what the server grants.
func parseWait(raw string) (wait time.Duration, not approvals.Status, err error) {
	q := parseQuery(raw, "wait", "status")
	not = approvals.Pending
	if s := q.values.Get("status"); s != "" {
		if not = approvals.Status(s); !not.Known() {
			q.fault("status", "must be a status")
		}
	}
	if s := q.values.Get("wait"); s != "" {
		if wait, err = time.ParseDuration(s); err != nil || wait < 0 {
			q.fault("wait", "must be a duration such as 30s, at most 60s")
		}
	}
	return min(wait, maxWait), not, q.err()
}

// newCursor makes the cursor of the page that begins after the request with that
// number.
func newCursor(number int64) Text {
	return Text(base64.RawURLEncoding.EncodeToString([]byte(cursorPrefix + strconv.FormatInt(number, 10))))
}

func parseCursor(text string) (number int64, ok bool) {
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return 0, false
	}
	s, found := strings.CutPrefix(string(b), cursorPrefix)
	if !found || !digits.MatchString(s) {
		return 0, false
	}
	number, err = strconv.ParseInt(s, 10, 64)
	return number, err == nil && number > 0
}
