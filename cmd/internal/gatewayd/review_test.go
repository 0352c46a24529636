package gatewayd_test

import (
	"encoding/csv"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

const base32Secret = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"

// stdin runs a command with input.
func (o *operator) stdin(text string, args ...string) {
	o.t.Helper()
	if code, err := o.runWith(text, args...); code != 0 {
		o.t.Fatalf("%q: got exit %d, %s; want 0", args, code, err)
	}
}

func newOffice(t *testing.T) *operator {
	o := newOperator(t)
	o.must("user", "add", "--slack-id", "U0ANA", "--name", "Ana", "--vcs-login", "ana")
	o.must("user", "add", "--slack-id", "U0BEA", "--name", "=Bea()")
	o.must("user", "add", "--slack-id", "U0GONE", "--name", "Gone", "--vcs-login", "gone")
	o.stdin(base32Secret, "user", "enroll", "--slack-id", "U0ANA", "--secret-stdin")
	o.stdin(base32Secret, "user", "enroll", "--slack-id", "U0GONE", "--secret-stdin")
	o.must("user", "remove", "--slack-id", "U0GONE")
	return o
}

func TestAccessReview(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	token := strings.TrimSpace(o.must("token", "create", "--name", "ci", "--role", "cicd", "--app", "myapp", "--app", "other"))
	o.must("token", "create", "--name", "old", "--role", "auditor", "--all-apps")
	o.must("token", "revoke", "old")

	table := o.must("access-review")
	for _, want := range []string{"U0ANA", "ana", "active", "import", "never", "U0BEA", "none", "U0GONE", "ci", "cicd", "myapp,other", "revoked", "auditor"} {
		if !strings.Contains(table, want) {
			t.Errorf("table: got\n%s; want %q in it", table, want)
		}
	}
	var got struct {
		At     time.Time
		Admins []struct {
			SlackID       string `json:"slack_id"`
			VCSLogin      string `json:"vcs_login"`
			Authenticator *struct {
				State      string
				EnrolledAt time.Time `json:"enrolled_at"`
				EnrolledBy string    `json:"enrolled_by"`
			}
		}
		Removed []struct {
			SlackID   string    `json:"slack_id"`
			RemovedAt time.Time `json:"removed_at"`
		}
		Tokens []struct {
			Name, Role, State string
			Apps              []string
			LastUsedAt        *time.Time `json:"last_used_at"`
		}
	}
	text := o.must("access-review", "-o", "json")
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Admins) != 2 || len(got.Removed) != 1 || len(got.Tokens) != 2 || time.Since(got.At) > time.Hour {
		t.Fatalf("got %s; want two admins, one removed, two tokens", text)
	}
	ana, bea := got.Admins[0], got.Admins[1]
	if ana.VCSLogin != "ana" || ana.Authenticator == nil || ana.Authenticator.State != "active" || ana.Authenticator.EnrolledBy != "import" || time.Since(ana.Authenticator.EnrolledAt) > time.Hour || bea.Authenticator != nil {
		t.Errorf("got %+v; want Ana's authenticator and none of Bea", got.Admins)
	}
	if got.Removed[0].SlackID != "U0GONE" || time.Since(got.Removed[0].RemovedAt) > time.Hour {
		t.Errorf("got %+v; want U0GONE removed now", got.Removed)
	}
	if diff := cmp.Diff([]string{"myapp", "other"}, got.Tokens[0].Apps); diff != "" || got.Tokens[1].State != "revoked" {
		t.Errorf("got tokens %+v; want those of two apps and a revoked one", got.Tokens)
	}

	sheet := o.must("access-review", "-o", "csv")
	rows, err := csv.NewReader(strings.NewReader(sheet)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, r := range rows[1:] {
		kinds = append(kinds, r[0]+" "+r[2])
	}
	if diff := cmp.Diff([]string{"admin Ana", "admin '=Bea()", "removed Gone", "token ci", "token old"}, kinds); diff != "" {
		t.Errorf("csv (-want +got):\n%s", diff)
	}
	for _, secret := range []string{token, base32Secret} {
		if strings.Contains(table+text+sheet, secret) {
			t.Error("a secret is shown")
		}
	}

	// One row that was altered is shown as such and hides nobody.
	o.raw("db", "UPDATE secrets SET version = version + 1 WHERE name = 'authenticator/U0ANA'")
	if table := o.must("access-review"); !strings.Contains(table, "unreadable") || !strings.Contains(table, "U0BEA") {
		t.Errorf("got\n%s; want Ana's as unreadable, and Bea", table)
	}
}

func TestKeysRotate(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.must("audit", "key") // sealed, too
	first, second, _ := strings.Cut(storetest.Keys, ",")
	ring := func(keys string) { o.env[1] = "RGW_SECRET_KEYS=" + keys }

	// Without the key that is used nothing goes, and it is named.
	ring(second)
	for _, args := range [][]string{{"keys", "rotate"}, {"user", "list"}} {
		if code, out, err := o.run(args...); code != 1 || out != "" || !strings.HasSuffix(err, "still used: a\n") {
			t.Errorf("%q with the used key dropped: got exit %d, %s%s; want 1 and key a named", args, code, out, err)
		}
	}

	ring(second + "," + first)
	code, out, err := o.run("keys", "rotate")
	if code != 0 || out != "a\n" || !strings.Contains(err, "3 secrets are now sealed with key b") {
		t.Errorf("got exit %d, %q, %s; want the authenticator, the log's key and its head sealed with b, and a listed", code, out, err)
	}
	if log := o.must("audit", "export"); !strings.Contains(log, `"type":"keys.rotated"`) || !strings.Contains(log, `"resealed":"3"`) {
		t.Errorf("got no event of the rotation in %s", log)
	}
	ring(second)
	if out := o.must("access-review"); !strings.Contains(out, "active") {
		t.Errorf("with the new key alone: got %s; want the authenticator open", out)
	}
	var again struct {
		Sealing  string
		Resealed int
		Unused   []string
		InUse    []string `json:"in_use"`
	}
	if err := json.Unmarshal([]byte(o.must("keys", "rotate", "-o", "json")), &again); err != nil {
		t.Fatal(err)
	}
	if again.Sealing != "b" || again.Resealed != 0 || len(again.Unused)+len(again.InUse) != 0 {
		t.Errorf("again: got %+v; want nothing to do", again)
	}

	// A row that does not open stays as it is; the rotation is not finished.
	o.raw("db", "UPDATE secrets SET version = version + 1 WHERE name = 'authenticator/U0ANA'")
	ring(first + "," + second)
	if code, out, err := o.run("keys", "rotate"); code != 1 || out != "" || !strings.Contains(err, "U0ANA") {
		t.Errorf("altered row: got exit %d, %q, %s; want 1 and whose it is", code, out, err)
	}
	if log := o.must("audit", "export"); !strings.Contains(log, `"outcome":"unfinished"`) {
		t.Errorf("got no event of the unfinished rotation in %s", log)
	}
}
