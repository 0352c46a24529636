package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

func (t *tx) Request(idOrNumber string) (approvals.Request, error) {
	column, arg := "id", any(idOrNumber)
	if n, err := strconv.ParseInt(idOrNumber, 10, 64); err == nil && strconv.FormatInt(n, 10) == idOrNumber {
		column, arg = "number", n
	}
	var out approvals.Request
	err := t.eachRequest("SELECT number, version, body FROM requests WHERE "+column+" = ?", []any{arg}, func(r approvals.Request) {
		out = r
	})
	if err == nil && out.Number == 0 {
		err = approvals.ErrNotFound
	}
	return out, err
}

func (t *tx) Requests(f approvals.Filter) ([]approvals.Request, error) {
	var where []string
	var args []any
	and := func(condition string, values ...any) {
		where = append(where, condition)
		args = append(args, values...)
	}
	if f.Apps != nil {
		and("app IN "+marks(len(f.Apps)), anys(f.Apps)...)
	}
	if len(f.Statuses) > 0 {
		and("status IN "+marks(len(f.Statuses)), anys(f.Statuses)...)
	}
	for _, c := range []struct{ column, value string }{
		{"environment", f.Environment}, {"branch", f.Branch}, {"workflow_id", f.WorkflowID},
		{"pipeline_id", f.PipelineID}, {"project", f.Project},
	} {
		if c.value != "" {
			and(c.column+" = ?", c.value)
		}
	}
	if f.Revision != "" {
		and("revision >= ? AND revision < ?", f.Revision, f.Revision+"\U0010ffff")
	}
	if !f.CreatedFrom.IsZero() {
		and("created_at >= ?", millis(f.CreatedFrom))
	}
	if !f.CreatedTo.IsZero() {
		and("created_at <= ?", millis(f.CreatedTo))
	}
	if f.Before > 0 {
		and("number < ?", f.Before)
	}
	limit := -1 // no limit
	if f.Limit > 0 {
		limit = f.Limit
	}
	// The inner select is answered by an index, so that bodies are read only of
	// the rows that are returned.
	inner := "SELECT number FROM requests"
	if len(where) > 0 {
		inner += " WHERE " + strings.Join(where, " AND ")
	}
	query := "SELECT number, version, body FROM requests WHERE number IN (" + inner +
		" ORDER BY number DESC LIMIT ?) ORDER BY number DESC"
	var out []approvals.Request
	err := t.eachRequest(query, append(args, limit), func(r approvals.Request) { out = append(out, r) })
	return out, err
}

func (t *tx) eachRequest(query string, args []any, fn func(approvals.Request)) error {
	return t.each(query, args, func(scan func(...any) error) error {
		var number, version int64
		var body []byte
		if err := scan(&number, &version, &body); err != nil {
			return err
		}
		var r approvals.Request
		if err := json.Unmarshal(body, &r); err != nil {
			return fmt.Errorf("read request %d: %w", number, err)
		}
		if string(r.Metadata) == "null" { // what encoding/json makes of nil
			r.Metadata = nil
		}
		r.Number, r.Version = number, version
		fn(r)
		return nil
	})
}

func (t *tx) SaveRequest(r *approvals.Request) error {
	row, err := requestRow(*r)
	if err != nil {
		return fmt.Errorf("save request: %w", err)
	}
	if r.Version == 0 {
		err = t.get(`INSERT INTO requests (id, app, environment, status, revision, branch, workflow_id, pipeline_id,
			project, job_id, created_at, expires_at, body, version) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1)
			RETURNING number, version`, row, &r.Number, &r.Version)
	} else {
		err = t.get(`UPDATE requests SET id = ?, app = ?, environment = ?, status = ?, revision = ?, branch = ?, workflow_id = ?,
			pipeline_id = ?, project = ?, job_id = ?, created_at = ?, expires_at = ?, body = ?, version = version + 1
			WHERE id = ? AND version = ? RETURNING number, version`, append(row, r.ID, r.Version), &r.Number, &r.Version)
	}
	if errors.Is(err, approvals.ErrNotFound) || violates(err) {
		return fmt.Errorf("save request: %w", approvals.ErrConflict)
	}
	return err
}

// requestRow makes the searchable columns and the body of one value, so that
// they cannot differ. Number and version live in their columns alone.
func requestRow(r approvals.Request) ([]any, error) {
	row := []any{r.ID, r.App, r.Environment, r.Status, r.Facts.Revision, r.Facts.Branch, r.Facts.WorkflowID, r.Facts.PipelineID,
		r.Project, r.JobID, millis(r.CreatedAt), millis(r.ExpiresAt)}
	r.Number, r.Version = 0, 0
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false) // keep ci_metadata as it came
	if err := enc.Encode(r); err != nil {
		return nil, err
	}
	return append(row, strings.TrimSuffix(body.String(), "\n")), nil
}

func marks(n int) string {
	return "(" + strings.TrimSuffix(strings.Repeat("?, ", n), ", ") + ")"
}

func anys[T ~string](in []T) []any {
	out := make([]any, len(in))
	for i, v := range in {
		out[i] = string(v)
	}
	return out
}
