package soak_test

import (
	"context"
	"flag"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// The flags; the package's doc comment tells of each.
var (
	kills = flag.Int("kills", 12, "how often the daemon is killed")
	lanes = flag.Int("lanes", 24, "stories that are played side by side between the kills")

	nodeKills    = flag.Int("node-kills", 8, "how often one of two daemons on PostgreSQL is killed")
	nodeStops    = flag.Int("node-stops", 1, "how often one of them stands still for 15 s in the middle of a change")
	backendKills = flag.Duration("backend-kills", 0, "how often a connection of theirs is ended (0 = sometimes all of them)")
	_            = flag.Bool("clocks", false, "have the clock of one of two daemons be wrong")
	_            = flag.Bool("distance", false, "play decisions with a database server that is 2 ms away")
	_            = flag.Bool("failovers", false, "have servers of PostgreSQL die")
	takeovers    = flag.Int("takeovers", 0, "how often one of two daemons is killed, and how often stopped, while requests are filed")

	outage   = flag.Duration("outage", 4*time.Second, "how long a service is away")
	window   = flag.Duration("window", 0, "how long an approval stays usable, whole minutes (default: half of -outage, at least 1m)")
	requests = flag.Int("requests", 0, "requests that are filed while Slack is away (default: one every five seconds, at least 6)")

	loadFor     = flag.Duration("load-for", time.Second, "how long requests are filed at a fixed rate")
	loadRate    = flag.Int("load-rate", 100, "creates per second")
	loadPending = flag.Int("load-pending", 1000, "requests that are pending before")
	loadDecided = flag.Int("load-decided", 30, "requests that are approved one by one, before and after")
	loadApps    = flag.Int("load-apps", 300, "apps, each with a channel")
	loadDrain   = flag.Duration("load-drain", 5*time.Minute, "how long to wait for all cards and the first lines of their threads")
	loadDaemon  = flag.String("load-daemon", "", "the rack-gatewayd that is measured; without it, the test program")
	loadHistory = flag.String("load-history", "", "the database that the daemon starts with, which ./approvals makes with -quarter.keep and -quarter.times")
	loadIdle    = flag.Duration("load-idle", 0, "how long the daemon is watched while it has nothing to do")

	seed = flag.Uint64("seed", rand.Uint64(), "what chooses stories, kills and places")
	keep = flag.String("dir", "", "keep databases and logs in this directory")
)

// The test program is the daemon when it is started as one.
func TestMain(m *testing.M) {
	if code, yes := stage.BeProgram(); yes {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// begin says whether a machine runs at length, as its flags say, or briefly. A
// machine that no flag asked for is left out while another runs at length.
func begin(t *testing.T, own ...string) (long bool) {
	t.Helper()
	others := false
	flag.Visit(func(f *flag.Flag) {
		switch {
		case slices.Contains(own, f.Name):
			long = true
		case !strings.HasPrefix(f.Name, "test.") && f.Name != "seed" && f.Name != "dir":
			others = true
		}
	})
	switch {
	case others && !long:
		t.Skip("left out, because the flags ask for another machine")
	case !long && testing.Short():
		t.Skip("left out, because it takes half a minute")
	case !long:
		t.Parallel()
	}
	return long
}

// only leaves out a machine that runs only when its own flag asks for it: what it
// measures is worth nothing beside other tests.
func only(t *testing.T, own string) {
	t.Helper()
	if !begin(t, own) {
		t.Skip("left out, because -" + own + " does not ask for it")
	}
}

// enough fails when go test would end the machine before it is done.
func enough(t *testing.T, need time.Duration) {
	t.Helper()
	if deadline, ok := t.Deadline(); ok && time.Until(deadline) < need {
		t.Fatalf("this can take %s, and go test ends it in %s: say -timeout 0", need.Round(time.Second), time.Until(deadline).Round(time.Second))
	}
}

// directory is where a machine keeps its files.
func directory(t *testing.T, name string) string {
	t.Helper()
	if *keep == "" {
		return t.TempDir()
	}
	dir := *keep + "/" + name
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// pause waits; the error is ctx's.
func pause(ctx context.Context, d time.Duration) error {
	if !approvals.Pause(ctx, d) {
		return context.Cause(ctx)
	}
	return nil
}

// again repeats a step until it is done or the time is over.
func again(ctx context.Context, step func() bool) error {
	for !step() {
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}
