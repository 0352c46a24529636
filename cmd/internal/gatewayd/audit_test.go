package gatewayd_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/gatewayd"
	"github.com/rack-gateway/rack-gateway-approvals/store"
	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

// operator runs commands on a database of its own, with no variable but the two
// that they need.
type operator struct {
	t   testing.TB
	dir string
	env []string
}

func newOperator(t testing.TB) *operator {
	dir := t.TempDir()
	return &operator{t, dir, []string{"RGW_DATABASE_URL=sqlite:" + filepath.Join(dir, "db"), "RGW_SECRET_KEYS=" + storetest.Keys}}
}

func (o *operator) path(name string) string { return filepath.Join(o.dir, name) }

// run returns exit code, stdout and stderr.
func (o *operator) run(args ...string) (int, string, string) {
	var out, err bytes.Buffer
	code := gatewayd.Run(context.Background(), args, o.env, strings.NewReader(""), &out, &err)
	return code, out.String(), err.String()
}

// runWith gives the command input.
func (o *operator) runWith(stdin string, args ...string) (int, string) {
	var err bytes.Buffer
	return gatewayd.Run(context.Background(), args, o.env, strings.NewReader(stdin), io.Discard, &err), err.String()
}

// must is run for commands that succeed.
func (o *operator) must(args ...string) string {
	o.t.Helper()
	code, out, err := o.run(args...)
	if code != 0 {
		o.t.Fatalf("%q: got exit %d, %s; want 0", args, code, err)
	}
	return out
}

func (o *operator) write(name, text string) string {
	o.t.Helper()
	if err := os.WriteFile(o.path(name), []byte(text), 0o600); err != nil {
		o.t.Fatal(err)
	}
	return o.path(name)
}

// events appends n events through the service.
func (o *operator) events(n int) {
	o.t.Helper()
	ring, err := store.ParseKeys(storetest.Keys)
	if err != nil {
		o.t.Fatal(err)
	}
	db, err := store.Open(o.t.Context(), store.Config{URL: "sqlite:" + o.path("db"), Keys: ring})
	if err != nil {
		o.t.Fatal(err)
	}
	defer db.Close()
	s := approvals.New(approvals.Config{Store: db})
	for i := range n {
		e := approvals.Event{Type: approvals.EventModalOpened, App: "myapp", Actor: approvals.Actor{Kind: approvals.ActorPerson, ID: "U0ANA"}, Source: "slack", Reason: fmt.Sprintf("number %d <é☃>", i)}
		if err := s.Record(o.t.Context(), e); err != nil {
			o.t.Fatal(err)
		}
	}
}

// raw runs SQL as somebody with the file would, past triggers and all rules.
func (o *operator) raw(file string, statements ...string) {
	o.t.Helper()
	db, err := sql.Open("sqlite3", o.path(file))
	if err != nil {
		o.t.Fatal(err)
	}
	defer db.Close()
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			o.t.Fatalf("%s: %v", s, err)
		}
	}
}

// A key that is given as text is no file, also where its first part is the name of one.
func TestKeyBesideTheClient(t *testing.T) {
	o := newOperator(t)
	o.events(1)
	log := o.write("log", o.must("audit", "export", "--with-checkpoint", o.path("checkpoint")))
	key := strings.TrimSpace(o.must("audit", "key"))
	name, _, _ := strings.Cut(key, "/")
	o.write(name, "the client")
	t.Chdir(o.dir)
	if code, out, errs := o.offline("audit", "verify", log, "--checkpoint", o.path("checkpoint"), "--key", key); code != 0 {
		t.Errorf("got exit %d, %s%s; want it verified", code, out, errs)
	}
}

