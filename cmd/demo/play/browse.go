package main

import (
	"cmp"
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
	// preparing is far more than the daemon and its people need to be ready.
	preparing = time.Minute
	// farewell is how long calls of the page may still take when the demo ends.
	farewell = 2 * time.Second
)

// browseOptions change what is served.
type browseOptions struct {
	http       bool // signed requests instead of Socket Mode
	port       int  // 0 = any free one, or with simulators the usual ones
	pace       time.Duration
	simulators bool // no daemon, no people, and fixed ports
	nodes      int  // daemons; 2 = with PostgreSQL
}

// browser is the demo with a page, on which a visitor acts for people in Slack and in
// CircleCI.
type browser struct {
	*runner
	bell bell
	opts browseOptions
	team *team // nil = one daemon
}

// browse serves the page until the context ends.
func browse(ctx context.Context, out io.Writer, opts browseOptions) (err error) {
	dir, err := os.MkdirTemp("", "rack-gateway-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	options := stage.Options{HTTP: opts.http}
	if opts.simulators {
		opts.port = cmp.Or(opts.port, simulatorsPort)
		options.SlackAddress, options.CircleAddress = loopback(opts.port+1), loopback(opts.port+2)
	}
	// Loopback only: the page shows authenticator codes and has everybody's hands.
	l, err := net.Listen("tcp", loopback(opts.port))
	if err != nil {
		return fmt.Errorf("serve the page: %w", err)
	}
	defer l.Close()
	s, err := stage.New(dir, options)
	if err != nil {
		return err
	}
	defer s.Close()
	b := &browser{opts: opts}
	b.runner = &runner{Stage: s, pace: opts.pace, bell: &b.bell}
	b.Circle.AddUser(circlecitest.User{Login: "carl"})
	if opts.nodes > 1 {
		if b.team, err = assemble(ctx, s); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, b.team.dismiss()) }()
	}
	if !opts.simulators {
		if err := b.prepare(ctx); err != nil {
			if ctx.Err() != nil { // stopped while it started
				return nil
			}
			return err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	var following sync.WaitGroup
	following.Go(func() { b.followSlack(ctx) })
	following.Go(func() { b.follow(ctx) })
	defer func() {
		cancel()
		following.Wait()
	}()
	if opts.simulators {
		fmt.Fprint(out, b.variables())
	} else {
		b.push(stage.Starter)
	}
	fmt.Fprintf(out, "Open http://%s/ in a browser. Ctrl-C ends the demo and removes all of it.\n", l.Addr())
	return serve(ctx, l, b.handler(l.Addr().String()))
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// prepare starts the daemon and makes its people.
func (b *browser) prepare(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, preparing)
	defer cancel()
	if b.team != nil {
		if err := b.team.start(ctx, b.Stage); err != nil {
			return errors.Join(err, b.team.tail())
		}
		b.runner.url, b.runner.key = b.URL, b.Token
		return nil
	}
	if err := b.Enrol(ctx); err != nil { // before the start, for a quiet channel
		return err
	}
	if err := b.Start(ctx); err != nil {
		return err
	}
	b.runner.url, b.runner.key = b.URL, b.Token
	return b.Confirmed(ctx)
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
