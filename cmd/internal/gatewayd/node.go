package gatewayd

import (
	"context"
	"errors"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli"
	"github.com/rack-gateway/rack-gateway-approvals/store"
)

// beatEvery is how often a node tells the others that it lives.
const beatEvery = time.Second

// node describes this process to the others on the same database.
func (d *daemon) node() store.Node {
	return store.Node{Name: d.name, Version: cli.Version(), Settings: d.cfg.settings.Hash()}
}

// nodeName is the name of this machine or container. Two nodes on one machine are
// told apart by HOSTNAME, which containers set to the same name.
func nodeName(env []string) string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	for _, kv := range env {
		if name, ok := strings.CutPrefix(kv, "HOSTNAME="); ok && name != "" {
			host = name
		}
	}
	return host
}

// live tells the other nodes every second that this one lives, takes over what dead
// ones had claimed, and looks which others there are. When the database does not
// answer, storeWatch reports it. A process that was declared dead goes on, unless the
// operator recovered the log meanwhile: then fail ends it.
func (d *daemon) live(ctx context.Context, fail context.CancelCauseFunc) {
	for {
		_ = d.db.Beat(ctx)
		d.wentBack(ctx, d.sound())
		if now := d.db.ID(); now != d.joined {
			signer, err := approvals.OpenLog(ctx, d.db)
			switch {
			case err == nil && signer.VerifierKey() != d.signer.VerifierKey():
				fail(approvals.ErrRecovered)
			case err == nil:
				d.joined = now
			}
		}
		if !approvals.Pause(ctx, d.look(ctx)) {
			return
		}
	}
}

// look finds out who the other nodes are, and says when the next beat is due: no later
// than when one that is silent can be declared dead.
func (d *daemon) look(ctx context.Context) time.Duration {
	next := beatEvery
	if nodes, err := d.db.Nodes(ctx); err == nil {
		d.meet(nodes)
		for _, n := range nodes {
			next = min(next, n.Left+10*time.Millisecond)
		}
	}
	return next
}

// heldTransport makes no call for work that another node may do by now, because this process
// stood still. Without it a message would be posted by both.
type heldTransport struct {
	next  http.RoundTripper
	holds func(claim string) error
}

// RoundTrip implements http.RoundTripper.
func (t heldTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if claim := approvals.ClaimOf(r.Context()); claim != "" {
		if err := t.holds(claim); err != nil {
			return nil, err
		}
	}
	return t.next.RoundTrip(r)
}

// canWrite tries whether the database can be written. A database that lost commits
// stops decisions, also after a restart.
func (d *daemon) canWrite(ctx context.Context) error {
	err := d.db.CanWrite(ctx)
	d.wentBack(ctx, err)
	return err
}

// wentBack stops decisions when err says that the database lost commits that it had
// confirmed.
func (d *daemon) wentBack(ctx context.Context, err error) {
	if errors.Is(err, store.ErrWentBack) {
		d.service.WentBack(ctx, err)
	}
}

// meet takes in which nodes work on the database.
func (d *daemon) meet(nodes []store.Node) {
	var names, others []string
	for _, n := range nodes {
		name := n.Name
		if n.Self {
			name += " (this one)"
		} else if n.Settings != d.cfg.settings.Hash() {
			others = append(others, n.Name+" ("+n.Version+")")
		}
		names = append(names, name)
	}
	now := company{size: len(nodes), names: strings.Join(names, ", ")}
	if len(others) > 0 {
		now.differs = "nothing is decided while nodes have different settings: those of " + strings.Join(others, ", ") + " differ from this one's"
	}
	before := d.company.Swap(&now)
	if before == nil {
		before = &company{}
	}
	if now.names != before.names {
		d.log.Info("nodes on this database", "nodes", now.names)
	}
	if now.differs != before.differs && now.differs != "" {
		d.log.Error(now.differs)
	}
}

// company is the nodes that work on the database.
type company struct {
	size    int
	names   string
	differs string // why nothing may be decided, "" = their settings agree
}

// nodes is how many nodes work on the database, this one always included.
func (d *daemon) nodes() int {
	if c := d.company.Load(); c != nil {
		return max(1, c.size)
	}
	return 1
}

// differs says why nothing may be decided, because the settings of the nodes differ.
func (d *daemon) differs() string {
	if c := d.company.Load(); c != nil {
		return c.differs
	}
	return ""
}
