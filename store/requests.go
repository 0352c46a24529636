package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	json "github.com/go-json-experiment/json/v1"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

const selectRequests = "SELECT number, version, body, metadata, seen FROM requests WHERE "

func (t *tx) Request(idOrNumber string) (approvals.Request, error) {
	column, arg := "id", any(idOrNumber)
	if n, err := strconv.ParseInt(idOrNumber, 10, 64); err == nil && strconv.FormatInt(n, 10) == idOrNumber {
		column, arg = "number", n
	}
	found, err := t.requests(column+" = ?", arg)
	if err == nil && len(found) == 0 {
		err = approvals.ErrNotFound
	}
	if err != nil {
		return approvals.Request{}, err
	}
	return found[0], nil
}

func (t *tx) Requests(f approvals.Filter) ([]approvals.Request, error) {
	if f.Apps != nil && len(f.Apps) == 0 {
		return nil, nil
	}
	query, args := search(f)
	found, err := t.requests("number IN ("+query+")", args...)
	slices.SortFunc(found, func(a, b approvals.Request) int {
		if f.Released {
			return cmp.Or(b.ReleasedAt.Compare(a.ReleasedAt), cmp.Compare(b.Number, a.Number))
		}
		return cmp.Compare(b.Number, a.Number)
	})
	return found, err
}

func (t *tx) requests(where string, args ...any) ([]approvals.Request, error) {
	var out []approvals.Request
	err := t.each(selectRequests+where, args, func(scan func(...any) error) error {
		var number, version int64
		var body, metadata, seen []byte
		if err := scan(&number, &version, &body, &metadata, &seen); err != nil {
			return err
		}
		var r approvals.Request
		if err := cmp.Or(json.Unmarshal(body, &r), json.Unmarshal(seen, &r.Seen)); err != nil {
			return fmt.Errorf("read request %d: %w", number, err)
		}
		r.Number, r.Version, r.Metadata = number, version, metadata
		out = append(out, r)
		return nil
	})
	return out, err
}

// search makes the select that finds the numbers. An index answers it, so that
// bodies are read only of the requests that are returned.
//
// With a limit it asks once for each app and each status that lead: an index
// yields the newest of one app or one status in order, those of several only
// after sorting all of them.
func search(f approvals.Filter) (query string, args []any) {
	arms := split(f)
	if len(arms) == 1 {
		return arms[0].search()
	}
	var parts []string
	for _, a := range arms {
		part, some := a.search()
		parts = append(parts, "SELECT number FROM ("+part+") AS arm")
		args = append(args, some...)
	}
	return strings.Join(parts, " UNION ALL ") + " ORDER BY number DESC LIMIT ?", append(args, f.Limit)
}

// mostArms bounds the length of a statement. Beyond it the rows are sorted.
const mostArms = 400

// split makes one arm for each pair of an app and a status that lead.
func split(f approvals.Filter) (arms []arm) {
	lead := leading(f)
	apps, statuses := [][]string{f.Apps}, [][]approvals.Status{f.Statuses}
	if f.Limit > 0 && !f.Released {
		if slices.Contains(lead, "app") && len(f.Apps) <= mostArms {
			apps = slices.Collect(slices.Chunk(f.Apps, 1))
		}
		if slices.Contains(lead, "status") && len(f.Statuses)*len(apps) <= mostArms {
			statuses = slices.Collect(slices.Chunk(f.Statuses, 1))
		}
	}
	for _, f.Apps = range apps {
		for _, f.Statuses = range statuses {
			arms = append(arms, arm{f, lead})
		}
	}
	return arms
}

// leading lists the columns by which an index finds the requests; what the other
// columns must be is checked row by row. SQLite knows nothing of how values are
// spread and would choose worse: few requests share a workflow, a commit or a
// time, and few are open.
func leading(f approvals.Filter) []string {
	switch {
	case f.WorkflowID != "":
		return []string{"workflow_id"}
	case f.Revision != "":
		return []string{"revision"}
	case f.Released:
		return []string{"app", "environment"}
	case !f.CreatedFrom.IsZero() || !f.CreatedTo.IsZero():
		return []string{"created_at"}
	}
	open := len(f.Statuses) > 0 && !slices.ContainsFunc(f.Statuses, func(s approvals.Status) bool { return !s.Open() })
	var lead []string
	if f.Apps != nil {
		lead = append(lead, "app")
	}
	if f.Branch != "" && !open {
		return append(lead, "branch")
	}
	if f.Environment != "" && (f.Apps != nil || !open) {
		lead = append(lead, "environment")
	}
	if len(f.Statuses) > 0 && (f.Apps != nil || !slices.Contains(lead, "environment")) {
		lead = append(lead, "status")
	}
	return lead
}

// arm is one select of numbers.
type arm struct {
	f    approvals.Filter
	lead []string
}

// conditions are what the rows of an arm have to fulfil.
type conditions struct {
	where []string
	args  []any
}

func (c *conditions) and(condition string, values ...any) {
	c.where = append(c.where, condition)
	c.args = append(c.args, values...)
}

func oneOf[T ~string](c *conditions, column string, values []T) {
	if len(values) > 0 {
		c.where = append(c.where, column+" IN "+marks(len(values)))
	}
	for _, v := range values {
		c.args = append(c.args, string(v))
	}
}

