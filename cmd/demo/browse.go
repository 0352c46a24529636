package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

const (
	// jobTime is how long a job of the simulated CircleCI runs if nobody ends it by hand.
	jobTime = 4 * time.Second
	// preparing is far more than the daemon and its people need to be ready.
	preparing = time.Minute
	// farewell is what calls of the page may still take when the demo ends.
	farewell = 2 * time.Second
)

// browseOptions change how the page is served.
type browseOptions struct {
	http    bool // signed requests instead of Socket Mode
	port    int  // 0 = any free one
	jobTime time.Duration
}

// browser is the demo with a page: a person's hands in Slack and CircleCI.
type browser struct {
	*stage.Stage
	bell   bell
	asking sync.WaitGroup // runs of rack-gateway

	mu       sync.Mutex
	commands []command
}

// browse serves the page until the context ends.
func browse(ctx context.Context, out io.Writer, opts browseOptions) error {
	dir, err := os.MkdirTemp("", "rack-gateway-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s, err := stage.New(dir, stage.Options{HTTP: opts.http})
	if err != nil {
		return err
	}
	defer s.Close()
	b := &browser{Stage: s}
	if err := b.prepare(ctx, opts.jobTime); err != nil {
		if ctx.Err() != nil { // stopped while it started
			return nil
		}
		return err
	}
	// Loopback only: the page shows authenticator codes and has everybody's hands.
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(opts.port)))
	if err != nil {
		return fmt.Errorf("serve the page: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	var following sync.WaitGroup
	following.Go(func() { b.followSlack(ctx) })
	following.Go(func() { b.followCircle(ctx) })
	defer func() {
		cancel()
		following.Wait()
		b.asking.Wait()
	}()
	b.push(stage.Starter)
	fmt.Fprintf(out, "Open http://%s/ in a browser. Ctrl-C ends the demo and removes all of it.\n", l.Addr())
	return serve(ctx, l, b.handler(l.Addr().String()))
}

// prepare starts the daemon, makes its people and lets CircleCI run jobs by itself.
func (b *browser) prepare(ctx context.Context, run time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, preparing)
	defer cancel()
	if err := b.Enrol(ctx); err != nil { // before the start, for a quiet channel
		return err
	}
	if err := b.Start(ctx); err != nil {
		return err
	}
	if err := b.Confirmed(ctx); err != nil {
		return err
	}
	b.Circle.AddUser(circlecitest.User{Login: "carl"})
	b.Circle.Configure(func(o *circlecitest.Options) { o.AutoRun, o.RunFor = true, run })
	return nil
}

func serve(ctx context.Context, l net.Listener, h http.Handler) error {
	srv := &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second,
		// Event streams end with the demo, or Shutdown would wait for them.
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve the page: %w", err)
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer cancel()
	if err := srv.Shutdown(last); err != nil {
		_ = srv.Close() // whoever still hangs on is cut off
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the page: %w", err)
	}
	return nil
}

func (b *browser) followSlack(ctx context.Context) {
	for {
		changed := b.Slack.Changed()
		b.bell.ring()
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// bell tells everybody who listens that something changed. The zero value is ready.
type bell struct {
	mu   sync.Mutex
	next chan struct{}
}

// listen returns a channel that is closed at the next ring.
func (b *bell) listen() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next == nil {
		b.next = make(chan struct{})
	}
	return b.next
}

func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next != nil {
		close(b.next)
		b.next = nil
	}
}
