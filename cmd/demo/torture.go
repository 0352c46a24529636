package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

const tortureUsage = `Usage: demo torture [--kills N] [--seed S] [--lanes L] [--dir DIR]

Runs the real daemon as a process against a simulated Slack and CircleCI, plays
many stories at once and kills the daemon (SIGKILL) again and again: around each
of its calls, while clicks are worked on, while it starts and at random moments.
What people, CI and CircleCI see must fit together afterwards. Exits 0 only if
it does; otherwise it tells the whole story.
`

// How often the database is opened and judged between two lives of the daemon.
const autopsyEvery = 50

// startTime is how long a daemon may take to be ready at the end.
const startTime = 15 * time.Second

func torture(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("demo torture", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprint(stderr, tortureUsage); flags.PrintDefaults() }
	kills := flags.Int("kills", 100, "how often the daemon is killed")
	seed := flags.Uint64("seed", rand.Uint64(), "what chooses stories and kills")
	lanes := flags.Int("lanes", 24, "how many stories are played side by side")
	dir := flags.String("dir", "", "keep database and log in this directory (default: a temporary one)")
	if code, ok := parse(flags, args); !ok {
		return code
	}
	if flags.NArg() > 0 || *kills < 1 || *lanes < 1 || *lanes > 99 {
		flags.Usage()
		return 2
	}
	if *dir == "" {
		temporary, err := os.MkdirTemp("", "rack-gateway-torture-")
		if err != nil {
			fmt.Fprintf(stderr, "demo torture: %v\n", err)
			return 1
		}
		defer os.RemoveAll(temporary)
		*dir = temporary
	}
	fmt.Fprintf(stdout, "seed %d, %d kills, %d lanes\n", *seed, *kills, *lanes)
	started := time.Now()
	c, err := newChamber(ctx, *dir, *lanes, *seed)
	if err == nil {
		defer c.Close()
		err = c.torment(ctx, *kills, *seed, stdout)
	}
	if err != nil {
		fmt.Fprintf(stderr, "demo torture: %v\n", err)
		return 1
	}
	return c.report(stdout, *seed, time.Since(started))
}

// torment kills the daemon as often as asked while stories are played.
func (c *chamber) torment(ctx context.Context, kills int, seed uint64, out io.Writer) error {
	c.killer = newKiller(seed)
	c.killer.attach(c.Stage)
	stop := make(chan struct{})
	var playing sync.WaitGroup
	for _, l := range c.lanes {
		playing.Go(func() { l.run(ctx, stop) })
	}
	err := c.kill(ctx, kills, out)
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
	if err := proc.Stop(); err != nil {
		c.violation(fmt.Sprintf("the daemon did not stop well: %v", err))
	}
	c.keepAnchor()
	events, err := c.autopsy(ctx)
	if err != nil {
		return err
	}
	c.last(events)
	return ctx.Err()
}

func (c *chamber) kill(ctx context.Context, kills int, out io.Writer) error {
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
			fmt.Fprintf(out, "%d kills at %d points, %d stories, %d violations\n", n, len(c.killer.hits), c.told(), len(c.broken))
		}
	}
	return nil
}

// live starts a daemon that nobody kills, and waits until it is ready.
func (c *chamber) live(ctx context.Context) (*stage.Process, error) {
	proc, err := c.Spawn(c.log)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	if err := c.Ready(ctx, proc); err != nil {
		proc.Kill()
		return nil, fmt.Errorf("the daemon is not ready after all kills: %w", err)
	}
	return proc, nil
}

func (c *chamber) told() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.stories)
}

// report prints what was done and found, and returns the exit code.
func (c *chamber) report(out io.Writer, seed uint64, took time.Duration) int {
	points := slices.Sorted(maps.Keys(c.killer.hits))
	total := 0
	for _, p := range points {
		fmt.Fprintf(out, "%5d  killed %s\n", c.killer.hits[p], p)
		total += c.killer.hits[p]
	}
	byKind := map[string]int{}
	for _, s := range c.stories {
		byKind[s.kind]++
	}
	for _, k := range slices.Sorted(maps.Keys(byKind)) {
		fmt.Fprintf(out, "%5d  %s\n", byKind[k], k)
	}
	for _, v := range c.broken {
		fmt.Fprintf(out, "\nVIOLATION %s\n", v)
	}
	fmt.Fprintf(out, "%d kills at %d points, %d stories, %d checkpoints, %d violations, %s, seed %d\n",
		total, len(points), len(c.stories), len(c.anchors), len(c.broken), took.Round(time.Second), seed)
	if len(c.broken) > 0 {
		return 1
	}
	return 0
}
