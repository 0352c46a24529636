package gatewayd

import (
	"bytes"
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	prometheus "github.com/VictoriaMetrics/metrics"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot"
	"github.com/rack-gateway/rack-gateway-approvals/store"
)

// metrics counts what the daemon does, for Prometheus. No label ever holds what
// somebody typed. What each metric means is said in the README of rack-gatewayd.
type metrics struct {
	counted   *prometheus.Set
	connected *prometheus.Gauge
	anchors   *prometheus.Counter

	scraping sync.Mutex
	store    *storeMetrics // nil until the service works
}

func newMetrics() *metrics {
	prometheus.ExposeMetadata(true) // the types of metrics
	counted := prometheus.NewSet()
	return &metrics{
		counted:   counted,
		connected: counted.NewGauge("rgw_slack_socket_connected", nil),
		anchors:   counted.NewCounter("rgw_anchor_writes_total"),
	}
}

// series is a metric with its labels, given as name, value, name, value and so on.
func series(metric string, labels ...string) string {
	var pairs []string
	for i := 0; i < len(labels); i += 2 {
		pairs = append(pairs, labels[i]+`="`+strings.Map(plainly, labels[i+1])+`"`)
	}
	return metric + "{" + strings.Join(pairs, ",") + "}"
}

// plainly keeps a character that needs no escape in a label. Another service may name
// its errors as it likes.
func plainly(r rune) rune {
	if r < ' ' || r > '~' || r == '"' || r == '\\' {
		return '_'
	}
	return r
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
	now, err := m.store.read(ctx)
	if err != nil {
		http.Error(w, "the metrics cannot be read: "+err.Error(), http.StatusInternalServerError)
		return
	}
	var text bytes.Buffer
	for _, set := range []*prometheus.Set{m.counted, m.store.counted, now} {
		set.WritePrometheus(&text)
	}
	prometheus.WriteProcessMetrics(&text)
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	w.Write(text.Bytes())
}

// took adds a duration to a histogram.
func (m *metrics) took(d time.Duration, metric string, labels ...string) {
	quick := []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	m.counted.GetOrCreatePrometheusHistogramExt(series(metric, labels...), quick).Update(d.Seconds())
}

func (m *metrics) called(op string, status int, took time.Duration) {
	m.took(took, "rgw_circleci_call_seconds", "op", op, "status", strconv.Itoa(status))
}

func (m *metrics) served(route string, status int, took time.Duration) {
	m.took(took, "rgw_http_seconds", "route", route, "status", strconv.Itoa(status))
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
	m.took(took, "rgw_delivery_seconds", "kind", string(w.Kind), "result", result)
}

func (m *metrics) bot() bot.Metrics {
	return bot.Metrics{
		Call: func(method, result string) {
			m.counted.GetOrCreateCounter(series("rgw_slack_calls_total", "method", method, "result", result)).Inc()
		},
		Event:     func(kind string, took time.Duration) { m.took(took, "rgw_slack_event_seconds", "kind", kind) },
		Connected: func(yes bool) { m.connected.Set(bit(yes)) },
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

	counted  *prometheus.Set
	decision *prometheus.PrometheusHistogram
}

// alarming are the events that raise an alarm. They are counted from 0 on, because
// Prometheus cannot tell that a counter has grown which appears with its first event.
var alarming = []approvals.EventType{
	approvals.EventBypassed, approvals.EventGateBypassed, approvals.EventBreakGlass, approvals.EventCodeLocked, approvals.EventVerifyRefused,
	approvals.EventUndeliverable,
}

// newStoreMetrics counts what is in the log from the event with the number from on.
func newStoreMetrics(db *store.DB, from int64, node string, nodes func() int, deciding func() float64) *storeMetrics {
	counted := prometheus.NewSet()
	m := &storeMetrics{
		db: db, next: from, node: node, count: nodes, deciding: deciding, counted: counted,
		decision: counted.NewPrometheusHistogramExt("rgw_decision_seconds", []float64{5, 10, 30, 60, 300, 900, 3600, 4 * 3600, 24 * 3600}),
	}
	for _, t := range alarming {
		m.events(t)
	}
	return m
}

func (m *storeMetrics) events(t approvals.EventType) *prometheus.Counter {
	return m.counted.GetOrCreateCounter(series("rgw_events_total", "type", string(t)))
}

// read counts what happened since the scrape before, and returns what is so now.
func (m *storeMetrics) read(ctx context.Context) (*prometheus.Set, error) {
	now := prometheus.NewSet()
	gauge := func(name string, v float64) { now.NewGauge(name, nil).Set(v) }
	counts, err := m.db.RequestCounts(ctx)
	if err != nil {
		return nil, err
	}
	for _, status := range approvals.Statuses() {
		gauge(series("rgw_requests", "status", string(status)), float64(counts[status]))
	}
	stats, err := m.db.WorkStats(ctx)
	if err != nil {
		return nil, err
	}
	for family, s := range stats {
		age := 0.0
		if !s.OldestDue.IsZero() {
			age = max(0, time.Since(s.OldestDue).Seconds())
		}
		gauge(series("rgw_work_depth", "family", family), float64(s.Depth))
		gauge(series("rgw_work_oldest_due_seconds", "family", family), age)
	}
	if m.node != "" {
		gauge(series("rgw_nodes", "node", m.node), float64(m.count()))
	}
	if err := m.readLog(ctx); err != nil {
		return nil, err
	}
	gauge("rgw_log_events", float64(m.next))
	gauge("rgw_deciding", m.deciding())
	return now, nil
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
			m.events(e.Type).Inc()
			if !e.Type.Approves() && e.Type != approvals.EventRejected {
				continue
			}
			r, err := tx.Request(e.Request)
			if err != nil {
				return err
			}
			m.decision.Update(max(0, e.At().Sub(r.CreatedAt).Seconds())) // the clock may have been set back
		}
		return nil
	})
}
