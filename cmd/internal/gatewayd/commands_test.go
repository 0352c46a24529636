package gatewayd_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/store"
	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

// A command that does not begin a gateway makes no database: after a slip in
// RGW_DATABASE_URL it would show an empty one.
func TestCommandsThatMakeNoDatabase(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"token list", "token revoke x", "token rotate x", "user list", "user remove --slack-id U0ANA", "user enroll --slack-id U0ANA", "audit key", "audit checkpoint",
		"audit export", "audit reconcile --from 2026-01-01", "access-review", "keys rotate", "backup " + filepath.Join(dir, "copy"),
		"rebuild", "rebuild --check", "recover --accept-rollback", "check",
	} {
		for _, path := range []string{filepath.Join(dir, "none", "db"), empty} {
			o := &operator{t, dir, []string{
				"RGW_DATABASE_URL=sqlite:" + path, "RGW_SECRET_KEYS=" + storetest.Keys,
				// What check and reconcile need besides; nobody listens there.
				"CIRCLECI_TOKEN=token", "CIRCLECI_URL=http://127.0.0.1:1", "SLACK_BOT_TOKEN=xoxb-1", "SLACK_APP_TOKEN=xapp-1",
				"SLACK_API_URL=http://127.0.0.1:1", "SLACK_CHANNEL=C0123", "RGW_APP_A_SETTING_VCS_REPO=acme/a", "RGW_APP_A_SETTING_CIRCLECI_APPROVAL_JOB_NAME=hold",
			}}
			code, out, errs := o.run(strings.Fields(line)...)
			said := out + errs
			if code != 1 || !strings.Contains(said, "there is no database at "+path+". RGW_DATABASE_URL says where it is") || !strings.Contains(said, "serve, user add and token create make a new one") {
				t.Errorf("%s: got exit %d, %s; want 1, where it looked, and how a database comes to be", line, code, said)
			}
			if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
				t.Fatalf("%s: got the files %v, %v; want nothing made", line, entries, err)
			}
		}
	}
	if info, err := os.Stat(empty); err != nil || info.Size() != 0 {
		t.Errorf("the empty file: got %v, %v; want it as it was", info, err)
	}
	o := newOperator(t)
	o.must("user", "add", "--slack-id", "U0ANA")
	o.must("user", "list")
}

// The owner of a database makes its tables without the keys of the gateway, which
// the rest of it needs.
func TestMigrateNeedsNoKeys(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	keys := o.env
	o.env = []string{"RGW_DATABASE_URL=sqlite:" + o.path("made.db"), "RGW_SECRET_KEYS_FILE=" + o.path("none")}
	o.must("migrate")
	if code, _, errs := o.run("token", "list"); code != 1 || !strings.Contains(errs, "RGW_SECRET_KEYS_FILE: the file cannot be read") {
		t.Errorf("token list: got exit %d, %s; want 1 and the missing keys", code, errs)
	}
	o.env = append(keys, o.env[0])
	o.must("token", "list")
}

// A name that nobody knows is answered with the nearest one that is.
func TestSettingsOfAMisspeltName(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	o.env = append(o.env, "SLACK_CHANNEL=C0123", "RGW_APP_SHOP_SETTING_VCS_REPO=acme/shop", "RGW_APP_SHOP_SETTING_CIRCLECI_APPROVAL_JOB_NAME=hold",
		"RGW_APP_SHOP_ENV_STAGING_SETTING_CIRCLECI_APPROVAL_JOB_NAME=hold_staging")
	for line, says := range map[string]string{
		"settings show -a shpo": "did you mean shop?", "settings show -a shop -e stagng": "did you mean staging?", "settings show -a other": "add",
	} {
		if code, out, errs := o.run(strings.Fields(line)...); code != 1 || out != "" || !strings.Contains(errs, says) {
			t.Errorf("%s: got exit %d, %q, %s; want 1 and %q", line, code, out, errs, says)
		}
	}
	for line, want := range map[string]string{"__complete settings show -a s": "shop\n", "__complete settings show -a shop -e st": "staging\n", "__complete token create --app s": "shop\n", "__complete audit export --format c": "csv\n"} {
		if code, out, errs := o.run(strings.Fields(line)...); code != 0 || !strings.HasPrefix(out, want) {
			t.Errorf("%s: got exit %d, %q, %s; want %q", line, code, out, errs, want)
		}
	}
}

