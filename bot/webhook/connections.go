package webhook

import (
	"container/list"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
)

const (
	// maxConnections is how many connections are open at once in all.
	maxConnections = 1024
	// maxFromOne is how many of them one address may have, or one /64 network of
	// IPv6. A trusted proxy brings many callers and has no bound of its own.
	maxFromOne = 128
)

// LimitConnections bounds how many connections of a listener are open at once,
// in all and from one address. It must be called before the server serves the
// listener that it returns.
//
// A new connection never waits for an old one. When its address has all it may
// have, the connection of that address that has been without a complete request
// for the longest time is closed for it; when there are too many in all, the one
// of which that is true among all. A connection whose request is being answered
// is never closed: if there are no others, it is the new one that is.
func LimitConnections(s *http.Server, l net.Listener, proxies []netip.Prefix) net.Listener {
	limited := &connections{Listener: l, proxies: proxies, from: map[string]int{}, idle: list.New()}
	told := s.ConnState
	s.ConnState = func(c net.Conn, state http.ConnState) {
		if c, ok := c.(*connection); ok {
			limited.turned(c, state)
		}
		if told != nil {
			told(c, state)
		}
	}
	return limited
}

// connections is a listener that knows all connections it has accepted.
type connections struct {
	net.Listener
	proxies []netip.Prefix

	mu   sync.Mutex
	open int
	from map[string]int // open connections of each address
	idle *list.List     // of *connection, the one that became idle first in front
}

// connection is one accepted connection.
type connection struct {
	net.Conn
	all    *connections
	from   string        // "" is a trusted proxy
	idle   *list.Element // nil while a request is being answered
	closed bool
}

// Accept returns the next connection that there is room for.
func (l *connections) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if admitted := l.admit(c); admitted != nil {
			return admitted, nil
		}
		c.Close()
	}
}

// admit makes room for a connection, or returns nil when there is none.
func (l *connections) admit(c net.Conn) *connection {
	admitted := &connection{Conn: c, all: l, from: l.origin(c.RemoteAddr())}
	l.mu.Lock()
	defer l.mu.Unlock()
	if admitted.from != "" && l.from[admitted.from] >= maxFromOne && !l.evict(func(c *connection) bool { return c.from == admitted.from }) {
		return nil
	}
	if l.open >= maxConnections && !l.evict(func(*connection) bool { return true }) {
		return nil
	}
	l.open++
	if admitted.from != "" {
		l.from[admitted.from]++
	}
	// Until its first request is complete, a connection counts as idle.
	admitted.idle = l.idle.PushBack(admitted)
	return admitted
}

func (l *connections) origin(a net.Addr) string {
	remote, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return a.String()
	}
	addr := remote.Addr().Unmap().WithZone("")
	if slices.ContainsFunc(l.proxies, func(p netip.Prefix) bool { return p.Contains(addr) }) {
		return ""
	}
	return strangerKey(addr)
}

// evict closes the connection that has been idle for the longest time among
// those of a kind. The caller holds the lock.
func (l *connections) evict(kind func(*connection) bool) bool {
	for e := l.idle.Front(); e != nil; e = e.Next() {
		if c := e.Value.(*connection); kind(c) {
			l.forget(c)
			c.Conn.Close()
			return true
		}
	}
	return false
}

// forget takes a connection out of the books. The caller holds the lock.
func (l *connections) forget(c *connection) {
	if c.closed {
		return
	}
	c.closed = true
	l.open--
	if c.from != "" {
		if l.from[c.from]--; l.from[c.from] == 0 {
			delete(l.from, c.from)
		}
	}
	if c.idle != nil {
		l.idle.Remove(c.idle)
		c.idle = nil
	}
}

// turned takes in what the server says of a connection: it is active from a
// complete request head on until that request was answered.
func (l *connections) turned(c *connection, state http.ConnState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case c.closed:
	case state == http.StateActive && c.idle != nil:
		l.idle.Remove(c.idle)
		c.idle = nil
	case state == http.StateIdle && c.idle == nil:
		c.idle = l.idle.PushBack(c)
	}
}

// CloseWrite lets the server end its half first, so that a client that is still
// sending can read the answer.
func (c *connection) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// Close ends the connection and makes its room free.
func (c *connection) Close() error {
	c.all.mu.Lock()
	c.all.forget(c)
	c.all.mu.Unlock()
	return c.Conn.Close()
}
