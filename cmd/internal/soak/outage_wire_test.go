package soak_test

import (
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"
	"time"
)

// wire carries the daemon's connections to a simulated service. Cut, nobody
// listens at its address: connections are refused, as when a host is down.
type wire struct {
	target  string // where the service listens
	address string

	mu       sync.Mutex
	listener net.Listener // nil while it is cut
	open     map[net.Conn]bool
}

// newWire puts a wire in front of the service at base and returns the base to
// use in its place.
func newWire(base string) (*wire, string, error) {
	u, err := url.Parse(base)
	if err != nil {
		return nil, "", err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", fmt.Errorf("lay a wire: %w", err)
	}
	w := &wire{target: u.Host, address: l.Addr().String(), open: map[net.Conn]bool{}}
	u.Host = w.address
	w.serve(l)
	return w, u.String(), nil
}

func (w *wire) serve(l net.Listener) {
	w.mu.Lock()
	w.listener = l
	w.mu.Unlock()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // cut
			}
			go w.carry(l, conn)
		}
	}()
}

// carry copies both ways until one side ends.
func (w *wire) carry(l net.Listener, near net.Conn) {
	defer near.Close()
	far, err := net.Dial("tcp", w.target)
	if err != nil {
		return
	}
	defer far.Close()
	w.mu.Lock()
	cut := w.listener != l
	if !cut {
		w.open[near], w.open[far] = true, true
	}
	w.mu.Unlock()
	if cut {
		return
	}
	var copying sync.WaitGroup
	for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
		copying.Go(func() {
			_, _ = io.Copy(way[0], way[1]) // an end is an end
			near.Close()
			far.Close()
		})
	}
	copying.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.open, near)
	delete(w.open, far)
}

// cut ends all connections and refuses new ones.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.listener != nil {
		w.listener.Close()
		w.listener = nil
	}
	for conn := range w.open {
		conn.Close()
	}
}

// mend takes connections at the same address again.
func (w *wire) mend() error {
	w.mu.Lock()
	whole := w.listener != nil
	w.mu.Unlock()
	if whole {
		return nil
	}
	var err error
	for range 50 { // somebody's outgoing connection may have the port for a moment
		var l net.Listener
		if l, err = net.Listen("tcp", w.address); err == nil {
			w.serve(l)
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("mend the wire: %w", err)
}
