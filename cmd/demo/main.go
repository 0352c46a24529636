// Command demo plays the whole product on loopback: a simulated Slack and a
// simulated CircleCI with the real daemon and the real client between them. It
// needs no accounts and leaves nothing behind.
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

	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

func main() {
	if code, yes := stage.BeDaemon(context.Background(), os.Args[1:]); yes {
		os.Exit(code)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

const usage = `Usage: demo [--port N] [--http]
       demo --auto [--http]
       demo torture [--kills N] [--seed S] …
       demo load [--rate R] [--for D] …
       demo outage [--for D] [--requests N] …

Serves a page on loopback that shows a simulated Slack and CircleCI with the real
daemon between them, to approve a deploy with the mouse. Ctrl-C removes it all.

--auto plays the story in the terminal, from the CI job's request to the finished
deploy, and exits 0 only if CircleCI shows the gate approved exactly once.

torture kills the daemon again and again while many stories are played, and
exits 0 only if nothing was lost, doubled or silent. load measures. outage takes
Slack and CircleCI away for a while and judges the same way.
`

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 {
		switch args[0] {
		case "torture":
			return torture(ctx, args[1:], stdout, stderr)
		case "load":
			return load(ctx, args[1:], stdout, stderr)
		case "outage":
			return outage(ctx, args[1:], stdout, stderr)
		}
	}
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprint(stderr, usage); flags.PrintDefaults() }
	auto := flags.Bool("auto", false, "play the story in the terminal")
	http := flags.Bool("http", false, "use signed HTTP requests instead of Socket Mode")
	port := flags.Int("port", 0, "port of the page (default: any free one)")
	if code, ok := parse(flags, args); !ok {
		return code
	}
	if flags.NArg() > 0 {
		flags.Usage()
		return 2
	}
	show := func() error { return browse(ctx, stdout, browseOptions{http: *http, port: *port, jobTime: jobTime}) }
	if *auto {
		show = func() error { return play(ctx, stdout, *http) }
	}
	if err := show(); err != nil {
		fmt.Fprintf(stderr, "demo: %v\n", err)
		return 1
	}
	return 0
}

// parse reads flags; not ok means that the program ends with the code.
func parse(flags *flag.FlagSet, args []string) (code int, ok bool) {
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0, false
	case err != nil:
		return 2, false
	}
	return 0, true
}
