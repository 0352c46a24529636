// Command play is the demo; see the package above it, which compiles and runs it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

func main() {
	if code, yes := stage.BeProgram(); yes {
		os.Exit(code)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

const usage = `Usage: demo [--port N] [--http] [--nodes 2]
       demo --auto [--http] [--nodes 2]
       demo --simulators [--port N]

Serves a page on loopback that shows a simulated Slack and CircleCI with the real
daemon between them, to approve a deploy with the mouse. Ctrl-C removes it all.

--auto plays three deploys in the terminal: one is approved, one is rejected, and
one is opened in CircleCI past the bot. It exits 0 only if the first was released
exactly once and deployed, and the others were not deployed.

--nodes 2 has two daemons work on one PostgreSQL database. On the page either of them
can be killed at any moment. With --auto one is killed while a window is open, and one
while it opens a gate; it exits 0 only if each deploy was decided once and each gate
approved once. PostgreSQL is started for it in a directory of its own if it is
installed; RGW_TEST_POSTGRES_URL names another server.

--simulators starts the page, Slack and CircleCI alone, on fixed ports, and prints
the variables with which your own rack-gatewayd and rack-gateway run against them.
They are kept until Ctrl-C, however often you restart the daemon.

`

// jobPace is about what a job of the simulated CircleCI takes.
const jobPace = 3 * time.Second

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprint(stderr, usage); flags.PrintDefaults() }
	auto := flags.Bool("auto", false, "play the story in the terminal")
	simulators := flags.Bool("simulators", false, "start only the page and the simulated Slack and CircleCI, on fixed ports")
	http := flags.Bool("http", false, "use signed HTTP requests instead of Socket Mode")
	nodes := flags.Int("nodes", 1, "how many daemons: 1 with SQLite, or 2 with PostgreSQL")
	port := flags.Int("port", 0, "port of the page (default: any free one; with --simulators 7070, and the two ports above it for Slack and CircleCI)")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	}
	if flags.NArg() > 0 || *nodes != 1 && *nodes != 2 || *nodes > 1 && *simulators || *auto && *simulators || *simulators && *http {
		flags.Usage()
		return 2
	}
	options := browseOptions{http: *http, port: *port, pace: jobPace, simulators: *simulators, nodes: *nodes}
	show := func() error { return browse(ctx, stdout, options) }
	switch {
	case *auto && *nodes > 1:
		show = func() error { return playNodes(ctx, stdout, *http) }
	case *auto:
		show = func() error { return play(ctx, stdout, *http) }
	}
	if err := show(); err != nil {
		fmt.Fprintf(stderr, "demo: %v\n", err)
		return 1
	}
	return 0
}
