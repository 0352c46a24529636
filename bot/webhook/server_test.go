package webhook_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
)

func TestServerTimeouts(t *testing.T) {
	t.Parallel()
	s := webhook.NewServer(http.NotFoundHandler(), nil)
	if s.ReadHeaderTimeout != 5*time.Second || s.ReadTimeout != 10*time.Second || s.WriteTimeout != 15*time.Second || s.IdleTimeout != time.Minute || s.MaxHeaderBytes != 16<<10 {
		t.Errorf("got %+v; want the documented limits", s)
	}
}

// crowd is a server whose connections are limited, and its clients.
type crowd struct {
	t       *testing.T
	address string
	held    chan struct{} // a call to /hold is answered when it is closed
	holding chan struct{} // gets a value for each call to /hold
}

func newCrowd(t *testing.T, proxies ...netip.Prefix) *crowd {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &crowd{t: t, address: l.Addr().String(), held: make(chan struct{}), holding: make(chan struct{}, 5000)}
	s := webhook.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/hold":
			c.holding <- struct{}{}
			<-c.held
		case "/read":
			_, _ = io.Copy(io.Discard, r.Body)
		case "/refuse":
			w.WriteHeader(http.StatusTooManyRequests)
		case "/close":
			w.Header().Set("Connection", "close")
			w.WriteHeader(http.StatusTooManyRequests)
		}
	}), nil)
	ended := make(chan error, 1)
	limited := webhook.LimitConnections(s, l, proxies)
	go func() { ended <- s.Serve(limited) }()
	t.Cleanup(func() {
		s.Close()
		<-ended
	})
	return c
}

// dial opens a connection from an address of this machine.
func (c *crowd) dial(from string) net.Conn {
	c.t.Helper()
	d := net.Dialer{Timeout: 10 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := d.Dial("tcp", c.address)
	if err != nil {
		c.t.Skipf("this machine has no address %s: %v", from, err)
	}
	c.t.Cleanup(func() { conn.Close() })
	return conn
}

// ask makes one call on a connection and reports whether it was answered.
func (c *crowd) ask(conn net.Conn) bool {
	c.t.Helper()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		c.t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return false
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return false
	}
	res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// idle opens connections that were answered once and stay open.
func (c *crowd) idle(from string, n int) []net.Conn {
	c.t.Helper()
	all := make([]net.Conn, 0, n)
	for range n {
		conn := c.dial(from)
		if !c.ask(conn) {
			c.t.Fatalf("connection %d from %s was not answered", len(all), from)
		}
		all = append(all, conn)
	}
	return all
}

func (c *crowd) answered(conns []net.Conn) (n int) {
	for _, conn := range conns {
		if c.ask(conn) {
			n++
		}
	}
	return n
}

// However many idle connections one address holds, its next call and everybody
// else's are answered at once, and nobody else loses a connection.
func TestIdleConnectionsGiveWay(t *testing.T) {
	t.Parallel()
	c := newCrowd(t)
	others := c.idle("127.0.0.2", 3)
	many := c.idle("127.0.0.3", 500)
	if got := c.answered(others); got != 3 {
		t.Errorf("%d of 3 idle connections of another address are left; want all", got)
	}
	if got := c.answered(many); got != 128 {
		t.Errorf("%d idle connections of one address are left; want 128", got)
	}
	if !c.ask(c.dial("127.0.0.3")) || !c.ask(c.dial("127.0.0.2")) {
		t.Error("a new connection is not answered; want an answer at once")
	}
}

// What has not sent a complete request gives way too, and what is being answered
// never does: the newcomer is turned away then.
func TestBusyConnectionsStay(t *testing.T) {
	t.Parallel()
	c := newCrowd(t)
	var busy []net.Conn
	for range 128 {
		conn := c.dial("127.0.0.2")
		if _, err := io.WriteString(conn, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		<-c.holding
		busy = append(busy, conn)
	}
	if c.ask(c.dial("127.0.0.2")) {
		t.Error("one more connection of the same address was answered; want it closed")
	}
	if !c.ask(c.dial("127.0.0.3")) {
		t.Error("another address is not answered")
	}
	close(c.held)
	for i, conn := range busy {
		if res, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("busy connection %d: got %v; want its answer", i, err)
		}
	}
	for range 200 {
		if _, err := io.WriteString(c.dial("127.0.0.2"), "GET / HTTP/1.1\r\nX-Slow: "); err != nil {
			t.Fatal(err)
		}
	}
	if !c.ask(c.dial("127.0.0.2")) {
		t.Error("behind 200 connections that begin a request and do not end it nothing is answered")
	}
}

// A call whose body does not come gives way even while a handler waits for it, and
// the newest one is answered when its body comes.
func TestSlowBodiesGiveWay(t *testing.T) {
	t.Parallel()
	c := newCrowd(t)
	var last net.Conn
	for range 300 {
		last = c.dial("127.0.0.2")
		if _, err := io.WriteString(last, "POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{"); err != nil {
			t.Fatal(err)
		}
	}
	if !c.ask(c.dial("127.0.0.2")) {
		t.Error("behind 300 calls whose bodies do not come nothing is answered")
	}
	if _, err := io.WriteString(last, "}"); err != nil {
		t.Fatal(err)
	}
	if res, err := http.ReadResponse(bufio.NewReader(last), nil); err != nil || res.StatusCode != http.StatusOK {
		t.Errorf("the newest of them: got %v; want its answer", err)
	}
}

// All addresses together have a bound, too, and so has a trusted proxy, which has
// no other.
func TestAllConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	c := newCrowd(t, netip.MustParsePrefix("127.0.0.9/32"))
	proxy := c.idle("127.0.0.9", 600)
	for i := range 10 {
		c.idle(fmt.Sprintf("127.0.1.%d", i), 60)
	}
	last := c.idle("127.0.0.2", 1)
	if got := c.answered(last); got != 1 {
		t.Error("the newest connection is gone; want the oldest ones closed")
	}
	if got := c.answered(proxy); got != 600-(600+600+1-1024) {
		t.Errorf("%d idle connections of the proxy are left; want %d", got, 600-(600+600+1-1024))
	}
}

