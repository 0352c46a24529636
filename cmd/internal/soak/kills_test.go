package soak_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"testing"
	"time"
)

// How often the database is opened and judged between two lives of the daemon.
const autopsyEvery = 50

func TestKills(t *testing.T) {
	many := *lanes
	if begin(t, "kills", "lanes") {
		enough(t, time.Duration(*kills)*2*time.Second+patience)
	} else {
		many = 8
	}
	if *kills < 1 || many < 1 || many > 99 {
		t.Fatal("-kills must be at least 1, and -lanes 1 to 99")
	}
	t.Logf("%d kills, %d lanes, -seed %d", *kills, many, *seed)
	started := time.Now()
	c, err := newChamber(t.Context(), directory(t, "kills"), many, *seed, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	if err := c.torment(t.Context(), *kills, *seed); err != nil {
		t.Errorf("%v; the end of the daemon's log:\n%s", err, c.lastWords())
	}
	c.report(t, time.Since(started))
}

// lastWords is the end of the daemon's log.
func (c *chamber) lastWords() []byte {
	text, err := os.ReadFile(c.log.Name())
	if err != nil {
		return []byte(err.Error())
	}
	return text[max(0, len(text)-2000):]
}

// torment kills the daemon as often as asked while stories are played.
func (c *chamber) torment(ctx context.Context, kills int, seed uint64) error {
	c.killer = newKiller(seed)
	c.killer.attach(c.Stage)
	stop := make(chan struct{})
	var playing sync.WaitGroup
	for _, l := range c.lanes {
		playing.Go(func() { c.run(ctx, l, stop) })
	}
	err := c.kill(ctx, kills)
	close(stop)
	if err != nil {
		return err
	}
	proc, err := c.live(ctx)
	if err != nil {
		return err
	}
	playing.Wait()
	c.verdict(ctx)
	return errors.Join(c.last(ctx, proc), ctx.Err())
}

func (c *chamber) kill(ctx context.Context, kills int) error {
	for n := 1; n <= kills; n++ {
		proc, err := c.Spawn(c.log)
		if err != nil {
			return err
		}
		if _, err := c.killer.round(ctx, proc); err != nil {
			proc.Kill()
			return err
		}
		c.keepAnchor()
		if n%autopsyEvery == 0 {
			if _, err := c.autopsy(ctx); err != nil {
				return err
			}
			told, broken := c.progress()
			fmt.Fprintf(c.out, "%d kills at %d points, %d stories, %d violations\n", n, len(c.killer.hits), told, broken)
		}
	}
	return nil
}

// report tells what was done and found.
func (c *chamber) report(t *testing.T, took time.Duration) {
	points := slices.Sorted(maps.Keys(c.killer.hits))
	total := 0
	for _, p := range points {
		t.Logf("%5d  killed %s", c.killer.hits[p], p)
		total += c.killer.hits[p]
	}
	for _, end := range slices.Sorted(maps.Keys(c.ends)) {
		t.Logf("%5d  %s", c.ends[end], end)
	}
	for _, v := range c.broken {
		t.Errorf("VIOLATION %s", v)
	}
	t.Logf("%d kills at %d points, %d stories, %d checkpoints, %d violations, %s, -seed %d",
		total, len(points), c.told, len(c.anchors), len(c.broken), took.Round(time.Second), *seed)
}