func TestExportWithCheckpointVerifies(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	o.events(300) // more than a page
	log := o.write("log", o.must("audit", "export", "--with-checkpoint", o.path("checkpoint")))
	key := o.must("audit", "key")
	keyFile := o.write("key", key)

	lines := strings.SplitAfter(strings.TrimSuffix(o.read("log"), "\n"), "\n")
	if len(lines) != 301 {
		t.Fatalf("got %d lines; want 300 and the export's own", len(lines))
	}
	var last approvals.Event
	if err := json.Unmarshal([]byte(lines[300]), &last); err != nil {
		t.Fatal(err)
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if last.Type != approvals.EventLogExported || last.Actor.Kind != approvals.ActorOperator || !strings.HasSuffix(last.Actor.ID, "@"+host) || last.Outcome != "jsonl" {
		t.Errorf("got the last event %+v; want the operator's export", last)
	}

	for name, k := range map[string]string{"file": keyFile, "text": strings.TrimSpace(key), "text with newline": key} {
		code, out, err := o.offline("audit", "verify", log, "--checkpoint", o.path("checkpoint"), "--key", k)
		if code != 0 || !strings.Contains(out, "intact: 301 events") || !strings.Contains(out, "0 events not anchored yet") {
			t.Errorf("key as %s: got exit %d, %s%s; want 301 intact events, all anchored", name, code, out, err)
		}
	}

	// A later export against the older checkpoint, and against its own with --since.
	o.events(5)
	later := o.write("later", o.must("audit", "export", "--with-checkpoint", o.path("checkpoint2")))
	code, out, _ := o.offline("audit", "verify", later, "--checkpoint", o.path("checkpoint"), "--key", keyFile)
	if code != 0 || !strings.Contains(out, "6 events not anchored yet") {
		t.Errorf("older checkpoint: got exit %d, %s; want 6 events not anchored yet", code, out)
	}
	code, out, errs := o.offline("audit", "verify", later, "--checkpoint", o.path("checkpoint2"), "--key", keyFile, "--since", o.path("checkpoint"), "-o", "json")
	var got map[string]any
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != 0 || got["intact"] != true || got["events"] != 307.0 || got["not_anchored"] != 0.0 {
		t.Errorf("since: got exit %d, %s%s; want intact, 307 events", code, out, errs)
	}

	// Copied by hand, with the line ends of another system or without the last one.
	for name, change := range map[string]func(string) string{
		"cut": strings.TrimSpace, "crlf": func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }, "more": func(s string) string { return "\n" + s + "\n" },
	} {
		copied := o.write("copied", change(o.read("checkpoint2")))
		if code, _, errs := o.offline("audit", "verify", later, "--checkpoint", copied, "--key", keyFile, "--since", copied); code != 0 {
			t.Errorf("checkpoint %s: got exit %d, %s; want 0", name, code, errs)
		}
	}
	// The checkpoint of a size is the one that was signed then.
	if size := o.must("audit", "checkpoint", "--size", "301"); strings.Split(size, "\n\n")[0] != strings.Split(o.read("checkpoint"), "\n\n")[0] {
		t.Errorf("got checkpoint %s; want %s", size, o.read("checkpoint"))
	}
	if code, _, err := o.run("audit", "checkpoint", "--size", "9999"); code != 1 || !strings.Contains(err, "307 events") {
		t.Errorf("a size to come: got exit %d, %s; want 1 and how many there are", code, err)
	}
}

func (o *operator) read(name string) string {
	o.t.Helper()
	b, err := os.ReadFile(o.path(name))
	if err != nil {
		o.t.Fatal(err)
	}
	return string(b)
}

// offline runs a command without any variable.
func (o *operator) offline(args ...string) (int, string, string) {
	env := o.env
	o.env = nil
	defer func() { o.env = env }()
	return o.run(args...)
}

func TestExportUntil(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	o.events(3)
	until := time.Now().UTC()
	for time.Now().UTC().Sub(until) < 2*time.Millisecond {
		// Events are told apart by the millisecond.
	}
	o.events(2)
	log := o.write("log", o.must("audit", "export", "--to", until.Format(time.RFC3339Nano), "--with-checkpoint", o.path("checkpoint")))
	key := strings.TrimSpace(o.must("audit", "key"))
	code, out, err := o.offline("audit", "verify", log, "--checkpoint", o.path("checkpoint"), "--key", key)
	if code != 0 || !strings.Contains(out, "intact: 3 events") || !strings.Contains(out, "0 events not anchored yet") {
		t.Errorf("got exit %d, %s%s; want the first 3 events, anchored", code, out, err)
	}
	if got := strings.Count(o.must("audit", "export", "--to", time.Now().UTC().Format(time.DateOnly)), "\n"); got != 7 {
		t.Errorf("to today: got %d lines; want all 7", got)
	}
}