func (a arm) search() (query string, args []any) {
	f := a.f
	var c conditions
	oneOf(&c, a.column("app"), f.Apps)
	oneOf(&c, a.column("status"), f.Statuses)
	for _, is := range [][2]string{{"environment", f.Environment}, {"branch", f.Branch}, {"workflow_id", f.WorkflowID}} {
		if is[1] != "" {
			c.and(a.column(is[0])+" = ?", is[1])
		}
	}
	switch column := a.column("revision"); {
	case len(f.Revision) == fullRevision:
		c.and(column+" = ?", f.Revision)
	case f.Revision != "":
		c.and(column+" >= ? AND "+column+" < ?", f.Revision, f.Revision+"\U0010ffff")
	}
	if !f.CreatedFrom.IsZero() {
		c.and("created_at >= ?", millis(f.CreatedFrom))
	}
	if !f.CreatedTo.IsZero() {
		c.and("created_at <= ?", millis(f.CreatedTo))
	}
	if f.Voted {
		c.and("body LIKE ?", `%"Decisions":[%`) // without decisions, the field is not there
	}
	number := "number"
	if slices.Contains(a.lead, "created_at") {
		number = "number + 0" // else the rows would be read from the newest on
	}
	if f.Before > 0 {
		c.and(number+" < ?", f.Before)
	}
	if f.After > 0 {
		c.and(number+" > ?", f.After)
	}
	order := number + " DESC"
	if f.Released {
		c.and("released_at > 0") // as the index says
		if !f.ReleasedAfter.IsZero() {
			c.and("released_at > ?", millis(f.ReleasedAfter))
		}
		order = "released_at DESC, " + order
	}
	query = "SELECT number FROM requests"
	if len(c.where) > 0 {
		query += " WHERE " + strings.Join(c.where, " AND ")
	}
	if f.Limit == 0 {
		return query, c.args
	}
	return query + " ORDER BY " + order + " LIMIT ?", append(c.args, f.Limit)
}

// column hides those that do not lead from the choice of an index.
func (a arm) column(name string) string {
	if slices.Contains(a.lead, name) {
		return name
	}
	return name + " || ''"
}

// fullRevision is the length of a commit's whole hash.
const fullRevision = 40

// saves are the ways to replace a row, the cheapest first. The first touches no
// index. The last is for rows that somebody changed by hand: these columns of a
// request stay as they are.
var saves = []struct{ set, where string }{
	{"", " AND status = ?6 AND released_at = ?7" + whereFixed},
	{", status = ?6, released_at = ?7", whereFixed},
	{", status = ?6, released_at = ?7, number = ?8, app = ?9, environment = ?10, revision = ?11, branch = ?12, workflow_id = ?13, created_at = ?14", ""},
}

const whereFixed = " AND number = ?8 AND app = ?9 AND environment = ?10 AND revision = ?11 AND branch = ?12 AND workflow_id = ?13 AND created_at = ?14"

func (t *tx) SaveRequest(r *approvals.Request) error {
	row, err := requestRow(*r)
	if err != nil {
		return t.failed(fmt.Errorf("save request: %w", err))
	}
	var done int64
	if r.Version == 0 {
		done, err = t.change(`INSERT INTO requests (id, version, body, metadata, seen, status, released_at, number, app, environment,
			revision, branch, workflow_id, created_at) VALUES (?1, ?2 + 1, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)`, row...)
	} else {
		for _, s := range saves {
			done, err = t.change("UPDATE requests SET version = ?2 + 1, body = ?3, metadata = ?4, seen = ?5"+s.set+" WHERE id = ?1 AND version = ?2"+s.where, row...)
			if done > 0 || err != nil {
				break
			}
		}
	}
	if err == nil && done == 0 {
		err = t.failed(approvals.ErrConflict)
	}
	if err != nil {
		return fmt.Errorf("save request: %w", err)
	}
	r.Version++
	return nil
}

// requestRow makes the columns of one value, so that they cannot differ. Number,
// version and metadata live in their columns alone.
func requestRow(r approvals.Request) ([]any, error) {
	seen, err := json.Marshal(r.Seen)
	if err != nil {
		return nil, err
	}
	row := []any{r.ID, r.Version, nil, nil, string(seen), string(r.Status), millis(r.ReleasedAt), r.Number, r.App, r.Environment,
		r.Facts.Revision, r.Facts.Branch, r.Facts.WorkflowID, millis(r.CreatedAt)}
	if r.Metadata != nil {
		row[3] = string(r.Metadata)
	}
	r.Number, r.Version, r.Metadata = 0, 0, nil
	body, err := json.Marshal(r)
	row[2] = string(body)
	return row, err
}

func marks(n int) string {
	return "(" + strings.TrimSuffix(strings.Repeat("?, ", n), ", ") + ")"
}

// RequestCounts counts the requests by status; a status that none has is absent.
func (db *DB) RequestCounts(ctx context.Context) (map[approvals.Status]int, error) {
	counts := map[approvals.Status]int{}
	err := db.view(ctx, func(t *tx) error {
		return t.each("SELECT status, count(*) FROM requests GROUP BY status", nil, func(scan func(...any) error) error {
			var status approvals.Status
			var n int
			err := scan(&status, &n)
			counts[status] = n
			return err
		})
	})
	return counts, err
}
