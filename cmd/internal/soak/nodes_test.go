package soak_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

// stopFor is how long a node stands still that is stopped in place of killed. The
// others declare it dead meanwhile.
const stopFor = 15 * time.Second

// TestKillsOfNodes has two daemons work on one PostgreSQL database, behind one
// balancer and with one Slack app. One of them, in turn, is killed around its calls,
// or stopped for some time; every eighth time the connections to the database are
// cut, too.
func TestKillsOfNodes(t *testing.T) {
	many := *lanes
	if begin(t, "node-kills", "lanes") {
		enough(t, time.Duration(*nodeKills)*4*time.Second+patience)
	} else {
		many = 8
	}
	database := storetest.Server(t)
	t.Logf("%d kills, %d lanes, -seed %d", *nodeKills, many, *seed)
	started := time.Now()
	dir := directory(t, "nodes")
	c, err := newChamber(t.Context(), dir, many, *seed, t.Output(), "RGW_DATABASE_URL="+database, "RGW_ANCHOR_FILE="+dir+"/anchor")
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	pair, err := newNodes(c, database)
	if err != nil {
		t.Fatal(err)
	}
	defer pair.close()
	if err := pair.torment(t.Context(), *nodeKills, *seed); err != nil {
		t.Error(err)
	}
	c.report(t, time.Since(started))
	t.Logf("%d times stopped, %d times cut off from the database", pair.stops, pair.cuts)
}

// nodes are two daemons and the balancer before them.
type nodes struct {
	*chamber
	database string
	balancer *balancer
	slots    [2]*stage.Process
	stops    int
	cuts     int
}

func newNodes(c *chamber, database string) (*nodes, error) {
	b, err := newBalancer(strings.TrimPrefix(c.URL, "http://"), 2)
	return &nodes{chamber: c, database: database, balancer: b}, err
}

func (p *nodes) close() {
	for _, proc := range p.slots {
		if proc != nil {
			proc.Kill()
		}
	}
	p.balancer.close()
}

// spawn starts the daemon of a slot.
func (p *nodes) spawn(i int) (err error) {
	p.slots[i], err = p.Spawn(p.log, "RGW_LISTEN="+p.balancer.nodes[i], "RGW_METRICS_LISTEN=")
	return err
}

func (p *nodes) torment(ctx context.Context, kills int, seed uint64) error {
	p.killer = newKiller(seed)
	p.killer.attach(p.Stage)
	for i := range p.slots {
		if err := p.spawn(i); err != nil {
			return err
		}
	}
	stop := make(chan struct{})
	var playing sync.WaitGroup
	for _, l := range p.lanes {
		playing.Go(func() { p.run(ctx, l, stop) })
	}
	err := p.kill(ctx, kills, rand.New(rand.NewPCG(seed, 77)))
	close(stop)
	if err != nil {
		return err
	}
	playing.Wait()
	p.verdict(ctx)
	return errors.Join(p.last(ctx, p.slots[:]...), ctx.Err())
}

func (p *nodes) kill(ctx context.Context, kills int, rng *rand.Rand) error {
	for n := 1; n <= kills; n++ {
		i := rng.IntN(2)
		if rng.IntN(8) == 0 {
			p.cuts++
			if err := p.cut(); err != nil {
				return err
			}
		}
		if rng.IntN(10) == 0 {
			p.stops++
			if err := p.standStill(ctx, p.slots[i]); err != nil {
				return err
			}
			continue
		}
		if _, err := p.killer.round(ctx, p.slots[i]); err != nil {
			return err
		}
		if err := p.spawn(i); err != nil {
			return err
		}
		p.keepAnchor()
		if n%25 == 0 {
			told, broken := p.progress()
			fmt.Fprintf(p.out, "%d kills at %d points, %d stories, %d violations\n", n, len(p.killer.hits), told, broken)
		}
	}
	return nil
}

// standStill stops a node in the middle of whatever it does, for longer than the
// others respect it.
func (p *nodes) standStill(ctx context.Context, proc *stage.Process) error {
	if err := syscall.Kill(proc.PID(), syscall.SIGSTOP); err != nil {
		return err
	}
	err := pause(ctx, stopFor)
	if wake := syscall.Kill(proc.PID(), syscall.SIGCONT); wake != nil {
		return wake
	}
	return err
}

// cut ends all connections of the daemons to the database.
func (p *nodes) cut() error {
	return storetest.Exec(p.database, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'rack-gatewayd'")
}

// balancer passes connections on to a node that takes them, in turn.
type balancer struct {
	listener net.Listener
	nodes    []string
	next     atomic.Uint32
	running  sync.WaitGroup
}

func newBalancer(address string, n int) (*balancer, error) {
	b := &balancer{}
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		b.nodes = append(b.nodes, l.Addr().String())
		if err := l.Close(); err != nil {
			return nil, err
		}
	}
	var err error
	if b.listener, err = net.Listen("tcp", address); err != nil {
		return nil, err
	}
	b.running.Go(func() {
		for {
			conn, err := b.listener.Accept()
			if err != nil {
				return
			}
			b.running.Go(func() { b.carry(conn) })
		}
	})
	return b, nil
}

func (b *balancer) carry(client net.Conn) {
	defer client.Close()
	first := int(b.next.Add(1))
	for i := range b.nodes {
		node, err := net.Dial("tcp", b.nodes[(first+i)%len(b.nodes)])
		if err != nil {
			continue
		}
		var both sync.WaitGroup
		for _, way := range [][2]net.Conn{{client, node}, {node, client}} {
			both.Go(func() {
				io.Copy(way[0], way[1])
				client.Close()
				node.Close()
			})
		}
		both.Wait()
		return
	}
}

func (b *balancer) close() {
	b.listener.Close()
	b.running.Wait()
}
