package webhook

import (
	"container/list"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// maxConnections is how many connections are open at once in all.
	maxConnections = 1024
	// maxFromOne is how many of them one address may have, or one /64 network of
	// IPv6. A trusted proxy brings many callers and has no bound of its own.
	maxFromOne = 128
	// partTime is how long the server goes on reading a call that was answered with
	// Connection: close, so that a client that is still sending can read the answer.
	partTime = 500 * time.Millisecond
)

// LimitConnections bounds how many connections of a listener are open at once,
// in all and from one address. It must be called before the server serves the
// listener that it returns.
//
// A new connection never waits for an old one. When its address has all the
// connections that it may have, the one that has gone without a complete request for
// the longest time is closed. When there are too many in all, the same holds for the
// connections of all addresses. A connection whose request has come as a whole, with
// its body, is not closed while it is being answered; if there is no other, the new
// one is. A call counts as answered once its handler has answered with
// Connection: close.
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
	s.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, connectionKey{}, c)
	}
	s.Handler = limited.parting(s.Handler)
	return limited
}

type connectionKey struct{}

// parting watches for calls whose request has come as a whole, for those that were
// answered before their body had come, and for answers after which the connection
// ends. net/http reads the rest of the body first, which could take as long as the
// client likes, up to the server's time-out.
func (l *connections) parting(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, ok := r.Context().Value(connectionKey{}).(*connection)
		body := &watchedBody{ReadCloser: r.Body, whole: func() {
			if ok {
				l.work(c)
			}
		}}
		if r.ContentLength == 0 {
			body.whole()
		}
		// The server looks at the body of its own request to decide whether a client
		// that is still sending needs time to read the answer, so only a copy changes.
		watched := *r
		watched.Body = body
		next.ServeHTTP(w, &watched)
		unread := r.ContentLength != 0 && !body.ended
		if ok && (unread || w.Header().Get("Connection") == "close") {
			_ = c.SetReadDeadline(time.Now().Add(partTime)) // a connection that is closed already needs none
			l.part(c)
		}
	})
}

// watchedBody knows whether it was read to its end, and tells so.
type watchedBody struct {
	io.ReadCloser
	whole func()
	ended bool
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) && !b.ended {
		b.ended = true
		b.whole()
	}
	return n, err
}

// work keeps a connection open until its request was answered.
func (l *connections) work(c *connection) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.idle != nil {
		l.idle.Remove(c.idle)
		c.idle = nil
	}
}

// part makes a connection the first to be closed when room is needed.
func (l *connections) part(c *connection) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !c.closed && c.idle == nil {
		c.idle = l.idle.PushFront(c)
	}
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
	idle   *list.Element // nil while a whole request is being answered
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
	// Until its first request has come as a whole, a connection counts as idle.
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

// turned takes in what the server says of a connection: it is idle again once its
// request was answered.
func (l *connections) turned(c *connection, state http.ConnState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case c.closed || state != http.StateIdle:
	case c.idle == nil:
		c.idle = l.idle.PushBack(c)
	default: // its request was answered before its body had come
		l.idle.MoveToBack(c.idle)
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