// Durations are shown as people write them.
func TestSettingsShowsDurations(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	o.env = append(o.env, "SLACK_CHANNEL=C0123", "RGW_APP_SHOP_SETTING_VCS_REPO=acme/shop", "RGW_APP_SHOP_SETTING_CIRCLECI_APPROVAL_JOB_NAME=hold",
		"RGW_APP_SHOP_SETTING_REMIND_AFTER=90m")
	var rows []struct{ Key, Value string }
	if err := json.Unmarshal([]byte(o.must("settings", "show", "--app", "shop", "-o", "json")), &rows); err != nil {
		t.Fatal(err)
	}
	shown := map[string]string{}
	for _, r := range rows {
		shown[r.Key] = r.Value
	}
	for key, want := range map[string]string{"pending_ttl": "24h", "remind_after": "1h30m", "config_change_approvals": "0"} {
		if shown[key] != want {
			t.Errorf("%s: got %q; want %q", key, shown[key], want)
		}
	}
}

// Wrong values make no database either.
func TestWrongValuesMakeNoDatabase(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	for _, args := range [][]string{
		{"user", "add", "--slack-id", "@ana"}, {"user", "add", "--slack-id", "U0ANA", "--vcs-login", "a/b"},
		{"user", "add", "--slack-id", "U0ANA", "--name", strings.Repeat("x", 81)},
		{"token", "create", "--name", "x", "--role", "cicd", "--app", "Not_An_App"}, {"token", "create", "--name", "x", "--role", "admin", "--all-apps"},
		{"token", "create", "--name", " ", "--role", "cicd", "--all-apps"}, {"token", "create", "--name", "x", "--role", "cicd", "--all-apps", "--expires", "0d"},
		{"token", "create", "--name", "x", "--role", "cicd", "--all-apps", "-o", "xml"},
	} {
		if code, out, errs := o.run(args...); code != 2 || out != "" {
			t.Errorf("%q: got exit %d, %q, %s; want 2", args, code, out, errs)
		}
		if entries, err := os.ReadDir(o.dir); err != nil || len(entries) != 0 {
			t.Fatalf("%q: got the files %v, %v; want none", args, entries, err)
		}
	}
}

func TestTokenRotate(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	old := strings.TrimSpace(o.must("token", "create", "--name", "ci", "--role", "cicd", "--app", "a"))
	code, out, errs := o.run("token", "rotate", "ci")
	if code != 0 || strings.Count(out, "\n") != 1 || !strings.HasPrefix(out, "rgw_") || strings.TrimSpace(out) == old || !strings.Contains(errs, "is valid until") {
		t.Errorf("got exit %d, %q, %s; want a new token alone on stdout, and until when the old one works", code, out, errs)
	}
	var views []struct{ Name, State string }
	if err := json.Unmarshal([]byte(o.must("token", "list", "-o", "json")), &views); err != nil {
		t.Fatal(err)
	}
	if len(views) != 2 || views[0].State != "rotated" || views[1].State != "active" || views[1].Name != "ci" {
		t.Errorf("got %+v; want the old one rotated and the new one active", views)
	}
	for line, want := range map[string]int{"token rotate ci --grace 31d": 2, "token rotate ci --grace 800h": 2, "token rotate ci --expires soon": 2, "token rotate x": 1, "token rotate": 2} {
		if code, out, errs := o.run(strings.Fields(line)...); code != want || out != "" {
			t.Errorf("%s: got exit %d, %q, %s; want %d", line, code, out, errs, want)
		}
	}
}

// Copying from a backup leaves nothing beside it, so that the next one takes its place.
func TestBackupAfterACopyOfIt(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	o.must("user", "add", "--slack-id", "U0ANA")
	o.must("backup", o.path("nightly"))
	o.must("copy", "--from", "sqlite:"+o.path("nightly"), "--to", "sqlite:"+o.path("other"))
	o.must("backup", o.path("nightly"))
	o.write("db.lock", "") // as a daemon leaves it
	o.must("copy", "--from", "sqlite:"+o.path("db"), "--to", "sqlite:"+o.path("third"))
	if _, err := os.Stat(o.path("db.lock")); err != nil {
		t.Errorf("the lock file of a daemon: %v", err)
	}
}

// A token that expires sooner is not said to be valid for longer.
func TestTokenRotateSaysWhenTheOldOneEnds(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	for i, tt := range []struct{ life, grace, verb, until string }{
		{"90d", "1h", "is valid until", time.Now().Add(time.Hour).Format("2006-01-02")},
		{"1h", "600h", "is valid until", time.Now().Add(time.Hour).Format("2006-01-02")},
		{"90d", "0", "ended on", time.Now().Format("2006-01-02")},
	} {
		name := fmt.Sprint("ci-", i)
		o.must("token", "create", "--name", name, "--role", "cicd", "--app", "a", "--expires", tt.life)
		if code, _, errs := o.run("token", "rotate", name, "--grace", tt.grace); code != 0 || !regexp.MustCompile("The old token [A-Z0-9]+ "+tt.verb+" "+tt.until).MatchString(errs) {
			t.Errorf("%v: got exit %d, %s", tt, code, errs)
		}
	}
}

