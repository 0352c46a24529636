package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/store"
	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

// wire stands between a node and the server, and breaks at the next COMMIT.
type wire struct {
	network, address string
	cut              atomic.Int32 // what becomes of the next COMMIT
	closed           atomic.Bool  // no connection is let through
	held             atomic.Bool  // what the server says is kept from a client that waits
	running          sync.WaitGroup
}

// What becomes of a COMMIT.
const (
	whole   = iota
	made    // it reaches the server, whose answer does not come back
	notMade // it does not reach the server
	gone    // as made, and the server is away afterwards
	silent  // as made, but the connection stays as it is
	late    // it reaches the server after longer than this lets a transaction do nothing
)

// newWire returns a wire, and the URL that leads through it.
func newWire(t *testing.T, server string) (*wire, string) {
	t.Helper()
	cfg, err := pgx.ParseConfig(server)
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{}
	w.network, w.address = pgconn.NetworkAddress(cfg.Host, cfg.Port)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			w.running.Go(func() { w.carry(conn) })
		}
	})
	t.Cleanup(func() { l.Close(); w.running.Wait() })
	return w, storetest.Through(t, server, l.Addr().String())
}

func (w *wire) carry(client net.Conn) {
	defer client.Close()
	if w.closed.Load() {
		return
	}
	server, err := net.Dial(w.network, w.address)
	if err != nil {
		return
	}
	defer server.Close()
	var muted atomic.Bool
	w.running.Go(func() { // what the server says
		defer client.Close()
		buf := make([]byte, 64<<10)
		for {
			n, err := server.Read(buf)
			if err == nil && muted.Load() && w.held.Load() {
				continue
			}
			if err != nil || muted.Load() {
				return
			}
			if _, err := client.Write(buf[:n]); err != nil {
				return
			}
		}
	})
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		if bytes.Contains(buf[:n], []byte("COMMIT\x00")) {
			cut := w.cut.Swap(whole)
			w.held.Store(cut == silent)
			switch cut {
			case notMade:
				return
			case gone:
				w.closed.Store(true)
				fallthrough
			case made, silent:
				muted.Store(true)
			case late:
				time.Sleep(6 * time.Second)
			}
		}
		if _, err := server.Write(buf[:n]); err != nil {
			return
		}
	}
}

// A commit whose answer is lost is told truthfully, and fn is never run again.
func TestCommitWithoutAnswer(t *testing.T) {
	t.Parallel()
	url := storetest.Server(t)
	w, through := newWire(t, url)
	db := storetest.OpenURL(t, through, storetest.Keys)
	other := storetest.OpenURL(t, url, storetest.Keys)
	there := func(name string) (there bool) {
		view(t, other, func(tx approvals.Tx) error { there = get(tx, name) != ""; return nil })
		return there
	}
	ran := map[string]int{}
	put := func(name string) error {
		return db.Update(t.Context(), func(tx approvals.Tx) error { ran[name]++; return set(tx, name, "1") })
	}
	for _, first := range []string{"of a new node", "of a known node"} {
		for cut, name := range map[int32]string{made: "made", notMade: "not made"} {
			name += " " + first
			w.cut.Store(cut)
			err := put(name)
			if want := cut == made; (err == nil) != want || !want && !errors.Is(err, store.ErrUnavailable) || there(name) != want || ran[name] != 1 {
				t.Errorf("%s: got %v, it is there %v, ran %d times; want it told truthfully", name, err, there(name), ran[name])
			}
			if err := put("after " + name); err != nil || !there("after "+name) {
				t.Errorf("after %s: got %v; want it committed", name, err)
			}
		}
	}
	// Nobody told the node what became of them before the next transaction began.
	for i, cut := range []int32{gone, gone, notMade} {
		name := fmt.Sprint("cut ", i)
		w.cut.Store(cut)
		if err := put(name); !errors.Is(err, store.ErrUnavailable) || ran[name] != 1 {
			t.Errorf("%s: got %v, ran %d times; want %v", name, err, ran[name], store.ErrUnavailable)
		}
		w.closed.Store(false)
		if there(name) != (cut == gone) {
			t.Errorf("%s: it is there: %v", name, cut != gone)
		}
	}
	if err := put("back"); err != nil || !there("back") {
		t.Errorf("the server is back: got %v, there %v", err, there("back"))
	}
	if err := db.CanWrite(t.Context()); err != nil {
		t.Errorf("at the end: got %v; want nil", err)
	}
}

// When the server does not answer a commit, such as because it waits for its
// standby, nobody is told that it was made. The node goes on afterwards.
func TestCommitThatIsNotAnswered(t *testing.T) {
	t.Parallel()
	url := storetest.Server(t)
	w, through := newWire(t, url)
	db := storetest.OpenURL(t, through, storetest.Keys)
	w.cut.Store(silent)
	started := time.Now()
	err := db.Update(t.Context(), func(tx approvals.Tx) error { return set(tx, "x", "1") })
	if took := time.Since(started); !errors.Is(err, store.ErrUnavailable) || took > 30*time.Second {
		t.Errorf("got %v after %v; want %v", err, took, store.ErrUnavailable)
	}
	update(t, db, func(tx approvals.Tx) error { return set(tx, "y", "1") })
	if err := db.CanWrite(t.Context()); err != nil {
		t.Errorf("afterwards: got %v; want nil", err)
	}
}
