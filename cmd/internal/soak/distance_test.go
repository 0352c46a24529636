package soak_test

import (
	"bytes"
	"context"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

// What may be asked of a database server that is far away.
const (
	distance   = 2 * time.Millisecond // of a round trip
	mostModal  = time.Second
	mostAnswer = 1500 * time.Millisecond
	mostMedian = 15 // round trips of a transaction that writes
	mostTrips  = 50
)

// TestDistance plays decisions with a PostgreSQL server that is two milliseconds away,
// and counts the round trips of the transactions that write.
func TestDistance(t *testing.T) {
	only(t, "distance")
	database := storetest.Server(t)
	cfg, err := pgx.ParseConfig(database)
	if err != nil {
		t.Fatal(err)
	}
	way := &farServer{}
	way.network, way.address = pgconn.NetworkAddress(cfg.Host, cfg.Port)
	if way.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	way.running.Go(way.accept)
	defer func() { way.listener.Close(); way.running.Wait() }()
	env := "RGW_DATABASE_URL=" + storetest.Through(t, database, way.listener.Addr().String())
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	b := &bench{plan: loadPlan{apps: 10, decided: 8}, out: t.Output(), used: map[string]int64{}}
	dir := t.TempDir()
	if b.Stage, err = stage.New(dir, stage.Options{Env: append(b.plan.settings(), env)}); err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err = b.furnish(ctx); err == nil {
		b.Token, err = b.NewToken(ctx, "far", "--role", "cicd", "--all-apps")
	}
	if err != nil {
		t.Fatal(err)
	}
	b.caller = newCaller(b.URL, b.Token)
	if b.daemon, err = b.Spawn(nil); err == nil {
		defer func() { b.daemon.Kill() }()
		err = b.Ready(ctx, b.daemon)
	}
	if err != nil {
		t.Fatal(err)
	}
	var card, modal, answer times
	for i := range b.plan.decided {
		took, err := b.decide(ctx, i)
		if err != nil {
			t.Fatal(err)
		}
		card, modal, answer = append(card, took[0]), append(modal, took[1]), append(answer, took[2])
	}
	trips := way.counted()
	median, most := trips[len(trips)/2], trips[len(trips)-1]
	t.Logf("create to card %s; click to modal %s; submission to answer %s", card, modal, answer)
	t.Logf("%d transactions that write: %d round trips in the median, %d at most", len(trips), median, most)
	if modal.most() > mostModal || answer.most() > mostAnswer {
		t.Errorf("want a modal within %s and an answer within %s", mostModal, mostAnswer)
	}
	if median > mostMedian || most > mostTrips {
		t.Errorf("want %d round trips in the median and %d at most", mostMedian, mostTrips)
	}
}

// farServer passes connections on to a server, with the delay of a distance, and
// counts round trips.
type farServer struct {
	network, address string
	listener         net.Listener
	running          sync.WaitGroup

	mu    sync.Mutex
	trips []int // of each transaction that wrote
}

func (f *farServer) counted() []int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(slices.Values(f.trips))
}

func (f *farServer) accept() {
	for {
		client, err := f.listener.Accept()
		if err != nil {
			return
		}
		f.running.Go(func() { f.carry(client) })
	}
}

func (f *farServer) carry(client net.Conn) {
	defer client.Close()
	server, err := net.Dial(f.network, f.address)
	if err != nil {
		return
	}
	defer server.Close()
	f.running.Go(func() {
		defer client.Close()
		buf := make([]byte, 64<<10)
		for {
			n, err := server.Read(buf)
			if err != nil {
				return
			}
			if _, err := client.Write(buf[:n]); err != nil {
				return
			}
		}
	})
	buf := make([]byte, 64<<10)
	for trips := 0; ; {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		if bytes.Contains(buf[:n], []byte("FROM meta FOR UPDATE")) {
			trips = 0
		}
		if trips++; bytes.Contains(buf[:n], []byte("COMMIT\x00")) {
			f.mu.Lock()
			f.trips = append(f.trips, trips)
			f.mu.Unlock()
		}
		time.Sleep(distance) // the client waits for the answer meanwhile
		if _, err := server.Write(buf[:n]); err != nil {
			return
		}
	}
}
