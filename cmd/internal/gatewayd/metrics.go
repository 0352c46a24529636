package gatewayd

import (
	"bytes"
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot"
	"github.com/rack-gateway/rack-gateway-approvals/store"
)

// metrics counts what the daemon does. No label ever holds what somebody typed.
type metrics struct {
	api, circleci, slack, clicks, deliveries, connected, anchors *family

	scraping sync.Mutex
	store    *storeMetrics // nil until the service works
}

func newMetrics() *metrics {
	quick := []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	return &metrics{
		api:        newFamily("rgw_http_seconds", histogram, "Duration of API calls.", quick, "route", "status"),
		circleci:   newFamily("rgw_circleci_call_seconds", histogram, "Duration of calls to CircleCI; status 0 = no answer.", quick, "op", "status"),
		slack:      newFamily("rgw_slack_calls_total", counter, "Calls to Slack by method and result.", nil, "method", "result"),
		clicks:     newFamily("rgw_slack_event_seconds", histogram, "Duration of clicks, submissions, commands and events until they were answered.", quick, "kind"),
		deliveries: newFamily("rgw_delivery_seconds", histogram, "Duration of one attempt at a piece of work, such as posting a card.", quick, "kind", "result"),
		connected:  newFamily("rgw_slack_socket_connected", gauge, "1 while a Socket Mode connection stands.", nil),
		anchors:    newFamily("rgw_anchor_writes_total", counter, "Signed checkpoints written to RGW_ANCHOR_FILE.", nil),
	}
}

// scrapeTime is how long a scrape may read the store.
const scrapeTime = 10 * time.Second

// ServeHTTP answers a scrape. Without what the store knows it fails as a whole: an
// alert must not rest on what was true some time ago.
func (m *metrics) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), scrapeTime)
	defer cancel()
	m.scraping.Lock()
	defer m.scraping.Unlock()
	if err := m.store.read(ctx); err != nil {
		http.Error(w, "the metrics cannot be read: "+err.Error(), http.StatusInternalServerError)
		return
	}
	all := slices.Concat([]*family{m.api, m.circleci, m.slack, m.clicks, m.deliveries, m.connected, m.anchors}, m.store.families(), ofRuntime())
	slices.SortFunc(all, func(a, b *family) int { return strings.Compare(a.name, b.name) })
	var text bytes.Buffer
	for _, f := range all {
		f.write(&text)
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	w.Write(text.Bytes())
}

func (m *metrics) called(op string, status int, took time.Duration) {
	m.circleci.observe(took.Seconds(), op, strconv.Itoa(status))
}

func (m *metrics) served(route string, status int, took time.Duration) {
	m.api.observe(took.Seconds(), route, strconv.Itoa(status))
}

func (m *metrics) delivered(w approvals.Work, out approvals.Outcome, took time.Duration) {
	result := "done"
	switch {
	case out.Failed:
		result = "failed"
	case !out.Due.IsZero():
		result = "again"
	case out.Err != nil:
		result = "dead"
	}
	m.deliveries.observe(took.Seconds(), string(w.Kind), result)
}

func (m *metrics) bot() bot.Metrics {
	return bot.Metrics{
		Call:      func(method, result string) { m.slack.add(1, method, result) },
		Event:     func(kind string, took time.Duration) { m.clicks.observe(took.Seconds(), kind) },
		Connected: func(yes bool) { m.connected.set(bit(yes)) },
	}
}

// bit is 1 for yes and 0 for no.
func bit(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// deciding is 1 while decisions are taken, whatever forbids them.
func (d *daemon) deciding() float64 { return bit(d.service.Held() == "") }

// storeMetrics are read at each scrape: what is in the store, and what its log says
// happened since the start.
type storeMetrics struct {
	db       *store.DB
	node     string         // "" with SQLite
	count    func() int     // of nodes
	deciding func() float64 // see [daemon.deciding]
	next     int64          // first event not counted yet

	requests, depth, age, size, nodes, decides, events, decision *family
}

// alarming are the events that raise an alarm. They are counted from 0 on, because
// Prometheus cannot tell that a counter has grown which appears with its first event.
var alarming = []approvals.EventType{
	approvals.EventBypassed, approvals.EventGateBypassed, approvals.EventBreakGlass, approvals.EventCodeLocked, approvals.EventVerifyRefused,
	approvals.EventUndeliverable,
}

// newStoreMetrics counts what is in the log from the event with the number from on.
func newStoreMetrics(db *store.DB, from int64, node string, nodes func() int, deciding func() float64) *storeMetrics {
	m := &storeMetrics{
		db: db, next: from, node: node, count: nodes, deciding: deciding,
		requests: newFamily("rgw_requests", gauge, "Requests by status.", nil, "status"),
		depth:    newFamily("rgw_work_depth", gauge, "Pieces of work in the queue, including those that are not due yet.", nil, "family"),
		age:      newFamily("rgw_work_oldest_due_seconds", gauge, "For how long the oldest due work has been due.", nil, "family"),
		size:     newFamily("rgw_log_events", gauge, "Events in the log.", nil),
		nodes:    newFamily("rgw_nodes", gauge, "Nodes at work on the database, counted by the node in the label.", nil, "node"),
		decides:  newFamily("rgw_deciding", gauge, "1 while this process takes decisions; its log says why it does not.", nil),
		events:   newFamily("rgw_events_total", counter, "Events of the log since the start, such as code.failed or decision.approved.", nil, "type"),
		decision: newFamily("rgw_decision_seconds", histogram, "Time from a request to its decision.", []float64{5, 10, 30, 60, 300, 900, 3600, 4 * 3600, 24 * 3600}),
	}
	for _, t := range alarming {
		m.events.add(0, string(t))
	}
	return m
}

func (m *storeMetrics) families() []*family {
	return []*family{m.requests, m.depth, m.age, m.size, m.nodes, m.decides, m.events, m.decision}
}

// read takes in what changed since the scrape before.
func (m *storeMetrics) read(ctx context.Context) error {
	counts, err := m.db.RequestCounts(ctx)
	if err != nil {
		return err
	}
	for _, status := range approvals.Statuses() {
		m.requests.set(float64(counts[status]), string(status))
	}
	stats, err := m.db.WorkStats(ctx)
	if err != nil {
		return err
	}
	m.depth.reset()
	m.age.reset()
	for family, s := range stats {
		age := 0.0
		if !s.OldestDue.IsZero() {
			age = max(0, time.Since(s.OldestDue).Seconds())
		}
		m.depth.set(float64(s.Depth), family)
		m.age.set(age, family)
	}
	if m.node != "" {
		m.nodes.set(float64(m.count()), m.node)
	}
	if err := m.readLog(ctx); err != nil {
		return err
	}
	m.size.set(float64(m.next))
	m.decides.set(m.deciding())
	return nil
}

// readLog counts what came since the scrape before.
func (m *storeMetrics) readLog(ctx context.Context) error {
	return m.db.View(ctx, func(tx approvals.Tx) error {
		for line, err := range tx.Leaves(m.next) {
			if err != nil {
				return err
			}
			e, err := approvals.ParseEvent(line)
			if err != nil {
				return err
			}
			m.next++
			m.events.add(1, string(e.Type))
			if !e.Type.Approves() && e.Type != approvals.EventRejected {
				continue
			}
			r, err := tx.Request(e.Request)
			if err != nil {
				return err
			}
			m.decision.observe(max(0, e.At().Sub(r.CreatedAt).Seconds())) // the clock may have been set back
		}
		return nil
	})
}
