package gatewayd_test

import (
	"database/sql"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// raw changes the database as somebody does who has the file.
func (w world) raw(statements ...string) {
	w.t.Helper()
	db, err := sql.Open("sqlite3", "file:"+w.file("")+"?_busy_timeout=5000")
	w.must(err)
	defer db.Close()
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			w.t.Fatalf("%s: %v", s, err)
		}
	}
}

// carded files a request and waits until its card stands.
func (w world) carded(number int64) (id string) {
	w.t.Helper()
	_, id = w.request(number)
	_, err := w.Card(w.ctx, id)
	w.must(err)
	w.until(func() bool {
		return strings.Contains(w.Client(w.ctx, "", "deploy-approval", "show", id).Stdout, "Card: ")
	})
	return id
}

func lines(text string) []string {
	all := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	slices.Sort(all)
	return all
}

// Rows that do not say what the log says are named, and made anew beside a running
// daemon. Those that cannot be are named, too, and end it with 1.
func TestRebuild(t *testing.T) {
	t.Parallel()
	w := setup(t, "RGW_SETTING_SUPERSEDE=off", "RGW_RATE_LIMIT=0")
	first, second := w.carded(1), w.carded(2)
	w.carded(3)
	w.carded(4)
	token, err := w.NewToken(w.ctx, "spare", "--role", "cicd", "--all-apps")
	w.must(err)
	tokenID := strings.TrimPrefix(token, "rgw_")[:10]
	for _, args := range [][]string{{"rebuild", "--check"}, {"rebuild"}} {
		if r := w.operator(0, args...); r.Stdout != "" || !strings.Contains(r.Stderr, "0 rows differ from the log; 0 were repaired") {
			t.Errorf("%q of what is right: got %q, %q; want nothing", args, r.Stdout, r.Stderr)
		}
	}

	w.raw(
		`UPDATE requests SET body = json_set(body, '$.message', 'another', '$.required', 0) WHERE number = 1`,
		`UPDATE requests SET status = 'deployed' WHERE number = 2`, // it would not be listed as open
		`DELETE FROM requests WHERE number = 3`,
		`UPDATE kept SET state = CAST(json_set(CAST(state AS TEXT), '$.VCSLogin', 'mallory') AS BLOB) WHERE kind = 'person' AND id = '`+stage.Ana+`'`,
		`UPDATE kept SET state = CAST('x' AS BLOB) WHERE kind = 'person' AND id = '`+stage.Bea+`'`,
		`DELETE FROM kept WHERE kind = 'token' AND id = '`+tokenID+`'`,
	)
	want := []string{
		"person " + stage.Ana + ": VCSLogin differs", "person " + stage.Bea + ": its row cannot be read",
		"request #1: message, required differs", "request #2: what it is found by differs", "request #3: its row is missing",
		"token " + tokenID + ": its row is missing",
	}
	check := w.operator(1, "rebuild", "--check")
	// Before Bea's row can be read, nobody can tell whether there is one too many.
	unlisted := "people and tokens that the log does not know: read a person: invalid character 'x' looking for beginning of value"
	if diff := cmp.Diff(slices.Insert(slices.Clone(want), 0, unlisted), lines(check.Stdout)); diff != "" {
		t.Errorf("--check: %s (-want +got):\n%s", check.Stderr, diff)
	}
	done := w.operator(0, "rebuild")
	for i := range want {
		want[i] += " (repaired)"
	}
	if diff := cmp.Diff(want, lines(done.Stdout)); diff != "" || !strings.Contains(done.Stderr, "6 rows differ from the log; 6 were repaired") {
		t.Errorf("rebuild: %s (-want +got):\n%s", done.Stderr, diff)
	}
	w.operator(0, "rebuild", "--check")
	if got := w.Client(w.ctx, "", "deploy-approval", "list", "--status", "open", "-o", "json"); strings.Count(got.Stdout, `"pending"`) != 4 {
		t.Errorf("open requests after it: got %s; want all four", got.Stdout)
	}
	w.approve(stage.Ana, first)
	w.until(func() bool { return w.status(first) == "approved" })
	if got := w.status(second); got != "pending" {
		t.Errorf("the second request: got %s; want pending", got)
	}

	if got := w.operator(0, "user", "list").Stdout; !strings.Contains(got, "Bea") {
		t.Errorf("people after it: got %s; want Bea by the name that the operator gave", got)
	}

	// What cannot be made anew.
	w.raw(
		`UPDATE requests SET body = 'x' WHERE number = 4`,
		`INSERT INTO requests SELECT 99, 'FORGED', 1, app, environment, 'deployed', revision, branch, 'forged', created_at, released_at,
			json_set(body, '$.ID', 'FORGED', '$.Status', 'deployed'), metadata, seen FROM requests WHERE number = 1`,
	)
	var views []struct {
		Subject, What string
		Rebuilt       bool
	}
	w.must(json.Unmarshal([]byte(w.operator(1, "rebuild", "-o", "json").Stdout), &views))
	if len(views) != 2 || views[0].Subject != "request #4" || !strings.Contains(views[0].What, "invalid character") || views[0].Rebuilt ||
		views[1].Subject != "requests that the log does not know" || views[1].Rebuilt {
		t.Errorf("got %+v; want the row that cannot be read, and that others may stand beside it", views)
	}
	w.raw(`DELETE FROM requests WHERE number = 4`)
	if r := w.operator(1, "rebuild"); !slices.Equal(lines(r.Stdout), []string{"request #4: its row is missing (repaired)", "request #99: the log has no event of it (could not be repaired)"}) {
		t.Errorf("got %q; want the lost row made anew, and the forged one named", r.Stdout)
	}
	w.raw(`DELETE FROM requests WHERE number = 99`)
	w.operator(0, "rebuild", "--check")
}

// Where the log itself was changed, no row is made to agree with it.
func TestRebuildOfAChangedLog(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	o.must("user", "add", "--slack-id", "U0ANA", "--vcs-login", "ana")
	o.must("user", "add", "--slack-id", "U0BEA")
	o.raw("db", "DROP TRIGGER audit_no_update", `UPDATE audit SET line = replace(line, '"ana"', '"eve"') WHERE seq = 0`)
	for _, args := range [][]string{{"rebuild"}, {"rebuild", "--check"}} {
		code, out, errs := o.run(args...)
		if code != 1 || out != "" || !strings.Contains(errs, "no row was compared: the log was changed by somebody without the keys") {
			t.Errorf("%q: got exit %d, %q, %s; want 1 and why", args, code, out, errs)
		}
	}
	// People are listed by the log, too.
	if code, out, errs := o.run("user", "list"); code != 1 || out != "" || !strings.Contains(errs, "the log was changed by somebody without the keys") {
		t.Errorf("user list: got exit %d, %q, %s; want 1 and why", code, out, errs)
	}
	o.raw("db", `UPDATE audit SET line = replace(line, '"eve"', '"ana"') WHERE seq = 0`)
	o.must("rebuild", "--check") // the row is as it was
}
