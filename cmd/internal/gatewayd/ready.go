package gatewayd

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
)

// probeEvery bounds how often /readyz, which anybody may ask, writes.
const probeEvery = 2 * time.Second

// Parts that /readyz shows as the store's.
const (
	partIntegrity = "integrity" // the finding of the daily check
	partAnchor    = "anchor"    // how the last writing of RGW_ANCHOR_FILE went
)

// health keeps the newest result of each check that runs in the background.
type health struct {
	mu     sync.Mutex
	faults map[string]error

	probing sync.Mutex
	probed  time.Time
	written error // under mu too
}

// set keeps a result and reports whether it changed between good and bad.
func (h *health) set(part string, err error) (turned bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.faults == nil {
		h.faults = map[string]error{}
	}
	turned = (h.faults[part] == nil) != (err == nil)
	h.faults[part] = err
	return turned
}

func (h *health) fault(part string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.faults[part]
}

// canWrite probes the store, at most once in probeEvery.
func (h *health) canWrite(ctx context.Context, probe func(context.Context) error) error {
	h.probing.Lock()
	defer h.probing.Unlock()
	if h.probed.IsZero() || time.Since(h.probed) > probeEvery {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err := probe(ctx)
		h.mu.Lock()
		h.written, h.probed = err, time.Now()
		h.mu.Unlock()
	}
	return h.written
}

// lastWrite is the result of the last probe, without waiting for one.
func (h *health) lastWrite() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.written
}

func unwritable(err error) string { return "the database cannot be written: " + err.Error() }

// partProxy is shown only where a proxy is in front that nobody named.
const (
	partProxy    = "proxy"
	unnamedProxy = "a proxy is in front, but RGW_TRUSTED_PROXIES does not name it, so all callers behind it share one limit"
	nameProxy    = "set RGW_TRUSTED_PROXIES to its address or network and restart"
)

// ready answers /readyz.
func (d *daemon) ready(ctx context.Context) webhook.Readiness { return d.board(ctx).readiness() }

// board is the status of the daemon as it is known now.
func (d *daemon) board(ctx context.Context) (b board) {
	d.storePart(ctx, &b)
	_, slack := d.bot.Health()
	if err := d.health.fault("slack"); err != nil {
		slack = err.Error()
	}
	b.known("slack", stateFault, slack)
	circle := ""
	if err := d.health.fault("circleci"); err != nil {
		circle = err.Error()
	}
	b.known("circleci", stateFault, circle)
	clock := stateWarn
	if d.clock.fault() != "" {
		clock = stateFault
	}
	_, skew := d.clock.state()
	if why := apart(d.db.Skew(), skewWarn); skew == "" && why != "" {
		skew = why
		if apart(d.db.Skew(), skewHold) != "" {
			clock = stateFault
		}
	}
	b.known("clock", clock, skew)
	if d.api.UnnamedProxy() {
		b.warn(partProxy, unnamedProxy, nameProxy)
	}
	role := ""
	if err := d.held(); err != nil {
		role = "this process lost its lock and decides nothing: " + err.Error()
	}
	b.known("role", stateFault, role)
	if c := d.company.Load(); c != nil {
		b.known("nodes", stateWarn, c.differs)
		if c.differs == "" {
			b[len(b)-1].Text = c.names
		}
	}
	return b
}

// known adds a part of which only what is wrong is kept; "" = nothing.
func (b *board) known(name string, s state, wrong string) {
	if wrong == "" {
		s = stateOK
	}
	*b = append(*b, part{Name: name, State: s, Text: wrong})
}

// storePart says whether anything can be recorded and signed.
func (d *daemon) storePart(ctx context.Context, b *board) {
	wrong := d.broken
	if fault := d.service.Fault(); fault != "" {
		wrong = fault
	}
	if err := d.health.fault(partIntegrity); err != nil {
		wrong = err.Error()
	}
	if err := cmp.Or(d.sound(), d.health.canWrite(ctx, d.canWrite)); err != nil {
		wrong = unwritable(err)
	}
	anchor := d.health.fault(partAnchor)
	switch {
	case wrong != "":
		b.fault("store", wrong, "")
	case d.service.Verifying():
		b.warn("store", "the log is being verified after the start; approvals wait until that is done", "")
	case anchor != nil:
		b.warn("store", anchor.Error(), "")
	default:
		b.ok("store", "")
	}
}
