package gatewayd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/enroll"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
)

// doors are the listeners of the daemon. They stand before the database is open,
// so that whoever started it sees that it lives and for what it waits.
type doors struct {
	listener, scraped net.Listener // scraped may be nil
	server            *http.Server
	calls             *calls
	front, back       entrance // of listener and scraped
}

// openDoors listens and answers what can be answered without a database. What ends
// a server later is passed to fail.
func (d *daemon) openDoors(fail context.CancelCauseFunc) (*doors, error) {
	o := &doors{}
	var err error
	if o.listener, err = net.Listen("tcp", d.cfg.Listen); err != nil {
		return nil, fmt.Errorf("listen on RGW_LISTEN: %w", err)
	}
	if d.cfg.MetricsListen != "" {
		if o.scraped, err = net.Listen("tcp", d.cfg.MetricsListen); err != nil {
			o.listener.Close()
			return nil, fmt.Errorf("listen on RGW_METRICS_LISTEN: %w", err)
		}
	}
	o.front.let(webhook.Waiting(d.waiting, false))
	o.back.let(webhook.Waiting(d.waiting, true))
	o.calls = newCalls(&o.front)
	o.server = webhook.NewServer(o.calls, d.log)
	o.server.BaseContext = o.calls.base
	serve := func(server *http.Server, l net.Listener) {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			fail(fmt.Errorf("serve: %w", err))
		}
	}
	go serve(o.server, webhook.LimitConnections(o.server, o.listener, d.cfg.proxies))
	if o.scraped != nil {
		// Whatever keeps the first one busy, health is answered here.
		server := webhook.NewServer(&o.back, d.log)
		o.server.RegisterOnShutdown(func() { server.Close() })
		go serve(server, webhook.LimitConnections(server, o.scraped, nil))
	}
	return o, nil
}

// waiting says for what the daemon waits before it can work.
func (d *daemon) waiting() webhook.Readiness {
	part := webhook.Part{Status: webhook.StatusWaiting, Detail: "starting"}
	if why := d.waitsFor.Load(); why != nil {
		part = *why
	}
	return webhook.Readiness{Status: webhook.StatusUnavailable, Parts: map[string]webhook.Part{"role": part}}
}

// admit has the doors lead to the whole service.
func (o *doors) admit(d *daemon) {
	o.server.RegisterOnShutdown(d.api.EndWaits)
	d.metrics.store = newStoreMetrics(d.db, d.begun, d.name, d.nodes, d.deciding)
	back := http.NewServeMux()
	back.Handle("GET /metrics", d.metrics)
	back.Handle("/", d.api.Health())
	o.back.let(back)
	o.front.let(d.routes())
}

func (d *daemon) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", d.api)
	mux.Handle("/enroll/", d.api.Guard(enroll.New(enroll.Config{
		Service: approvals.Admin{Store: d.db}, PublicURL: d.cfg.publicURL, Log: d.log,
	})))
	if d.transport() == "http" {
		mux.Handle("/slack/", d.bot.Handler())
	}
	return mux
}

// close lets the calls under way finish for stopGrace, then cancels them and waits
// until their handlers have returned: the database is closed afterwards.
func (o *doors) close(ctx context.Context, d *daemon) {
	grace, done := context.WithTimeout(ctx, stopGrace)
	defer done()
	if err := o.server.Shutdown(grace); err == nil {
		return
	}
	d.log.Warn("calls are cut off by the stop")
	o.calls.cancel()
	if !o.calls.wait(stopCalls) {
		d.log.Error("calls go on although they were cancelled")
	}
	// Their answers have been written, if they could be.
	o.server.Close()
}

// entrance is a handler that can be exchanged.
type entrance struct{ next atomic.Pointer[http.Handler] }

func (e *entrance) let(next http.Handler) { e.next.Store(&next) }

// ServeHTTP implements http.Handler.
func (e *entrance) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	(*e.next.Load()).ServeHTTP(w, r)
}

// calls counts the HTTP calls under way and can cancel them.
type calls struct {
	next    http.Handler
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
}

func newCalls(next http.Handler) *calls {
	c := &calls{next: next}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

func (c *calls) base(net.Listener) context.Context { return c.ctx }

// ServeHTTP implements http.Handler.
func (c *calls) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.running.Add(1)
	defer c.running.Done()
	c.next.ServeHTTP(w, r)
}

// wait reports whether all calls ended within most.
func (c *calls) wait(most time.Duration) bool {
	ended := make(chan struct{})
	go func() {
		c.running.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return true
	case <-time.After(most):
		return false
	}
}
