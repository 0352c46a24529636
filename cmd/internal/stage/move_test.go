package stage_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

// A gateway moves to PostgreSQL, where two nodes and the operator work as a role that
// may only do what serve needs, and back to a file: whatever was open goes on, codes
// are taken at each place, and the log goes on byte for byte.
func TestMoveToARestrictedRole(t *testing.T) {
	server := storetest.Server(t)
	p := setup(t, stage.Options{HTTP: true, Env: []string{"RGW_SETTING_SUPERSEDE=off"}})
	role, restricted := storetest.Role(t, server)
	open := p.askOnHold()
	p.stopped()
	file := p.export()

	from := p.Variable("RGW_DATABASE_URL")
	p.SetEnv("RGW_DATABASE_URL=" + server)
	p.operator("copy", "--from", from)
	p.operator("migrate", "--grant", role)
	log, err := os.Create(filepath.Join(p.Dir, "nodes.log"))
	p.ok(err)
	defer log.Close()
	nodes, err := p.NewNodes(2, restricted, log)
	p.ok(err)
	defer nodes.Close()
	for i := range 2 {
		p.ok(nodes.Start(p.ctx, i))
	}
	p.approve(stage.Ana, open, "approve")
	p.deployed(open)
	for i := range 2 {
		nodes.Prefer(1 - i)
		a := p.askOnHold()
		nodes.Prefer(i)
		p.approve([]string{stage.Ana, stage.Bea}[i], a, "approve")
		p.deployed(a)
	}
	last := p.askOnHold()
	p.operator("token", "create", "--name", "another", "--role", "auditor", "--all-apps")
	p.operator("user", "unlock", "--slack-id", stage.Bea)
	p.operator("rebuild", "--check")
	p.operator("backup", filepath.Join(p.Dir, "backup.db"))
	for i := range 2 {
		p.ok(nodes.Stop(i))
	}
	nodes.Close()
	there := p.export()

	p.SetEnv("RGW_DATABASE_URL=sqlite:" + filepath.Join(p.Dir, "back.db"))
	p.operator("copy", "--from", restricted)
	back := p.export()
	// Each export is an event of the next one.
	if !strings.HasPrefix(there, file) || !strings.HasPrefix(back, there) || len(there) == len(file) {
		t.Errorf("the log of the file was %d bytes, on the server %d, and is %d; want each to go on after the one before", len(file), len(there), len(back))
	}
	p.start()
	p.approve(stage.Bea, last, "approve")
	p.deployed(last)
}

func (p *play) stopped() {
	p.t.Helper()
	if code := p.Stop(); code != 0 {
		p.t.Fatalf("stop: got exit %d; want 0", code)
	}
}

// export is the whole log.
func (p *play) export() string {
	p.t.Helper()
	r := p.Operator(p.ctx, "", "audit", "export")
	if r.Code != 0 || r.Stdout == "" {
		p.t.Fatalf("audit export: got exit %d, %s; want the log", r.Code, r.Stderr)
	}
	return r.Stdout
}

// deployed follows an approved request to the end of its deploy.
func (p *play) deployed(a asked) {
	p.t.Helper()
	p.becomes(a, approvals.Released)
	p.ok(p.Circle.Succeed(a.workflow, "deploy"))
	p.becomes(a, approvals.Deployed)
	if tries := p.Circle.Approvals(a.workflow); len(tries) != 1 || !tries[0].Took {
		p.t.Errorf("got approvals %+v; want exactly one", tries)
	}
}