func TestAuditUsage(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	o.events(2)
	log := o.write("log", o.must("audit", "export", "--with-checkpoint", o.path("checkpoint")))
	key := strings.TrimSpace(o.must("audit", "key"))
	_, other, err := ledger.GenerateSigner("example.com/other")
	if err != nil {
		t.Fatal(err)
	}
	before := o.must("audit", "checkpoint")
	for _, tt := range []struct {
		args string
		code int
		says string
	}{
		{"audit export --from 2026-01-01", 2, "from is for csv only"},
		{"audit export --app myapp", 2, "app is for csv only"},
		{"audit export --format xml", 2, "must be one of jsonl, csv"},
		{"audit export --to yesterday", 2, "to must be a date"},
		{"audit export --to 0001-01-01", 2, "to must be in the years"},
		{"audit export --to 2001-01-01", 2, "to is before the first event"},
		{"audit export --format csv --from 2026-02-01 --to 2026-01-01", 2, "to is before from"},
		{"audit export --format csv --app NOT", 2, "app cannot be"},
		{"audit export extra", 2, "unknown command"},
		{"audit checkpoint --size 0", 2, "1 or more"},
		{"audit checkpoint --size -1", 2, "1 or more"},
		{"audit verify", 2, "arg"},
		{"audit verify LOG", 2, "--checkpoint is required"},
		{"audit verify LOG --checkpoint CHECKPOINT", 2, "--key is required"},
		{"audit verify missing --checkpoint CHECKPOINT --key KEY", 2, "no such file"},
		{"audit verify LOG --checkpoint missing --key KEY", 2, "no such file"},
		{"audit verify LOG --checkpoint CHECKPOINT --key nonsense", 2, "neither a verifier key"},
		{"audit verify LOG --checkpoint CHECKPOINT --key CHECKPOINT", 2, "neither a verifier key"},
		{"audit verify LOG --checkpoint CHECKPOINT --key KEY --since missing", 2, "no such file"},
		{"audit verify LOG --checkpoint CHECKPOINT --key KEY -o yaml", 2, "--output"},
		{"audit verify LOG --checkpoint CHECKPOINT --key " + other, 1, "not a checkpoint signed by this log"},
		{"audit verify LOG --checkpoint LOG --key KEY", 1, "not a checkpoint signed by this log"},
		{"audit verify CHECKPOINT --checkpoint CHECKPOINT --key KEY", 1, "first bad sequence number 0"},
		{"audit reconcile", 2, "--from is required"},
		{"audit reconcile --from 2026-01-01", 1, "CIRCLECI_TOKEN"},
		{"audit reconcile --from 2026-01-01 --lookback long", 2, "--lookback"},
		{"audit report", 2, "--output is required"},
		{"audit report -o missing --from 2026-01-01T00:00:00Z", 2, "--from must be a day"},
		{"audit report -o missing --from 2026-02-01 --to 2026-01-31", 2, "--to is before from"},
		{"audit report -o missing --app NOT", 2, "--app cannot be"},
		{"audit report -o missing --app nobody", 1, "there is no request of an app"},
		{"access-review -o xml", 2, "--output"},
		{"keys rotate -o xml", 2, "--output"},
		{"audit nothing", 2, "unknown command"},
	} {
		args := strings.Fields(tt.args)
		for i, a := range args {
			if file, ok := map[string]string{"LOG": log, "CHECKPOINT": o.path("checkpoint"), "KEY": key, "missing": o.path("missing")}[a]; ok {
				args[i] = file
			}
		}
		code, out, errs := o.run(args...)
		if code != tt.code || !strings.Contains(errs, tt.says) || out != "" {
			t.Errorf("%s: got exit %d, stdout %q, stderr %s; want exit %d, nothing, %q", tt.args, code, out, errs, tt.code, tt.says)
		}
	}
	if after := o.must("audit", "checkpoint"); after != before {
		t.Errorf("refused exports left events: got %s; want %s", after, before)
	}
}

// A log that does not continue what was signed is exported, but not signed.
func TestNoCheckpointOfALogThatContradictsItsAnchor(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	o.events(3)
	o.must("audit", "key") // is made at the first use
	o.copyDatabase("db", "old")
	o.events(3)
	o.write("anchor", o.must("audit", "checkpoint"))
	o.copyDatabase("old", "db")
	o.env = append(o.env, "RGW_ANCHOR_FILE="+o.path("anchor"))
	for _, args := range [][]string{{"audit", "checkpoint"}, {"audit", "export", "--with-checkpoint", o.path("checkpoint")}} {
		code, out, err := o.run(args...)
		if code != 1 || out != "" || !strings.Contains(err, "an old copy was restored") {
			t.Errorf("%q: got exit %d, %q, %s; want exit 1 and why", args, code, out, err)
		}
	}
	if _, err := os.Stat(o.path("checkpoint")); err == nil {
		t.Error("a checkpoint was written")
	}
	if out := o.must("audit", "export"); strings.Count(out, "\n") != 4 {
		t.Errorf("got %d lines; want 3 and the export's own", strings.Count(out, "\n"))
	}
}

func (o *operator) copyDatabase(from, to string) {
	o.t.Helper()
	for _, suffix := range []string{"", "-wal", "-shm"} {
		b, err := os.ReadFile(o.path(from + suffix))
		if os.IsNotExist(err) {
			os.Remove(o.path(to + suffix))
			continue
		}
		if err != nil {
			o.t.Fatal(err)
		}
		o.write(to+suffix, string(b))
	}
}

// What the operator does carries who they are on their machine, also behind sudo.
func TestEventsNameTheOperator(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	o.env = append(o.env, "SUDO_USER=ana")
	o.must("user", "add", "--slack-id", "U0ANA")
	o.must("token", "create", "--name", "ci", "--role", "cicd", "--all-apps")
	o.must("keys", "rotate")
	for line := range strings.Lines(o.must("audit", "export")) {
		e, err := approvals.ParseEvent([]byte(line))
		if err != nil || !strings.HasPrefix(e.Actor.ID, "ana as ") || !strings.Contains(e.Actor.ID, "@") {
			t.Errorf("got %s, %v; want the operator's user and host", line, err)
		}
	}
}
