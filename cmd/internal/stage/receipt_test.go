package stage_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// A receipt is kept by the deploy job and checked later, without the daemon, by
// somebody who has only the key.
func TestReceiptsAreCheckedOffline(t *testing.T) {
	p := setup(t, stage.Options{})
	a := p.askOnHold()
	p.approve(stage.Ana, a, "approve")
	p.becomes(a, approvals.Released)
	file := func(name string) string { return filepath.Join(p.Dir, name) }
	write := func(name, text string) string {
		t.Helper()
		p.ok(os.WriteFile(file(name), []byte(text), 0o600))
		return file(name)
	}
	if r := p.Client(p.ctx, a.workflow, "deploy", "--app", stage.App, "--receipt", file("receipt"), "--", "true"); r.Code != 0 {
		t.Fatalf("deploy: got %+v", r)
	}
	logged := p.Client(p.ctx, a.workflow, "deploy", "--app", stage.App, "--", "true")
	_, line, _ := strings.Cut(logged.Stderr, "Receipt: ")
	line, _, _ = strings.Cut(line, "\n")
	key := write("key", p.Operator(p.ctx, "", "audit", "key").Stdout)
	text, err := os.ReadFile(file("receipt"))
	p.ok(err)
	good, err := ledger.ParseReceipt(text)
	p.ok(err)
	changed := func(name string, edit func(*ledger.Receipt)) string {
		r := good
		edit(&r)
		b, err := json.Marshal(r)
		p.ok(err)
		return write(name, string(b))
	}
	_, other, err := ledger.GenerateSigner("example.com/other")
	p.ok(err)
	var asked ledger.Receipt // a genuine one, of another event
	checkpoint := p.Operator(p.ctx, "", "audit", "checkpoint").Stdout
	p.ok(p.database().View(p.ctx, func(tx approvals.Tx) error {
		lines, err := tx.History(a.id, -1)
		p.ok(err)
		e, err := approvals.ParseEvent(lines[0])
		p.ok(err)
		asked, err = ledger.NewReceipt(tx.Ledger(), e.Seq, lines[0], []byte(checkpoint), strings.TrimSpace(read(t, key)))
		return err
	}))
	p.Stop()
	s := stage.Stage{} // knows no variable

	for _, tt := range []struct {
		name, stdin string
		args        []string
		code        int
		says        string
	}{
		{"kept", "", []string{file("receipt"), "--key", key}, 0, "approves request " + a.id + " (myapp, environment default), commit " + stage.Revision},
		{"from the job's log", "Receipt: " + line + "\n", []string{"-", "--key", strings.TrimSpace(read(t, key))}, 0, ", by " + stage.Ana + "; signed with the root "},
		{"JSON", "", []string{file("receipt"), "--key", key, "-o", "json"}, 0, `"commit": "` + stage.Revision + `"`},
		{"leaf changed", "", []string{changed("leaf", func(r *ledger.Receipt) { r.Leaf = strings.Replace(r.Leaf, stage.Ana, stage.Bea, 1) }), "--key", key}, 1, ""},
		{"number changed", "", []string{changed("number", func(r *ledger.Receipt) { r.Seq++ }), "--key", key}, 1, ""},
		{"proof cut", "", []string{changed("proof", func(r *ledger.Receipt) { r.Proof = r.Proof[1:] }), "--key", key, "-o", "json"}, 1, ""},
		{"checkpoint changed", "", []string{changed("checkpoint", func(r *ledger.Receipt) { r.Checkpoint = strings.Replace(r.Checkpoint, "\n", "x\n", 1) }), "--key", key}, 1, ""},
		{"another log's key", "", []string{file("receipt"), "--key", other}, 1, ""},
		{"no approval", "", []string{changed("asked", func(r *ledger.Receipt) { *r = asked }), "--key", key}, 1, "is no approval: its type is request.created"},
		{"no receipt", "", []string{key, "--key", key}, 2, "this is no receipt: give the file"},
		{"no file", "", []string{file("missing"), "--key", key}, 2, "no such file"},
		{"no key", "", []string{file("receipt"), "--key", "nonsense"}, 2, "neither a verifier key"},
		{"key is required", "", []string{file("receipt")}, 2, "--key is required"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := s.Operator(t.Context(), tt.stdin, append([]string{"audit", "verify-receipt"}, tt.args...)...)
			if r.Code != tt.code || !strings.Contains(r.Stdout+r.Stderr, tt.says) {
				t.Errorf("got %+v; want exit %d and %q", r, tt.code, tt.says)
			}
		})
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
