package soak_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
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

// mostWait is how long the others may wait for a node that stands still while it has
// the lock of the writers.
const mostWait = 6 * time.Second

// TestKillsOfNodes has two daemons work on one PostgreSQL database, behind one
// balancer and with one Slack app. One of them, in turn, is killed around its calls,
// or stands still in the middle of a change; meanwhile connections to the database
// are cut.
func TestKillsOfNodes(t *testing.T) {
	many := *lanes
	if begin(t, "node-kills", "node-stops", "backend-kills", "lanes") {
		enough(t, time.Duration(*nodeKills)*4*time.Second+time.Duration(*nodeStops)*2*stopFor+patience)
	} else {
		many = 8
	}
	database := storetest.Server(t)
	t.Logf("%d kills, %d stops, %d lanes, -seed %d", *nodeKills, *nodeStops, many, *seed)
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
	if err := pair.torment(t.Context(), *nodeKills, *nodeStops, *seed); err != nil {
		t.Error(err)
	}
	c.report(t, time.Since(started))
	t.Logf("%d times connections to the database were ended; a node stood still in the middle of a change %d times, others waited for it %s", pair.cuts.Load(), len(pair.waits), pair.waits)
	if len(pair.waits) > 0 && pair.waits.most() > mostWait {
		t.Errorf("others waited %s for a node that stood still; want at most %s", pair.waits.most(), mostWait)
	}
}

// nodes are two daemons and the balancer before them.
type nodes struct {
	*chamber
	database string
	balancer *stage.Balancer
	slots    [2]*stage.Process
	cuts     atomic.Int64
	waits    times // for a node that stood still
}

func newNodes(c *chamber, database string) (*nodes, error) {
	b, err := c.NewBalancer(2)
	return &nodes{chamber: c, database: database, balancer: b}, err
}

func (p *nodes) close() {
	for _, proc := range p.slots {
		if proc != nil {
			proc.Kill()
		}
	}
	p.balancer.Close()
}

// spawn starts the daemon of a slot.
func (p *nodes) spawn(i int) (err error) {
	url := p.database + "&application_name=" + p.name(i)
	p.slots[i], err = p.Spawn(p.log, "RGW_LISTEN="+p.balancer.Address(i), "RGW_METRICS_LISTEN=", "RGW_DATABASE_URL="+url)
	return err
}

// name is what the server calls the connections of a slot's daemon.
func (p *nodes) name(i int) string { return fmt.Sprintf("soak-%d-%d", os.Getpid(), i) }

func (p *nodes) torment(ctx context.Context, kills, stops int, seed uint64) error {
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
	if *backendKills > 0 {
		playing.Go(func() { p.cutOften(ctx, stop) })
	}
	err := p.kill(ctx, kills, stops, rand.New(rand.NewPCG(seed, 77)))
	close(stop)
	if err != nil {
		return err
	}
	playing.Wait()
	p.verdict(ctx)
	return errors.Join(p.last(ctx, p.slots[:]...), ctx.Err())
}

func (p *nodes) kill(ctx context.Context, kills, stops int, rng *rand.Rand) error {
	for n := 1; kills+stops > 0; n++ {
		i := rng.IntN(2)
		if rng.IntN(8) == 0 && *backendKills == 0 {
			if err := p.cut("true"); err != nil {
				return err
			}
		}
		if rng.IntN(kills+stops) < stops {
			stops--
			if err := p.standStill(ctx, i); err != nil {
				return err
			}
			continue
		}
		kills--
		if _, err := p.killer.round(ctx, p.slots[i]); err != nil {
			return err
		}
		if err := p.spawn(i); err != nil {
			return err
		}
		p.keepAnchor()
		if n%25 == 0 {
			told, broken := p.progress()
			fmt.Fprintf(p.out, "%d kills and stops, at %d points, %d stories, %d violations\n", n, len(p.killer.hits), told, broken)
		}
	}
	return nil
}

// standStill stops a node that has the lock of the writers, for longer than the
// others respect it, and measures how long they wait for the lock.
func (p *nodes) standStill(ctx context.Context, i int) error {
	pid := p.slots[i].PID()
	for {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			return err
		}
		// A transaction that has locked a row has an id.
		caught, err := storetest.Count(p.database, "SELECT count(*) FROM pg_stat_activity WHERE application_name = '"+p.name(i)+"' AND state = 'idle in transaction' AND backend_xid IS NOT NULL")
		if err != nil {
			return errors.Join(err, syscall.Kill(pid, syscall.SIGCONT))
		}
		if caught > 0 {
			break
		}
		if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
			return err
		}
		if err := pause(ctx, 3*time.Millisecond); err != nil {
			return err
		}
	}
	began := time.Now()
	err := storetest.Exec(p.database, "SELECT schema FROM meta FOR UPDATE")
	waited := time.Since(began)
	if err == nil {
		p.waits = append(p.waits, waited)
		err = pause(ctx, stopFor-waited)
	}
	return errors.Join(err, syscall.Kill(pid, syscall.SIGCONT))
}

// cutOften ends connections until stop is closed.
func (p *nodes) cutOften(ctx context.Context, stop <-chan struct{}) {
	tick := time.NewTicker(*backendKills)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		// Preferably the one that writes.
		if err := p.cut("pid = (SELECT pid FROM pg_stat_activity WHERE application_name IN ('" + p.name(0) + "', '" + p.name(1) + "') ORDER BY backend_xid IS NULL, random() LIMIT 1)"); err != nil {
			p.violation(err.Error())
			return
		}
	}
}

// cut ends connections of the daemons to the database.
func (p *nodes) cut(which string) error {
	p.cuts.Add(1)
	return storetest.Exec(p.database, fmt.Sprintf("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name IN ('%s', '%s') AND %s", p.name(0), p.name(1), which))
}
