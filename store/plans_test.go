package store_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/store"
	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

// lists are filters with the index that must answer each. SQLite knows nothing of
// how values are spread, so that its choice is the same in an empty database as in
// a full one.
func lists() []list {
	app, other := []string{"api"}, []string{"api", "web"}
	open, closed := approvals.OpenStatuses(), approvals.ClosedStatuses()
	then := time.UnixMilli(1_800_000_000_000)
	return []list{
		{"newest", approvals.Filter{Limit: 50}, "", false},
		{"older", approvals.Filter{Before: 500_000, Limit: 50}, "", false},
		{"app", approvals.Filter{Apps: app, Limit: 50}, "requests_by_app", false},
		{"apps", approvals.Filter{Apps: other, Before: 500_000, Limit: 50}, "requests_by_app", false},
		{"place", approvals.Filter{Apps: app, Environment: "production", Limit: 50}, "requests_by_app_environment", false},
		{"open", approvals.Filter{Statuses: open, Limit: 50}, "requests_by_status", false},
		{"closed", approvals.Filter{Statuses: closed, Limit: 50}, "requests_by_status", false},
		{"open in an environment", approvals.Filter{Statuses: open, Environment: "production", Limit: 50}, "requests_by_status", false},
		{"closed in an environment", approvals.Filter{Statuses: closed, Environment: "production", Limit: 50}, "requests_by_environment", false},
		{"environment", approvals.Filter{Environment: "nowhere", Limit: 50}, "requests_by_environment", false},
		{"closed of an app", approvals.Filter{Apps: app, Statuses: closed, Limit: 50}, "requests_by_app_status", false},
		{"open of apps", approvals.Filter{Apps: other, Statuses: open, Limit: 50}, "requests_by_app_status", false},
		{"all open", approvals.Filter{Statuses: open}, "requests_by_status", false},
		{"all open that somebody voted on", approvals.Filter{Statuses: open, Voted: true}, "requests_by_status", false},
		{"open of a place", approvals.Filter{Apps: app, Environment: "production", Statuses: open}, "requests_by_place", false},
		{"newest deployed of a place", approvals.Filter{Apps: app, Environment: "nowhere", Statuses: []approvals.Status{approvals.Deployed}, Limit: 1}, "requests_by_place", false},
		{"last release of a place", approvals.Filter{Apps: app, Environment: "production", Released: true, Limit: 1}, "requests_by_release", false},
		{"releases of a place since", approvals.Filter{Apps: app, Environment: "production", Released: true, ReleasedAfter: then, Limit: 20}, "requests_by_release", false},
		{"open of a place since", approvals.Filter{Apps: app, Environment: "production", Statuses: open, After: 500_000}, "requests_by_place", false},
		{"last release of an empty place", approvals.Filter{Apps: app, Environment: "nowhere", Released: true, Limit: 1}, "requests_by_release", false},
		{"workflow", approvals.Filter{WorkflowID: "w500000"}, "requests_by_workflow", false},
		{"workflow of a place", approvals.Filter{Apps: app, Environment: "production", WorkflowID: "w500000", Limit: 1}, "requests_by_workflow", false},
		{"commit", approvals.Filter{Revision: "0123456789abcdef0123456789abcdef01234567", Limit: 50}, "requests_by_revision", false},
		{"commit of an app", approvals.Filter{Apps: app, Revision: "0123456789abcdef0123456789abcdef01234567", Limit: 50}, "requests_by_revision", false},
		{"short commit of an app", approvals.Filter{Apps: app, Environment: "production", Statuses: closed, Branch: "main", Revision: "0123456", Limit: 50}, "requests_by_revision", true},
		{"branch", approvals.Filter{Branch: "main", Limit: 50}, "requests_by_branch", false},
		{"rare branch", approvals.Filter{Branch: "rare", Limit: 50}, "requests_by_branch", false},
		{"no branch", approvals.Filter{Branch: "none", Limit: 50}, "requests_by_branch", false},
		{"branch of an app", approvals.Filter{Apps: app, Branch: "none", Limit: 50}, "requests_by_app_branch", false},
		{"branch of apps and places", approvals.Filter{Apps: other, Environment: "production", Branch: "main", Limit: 50}, "requests_by_app_branch", false},
		{"open of a branch", approvals.Filter{Apps: app, Branch: "main", Statuses: open, Limit: 50}, "requests_by_app_status", false},
		{"month", approvals.Filter{CreatedFrom: then, CreatedTo: then.Add(100 * time.Hour), Limit: 50}, "requests_by_time", true},
		{"since", approvals.Filter{Apps: app, CreatedFrom: then.Add(9_990 * time.Hour), Before: 999_999, Limit: 50}, "requests_by_time", true},
		{"superseded lately", approvals.Filter{Apps: app, Environment: "production", Statuses: []approvals.Status{approvals.Superseded}, CreatedFrom: then.Add(9_990 * time.Hour)}, "requests_by_time", false},
	}
}

type list struct {
	name   string
	filter approvals.Filter
	index  string
	sorts  bool // a range of keys has to be sorted by number
}

// TestPlans looks how SQLite answers each query: by an index, without sorting.
func TestPlans(t *testing.T) {
	db := storetest.New(t)
	for _, l := range lists() {
		queries, args := store.ListQueries(l.filter)
		for i, query := range queries {
			testPlan(t, db, l, query, args[i])
		}
	}
	for name, query := range store.Queries {
		plan, err := db.Explain(query, []any{1, 1, 1, 1}[:max(strings.Count(query, " ?"), strings.Count(query, "?3")*3)]...)
		if err != nil {
			t.Fatal(name, err)
		}
		for line := range strings.Lines(plan) {
			if strings.Contains(line, "TEMP B-TREE") || strings.Contains(line, "SCAN") && !strings.Contains(line, "SCAN names") {
				t.Errorf("%s: %s", name, strings.TrimSpace(line))
			}
		}
	}
}

func testPlan(t *testing.T, db *store.DB, l list, query string, args []any) {
	t.Helper()
	plan, err := db.Explain(query, args...)
	if err != nil {
		t.Fatal(err)
	}
	searched := l.index == ""
	for line := range strings.Lines(plan) {
		bad := strings.Contains(line, "TEMP B-TREE") && !l.sorts
		if table, found := strings.CutPrefix(strings.TrimSpace(line), "SCAN requests"); found {
			bad = bad || l.index != "" || strings.Contains(table, "INDEX")
		}
		if words := strings.Fields(line); slices.Contains(words, "INDEX") {
			used := words[slices.Index(words, "INDEX")+1]
			bad = bad || used != l.index
			searched = searched || used == l.index
		}
		if bad {
			t.Errorf("%s: %s", l.name, strings.TrimSpace(line))
		}
	}
	if !searched {
		t.Errorf("%s: does not use %s:\n%s", l.name, l.index, plan)
	}
}
