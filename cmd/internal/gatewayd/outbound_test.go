package gatewayd

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A connection that swallows all that is sent over it is given up, and calls go over
// a new one.
func TestDeadConnectionsAreGivenUp(t *testing.T) {
	t.Parallel()
	known := httptest.NewTLSServer(nil) // for its certificate
	defer known.Close()
	trusted := known.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	synctest.Test(t, func(t *testing.T) {
		w := &wires{calls: make(chan net.Conn)}
		server := &http.Server{
			TLSConfig: &tls.Config{Certificates: known.TLS.Certificates},
			Handler:   http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }),
		}
		go server.ServeTLS(w, "", "")
		defer server.Close()
		transport := outbound()
		defer transport.CloseIdleConnections()
		transport.Proxy, transport.DialContext, transport.TLSClientConfig.RootCAs = nil, w.dial, trusted
		client := &http.Client{Transport: transport, Timeout: slackTime}
		call := func() error {
			res, err := client.Get("https://example.com")
			if err != nil {
				return err
			}
			if res.ProtoMajor != 2 {
				t.Fatalf("got %s; want HTTP/2", res.Proto)
			}
			return res.Body.Close()
		}
		for range 2 {
			if err := call(); err != nil {
				t.Fatal(err)
			}
		}
		if n := w.dialled.Load(); n != 1 {
			t.Fatalf("got %d connections; want one for both calls", n)
		}
		w.dead.Store(1)
		if call() == nil {
			t.Fatal("the dead connection answered")
		}
		time.Sleep(26*time.Second - slackTime)
		if err := call(); err != nil || w.dialled.Load() != 2 {
			t.Errorf("after 26 seconds got %v over %d connections; want an answer over a second one", err, w.dialled.Load())
		}
	})
}

// wires are connections that can be cut without a word.
type wires struct {
	calls         chan net.Conn
	dialled, dead atomic.Int64 // the first so many are dead
}

func (w *wires) dial(context.Context, string, string) (net.Conn, error) {
	number := w.dialled.Add(1)
	client, near := net.Pipe()
	far, server := net.Pipe()
	go w.pump(number, near, far)
	go w.pump(number, far, near)
	w.calls <- server
	return client, nil
}

// pump passes on what comes in until either end closes.
func (w *wires) pump(number int64, from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	part := make([]byte, 16<<10)
	for {
		n, err := from.Read(part)
		if n > 0 && number > w.dead.Load() {
			if _, err := to.Write(part[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// Accept implements net.Listener.
func (w *wires) Accept() (net.Conn, error) {
	if c, ok := <-w.calls; ok {
		return c, nil
	}
	return nil, io.EOF
}

// Close implements net.Listener.
func (w *wires) Close() error {
	close(w.calls)
	return nil
}

// Addr implements net.Listener.
func (w *wires) Addr() net.Addr { return &net.TCPAddr{} }
