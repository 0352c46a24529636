package gatewayd

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot"
	"github.com/rack-gateway/rack-gateway-approvals/store"
)

// metrics counts what the daemon does. No label ever holds what somebody typed.
type metrics struct {
	registry   *prometheus.Registry
	api        *prometheus.HistogramVec
	circleci   *prometheus.HistogramVec
	slack      *prometheus.CounterVec
	clicks     *prometheus.HistogramVec
	deliveries *prometheus.HistogramVec
	connected  prometheus.Gauge
	anchors    prometheus.Counter
}

func newMetrics() *metrics {
	quick := []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	histogram := func(name, help string, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: quick}, labels)
	}
	m := &metrics{
		registry:   prometheus.NewRegistry(),
		api:        histogram("rgw_http_seconds", "Duration of API calls.", "route", "status"),
		circleci:   histogram("rgw_circleci_call_seconds", "Duration of calls to CircleCI; status 0 = no answer.", "op", "status"),
		slack:      prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rgw_slack_calls_total", Help: "Calls to Slack by method and result."}, []string{"method", "result"}),
		clicks:     histogram("rgw_slack_event_seconds", "Duration of clicks, submissions, commands and events until they were answered.", "kind"),
		deliveries: histogram("rgw_delivery_seconds", "Duration of one attempt at a piece of work, such as posting a card.", "kind", "result"),
		connected:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "rgw_slack_socket_connected", Help: "1 while a Socket Mode connection stands."}),
		anchors:    prometheus.NewCounter(prometheus.CounterOpts{Name: "rgw_anchor_writes_total", Help: "Signed checkpoints written to RGW_ANCHOR_FILE."}),
	}
	m.registry.MustRegister(m.api, m.circleci, m.slack, m.clicks, m.deliveries, m.connected, m.anchors,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) called(op string, status int, took time.Duration) {
	m.circleci.WithLabelValues(op, strconv.Itoa(status)).Observe(took.Seconds())
}

func (m *metrics) served(route string, status int, took time.Duration) {
	m.api.WithLabelValues(route, strconv.Itoa(status)).Observe(took.Seconds())
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
	m.deliveries.WithLabelValues(string(w.Kind), result).Observe(took.Seconds())
}

func (m *metrics) bot() bot.Metrics {
	return bot.Metrics{
		Call:  func(method, result string) { m.slack.WithLabelValues(method, result).Inc() },
		Event: func(kind string, took time.Duration) { m.clicks.WithLabelValues(kind).Observe(took.Seconds()) },
		Connected: func(yes bool) {
			m.connected.Set(map[bool]float64{true: 1}[yes])
		},
	}
}

// deciding shows whether decisions are taken, whatever forbids them.
func (d *daemon) deciding() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "rgw_deciding", Help: "1 while this process takes decisions; its log says why it does not."}, func() float64 {
		return map[bool]float64{true: 1}[d.service.Held() == ""]
	})
}

// storeCollector reads the store at each scrape: what is in it, and what its log
// says happened since the start.
type storeCollector struct {
	db    *store.DB
	node  string     // "" with SQLite
	count func() int // of nodes

	requests, depth, age, size, nodes *prometheus.Desc

	mu       sync.Mutex
	next     int64 // first event not counted yet
	events   *prometheus.CounterVec
	decision prometheus.Histogram
}

// alarming are the events that raise an alarm. They are counted from 0 on, because
// Prometheus cannot tell that a counter has grown which appears with its first event.
var alarming = []approvals.EventType{
	approvals.EventBypassed, approvals.EventGateBypassed, approvals.EventBreakGlass, approvals.EventCodeLocked, approvals.EventVerifyRefused,
	approvals.EventUndeliverable,
}

// newStoreCollector counts what is in the log from the event with the number from on.
func newStoreCollector(db *store.DB, from int64, node string, nodes func() int) *storeCollector {
	c := &storeCollector{
		db:       db,
		node:     node,
		count:    nodes,
		next:     from,
		requests: prometheus.NewDesc("rgw_requests", "Requests by status.", []string{"status"}, nil),
		depth:    prometheus.NewDesc("rgw_work_depth", "Pieces of work in the queue, including those that are not due yet.", []string{"family"}, nil),
		age:      prometheus.NewDesc("rgw_work_oldest_due_seconds", "For how long the oldest due work has been due.", []string{"family"}, nil),
		size:     prometheus.NewDesc("rgw_log_events", "Events in the log.", nil, nil),
		nodes:    prometheus.NewDesc("rgw_nodes", "Nodes at work on the database, counted by the node in the label.", []string{"node"}, nil),
		events:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rgw_events_total", Help: "Events of the log since the start, such as code.failed or decision.approved."}, []string{"type"}),
		decision: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "rgw_decision_seconds", Help: "Time from a request to its decision.",
			Buckets: []float64{5, 10, 30, 60, 300, 900, 3600, 4 * 3600, 24 * 3600},
		}),
	}
	for _, t := range alarming {
		c.events.WithLabelValues(string(t))
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *storeCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c *storeCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	counts, err := c.db.RequestCounts(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(c.requests, err)
	}
	for _, status := range approvals.Statuses() {
		ch <- prometheus.MustNewConstMetric(c.requests, prometheus.GaugeValue, float64(counts[status]), string(status))
	}
	stats, err := c.db.WorkStats(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(c.depth, err)
	}
	for family, s := range stats {
		ch <- prometheus.MustNewConstMetric(c.depth, prometheus.GaugeValue, float64(s.Depth), family)
		age := 0.0
		if !s.OldestDue.IsZero() {
			age = max(0, time.Since(s.OldestDue).Seconds())
		}
		ch <- prometheus.MustNewConstMetric(c.age, prometheus.GaugeValue, age, family)
	}
	if c.node != "" {
		ch <- prometheus.MustNewConstMetric(c.nodes, prometheus.GaugeValue, float64(c.count()), c.node)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.readLog(ctx); err != nil {
		ch <- prometheus.NewInvalidMetric(c.size, err)
		return
	}
	ch <- prometheus.MustNewConstMetric(c.size, prometheus.GaugeValue, float64(c.next))
	c.events.Collect(ch)
	c.decision.Collect(ch)
}

// readLog counts what came since the scrape before.
func (c *storeCollector) readLog(ctx context.Context) error {
	return c.db.View(ctx, func(tx approvals.Tx) error {
		for line, err := range tx.Leaves(c.next) {
			if err != nil {
				return err
			}
			e, err := approvals.ParseEvent(line)
			if err != nil {
				return err
			}
			c.next++
			c.events.WithLabelValues(string(e.Type)).Inc()
			if !e.Type.Approves() && e.Type != approvals.EventRejected {
				continue
			}
			r, err := tx.Request(e.Request)
			if err != nil {
				return err
			}
			c.decision.Observe(max(0, e.At().Sub(r.CreatedAt).Seconds())) // the clock may have been set back
		}
		return nil
	})
}
