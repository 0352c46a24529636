package gatewayd

import (
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

// health keeps the last word on what is asked in the background.
type health struct {
	mu     sync.Mutex
	faults map[string]error

	probing sync.Mutex
	probed  time.Time
	written error // under mu too
}

// set keeps a word and reports whether it changed between good and bad.
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

// ready answers /readyz: unavailable only when nothing can be recorded or
// decided; what is wrong elsewhere degrades.
func (d *daemon) ready(ctx context.Context) webhook.Readiness {
	r := webhook.Readiness{Status: webhook.StatusOK, Parts: map[string]webhook.Part{}}
	part := func(name, status, detail string) {
		if detail == "" {
			status = webhook.StatusOK
		}
		r.Parts[name] = webhook.Part{Status: status, Detail: detail}
		if status == webhook.StatusUnavailable || status == webhook.StatusDegraded && r.Status == webhook.StatusOK {
			r.Status = status
		}
	}
	storeFault := d.broken
	if fault := d.service.Fault(); fault != "" {
		storeFault = fault
	}
	if err := d.health.fault(partIntegrity); err != nil {
		storeFault = err.Error()
	}
	if err := d.health.canWrite(ctx, d.db.CanWrite); err != nil {
		storeFault = unwritable(err)
	}
	storeStatus := webhook.StatusUnavailable
	if storeFault == "" && d.service.Verifying() {
		storeStatus, storeFault = webhook.StatusDegraded, "the log is being verified after the start; approvals wait until that is done"
	}
	if err := d.health.fault(partAnchor); err != nil && storeFault == "" {
		storeStatus, storeFault = webhook.StatusDegraded, err.Error()
	}
	part("store", storeStatus, storeFault)

	_, slack := d.bot.Health()
	if err := d.health.fault("slack"); err != nil {
		slack = err.Error()
	}
	part("slack", webhook.StatusDegraded, slack)

	circle := ""
	if err := d.health.fault("circleci"); err != nil {
		circle = err.Error()
	}
	part("circleci", webhook.StatusDegraded, circle)

	clockStatus := webhook.StatusDegraded
	if d.clock.fault() != "" {
		clockStatus = webhook.StatusUnavailable
	}
	_, skew := d.clock.state()
	part("clock", clockStatus, skew)

	if d.api.UnnamedProxy() {
		part("proxy", webhook.StatusDegraded, "a proxy is in front, but RGW_TRUSTED_PROXIES does not name it: all callers behind it share one limit")
	}

	role := ""
	if err := d.held(); err != nil {
		role = "this process lost its lock and decides nothing: " + err.Error()
	}
	part("role", webhook.StatusUnavailable, role)
	if c := d.company.Load(); c != nil {
		part("nodes", webhook.StatusDegraded, c.differs)
		if c.differs == "" {
			r.Parts["nodes"] = webhook.Part{Status: webhook.StatusOK, Detail: c.names}
		}
	}
	return r
}
