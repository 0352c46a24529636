package stage

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
)

// Balancer hands each call to a daemon that takes it, in turn, over a connection of
// its own.
type Balancer struct {
	addresses []string
	server    *http.Server

	mu    sync.Mutex
	takes func(i int) bool // nil = whoever takes connections
	next  int              // whose turn it is
	fixed bool             // all calls go to that one
}

// NewBalancer has a balancer listen where the stage's daemon does, for so many daemons.
func (s *Stage) NewBalancer(count int) (*Balancer, error) {
	b := &Balancer{}
	for range count {
		address, err := freeAddress()
		if err != nil {
			return nil, err
		}
		b.addresses = append(b.addresses, address)
	}
	b.server = &http.Server{Handler: &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(&url.URL{Scheme: "http", Host: "node"})
			p.Out.Host = p.In.Host
			p.SetXForwarded()
		},
		Transport:    &http.Transport{DialContext: b.dial, DisableKeepAlives: true, DisableCompression: true},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}}
	l, err := net.Listen("tcp", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		return nil, err
	}
	go b.server.Serve(l)
	s.SetEnv("RGW_PUBLIC_URL="+s.URL, "RGW_TRUSTED_PROXIES=127.0.0.0/8")
	return b, nil
}

// Address is where a daemon has to listen.
func (b *Balancer) Address(i int) string { return b.addresses[i] }

// dial connects to the daemon whose turn it is, or the next one that takes it.
func (b *Balancer) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	for range b.addresses {
		address := b.turn()
		if address == "" {
			break
		}
		if conn, err := new(net.Dialer).DialContext(ctx, network, address); err == nil {
			return conn, nil
		}
	}
	return nil, errors.New("no node works")
}

// turn is the address of the daemon that gets the next call, "" when there is none.
func (b *Balancer) turn() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range b.addresses {
		i := b.next % len(b.addresses)
		takes := b.takes == nil || b.takes(i)
		if !b.fixed || !takes {
			b.next++
		}
		if takes {
			return b.addresses[i]
		}
	}
	return ""
}

// Prefer has all calls handed to one daemon while it takes them, until the next Prefer.
func (b *Balancer) Prefer(i int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.next, b.fixed = i, true
}

// Close ends the balancer and what it passes on.
func (b *Balancer) Close() { b.server.Close() }