// Two keys that are made on one day are of one ring, and a ring that cannot be read
// says which key is wrong, and why.
func TestKeysOfOneDay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOperator(t)
		first := strings.TrimSpace(o.must("keygen"))
		time.Sleep(time.Second)
		second := strings.TrimSpace(o.must("keygen"))
		if _, err := store.ParseKeys(second + "," + first); err != nil {
			t.Error(err)
		}
		same := strings.TrimSpace(o.must("keygen"))
		o.env = []string{"RGW_DATABASE_URL=sqlite:" + o.path("db"), "RGW_SECRET_KEYS=" + second + "," + same}
		_, secret, _ := strings.Cut(same, ":")
		if code, _, errs := o.run("token", "list"); code != 1 || !strings.Contains(errs, "RGW_SECRET_KEYS: must be kid:base64") || !strings.Contains(errs, "key 2: its id is taken by another key of the ring") || strings.Contains(errs, secret) {
			t.Errorf("got exit %d, %s; want which key is wrong", code, errs)
		}
	})
}

// What was typed wrongly is exit 2 in every command, and nothing goes to stdout.
func TestUsageIsTwo(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	o.must("user", "add", "--slack-id", "U0ANA")
	for _, tt := range []struct{ line, says string }{
		{"", "Available Commands"},
		{"token", "rack-gatewayd token [command]"},
		{"user", "rack-gatewayd user [command]"},
		{"audit", "rack-gatewayd audit [command]"},
		{"keys", "rack-gatewayd keys [command]"},
		{"settings", "rack-gatewayd settings [command]"},
		{"nope", `unknown command "nope"`},
		{"token nope", `unknown command "nope"`},
		{"help nope", `unknown help topic "nope"`},
		{"token list --nope", "unknown flag"},
		{"token list extra", "unknown command"},
		{"token create --name x --role admin --all-apps", "must be one of cicd, auditor"},
		{"token create --name x --role cicd --app Not_An_App", "cannot be the name of an app"},
		{"token create --name x --role cicd", "either --app"},
		{"token create --name x --role cicd --all-apps --expires soon", "--expires"},
		{"token revoke", "arg"},
		{"token revoke rgw_abc", "give the token's id or name"},
		{"user add --slack-id @ana", "the Slack id must look like U012ABCDEF"},
		{"user add --slack-id U0ANA --vcs-login a/b", "the VCS login must be"},
		{"user add", "--slack-id is required"},
		{"user enroll --slack-id U0ANA --terminal --secret-stdin", "choose one"},
		{"settings show", "--app is required"},
		{"keygen --kid a:b", "--kid"},
		{"manifest --http nowhere", "--http"},
		{"backup", "arg"},
		{"rebuild extra", "unknown command"},
		{"rebuild -o yaml", "--output"},
		{"recover", "--accept-rollback"},
	} {
		if code, out, errs := o.run(strings.Fields(tt.line)...); code != 2 || out != "" || !strings.Contains(errs, tt.says) {
			t.Errorf("%q: got exit %d, stdout %q, stderr %s; want 2, nothing, %q", tt.line, code, out, errs, tt.says)
		}
	}
	// A file that cannot be read says nothing of the log.
	log := o.write("log", o.must("audit", "export", "--with-checkpoint", o.path("checkpoint")))
	key := strings.TrimSpace(o.must("audit", "key"))
	code, out, errs := o.run("audit", "verify", o.dir, "--checkpoint", o.path("checkpoint"), "--key", key)
	if code != 2 || out != "" || !strings.Contains(errs, "read export: ") {
		t.Errorf("a directory: got exit %d, %q, %s; want 2", code, out, errs)
	}
	if code, _, errs := o.run("audit", "verify", log, "--checkpoint", o.path("checkpoint"), "--key", key); code != 0 {
		t.Errorf("the file itself: got exit %d, %s; want 0", code, errs)
	}
	// What can be right and is not there, or is there already, is no usage fault.
	for _, line := range []string{"token revoke x", "user remove --slack-id U0BEA", "user remove --slack-id U0ANA", "audit checkpoint --size 99"} {
		if code, _, errs := o.run(strings.Fields(line)...); code != 1 {
			t.Errorf("%q: got exit %d, %s; want 1", line, code, errs)
		}
	}
}