// A call that was answered before its body came does not keep its place until the
// body does.
func TestUnreadCallsGiveWay(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/refuse", "/close"} {
		c := newCrowd(t)
		for n := range 400 {
			conn := c.dial("127.0.0.2")
			if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(conn, "POST "+path+" HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n{"); err != nil {
				t.Fatal(err)
			}
			if path == "/refuse" && n < 398 {
				continue // answered when the rest did not come for a while
			}
			if res, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || res.StatusCode != http.StatusTooManyRequests {
				t.Fatalf("%s, call %d: got %v; want it answered", path, n, err)
			}
		}
	}
}

// A call that is answered early and whose body comes then leaves its connection for
// the next one.
func TestEarlyAnswersKeepTheConnection(t *testing.T) {
	t.Parallel()
	c := newCrowd(t)
	conn := c.dial("127.0.0.2")
	if _, err := io.WriteString(conn, "POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"); err != nil {
		t.Fatal(err)
	}
	if res, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || res.StatusCode != http.StatusTooManyRequests {
		t.Fatalf("got %v; want it answered", err)
	}
	if !c.ask(conn) {
		t.Error("the next call on the connection is not answered")
	}
}

// A client that sends a large body which nobody reads still gets its answer.
func TestLargeUnreadBodiesAreAnswered(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/refuse", "/close"} {
		c := newCrowd(t)
		for range 20 {
			res, err := http.Post("http://"+c.address+path, "text/plain", strings.NewReader(strings.Repeat("x", 1<<20)))
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			res.Body.Close()
			if res.StatusCode != http.StatusTooManyRequests {
				t.Errorf("%s: got %s; want 429", path, res.Status)
			}
		}
	}
}
