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
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

const usage = `Usage: demo [--port N] [--http]
       demo --auto [--http]

Serves a page on loopback that shows a simulated Slack and CircleCI with the real
daemon between them, to approve a deploy with the mouse. Ctrl-C removes it all.

--auto plays the story in the terminal, from the CI job's request to the finished
deploy, and exits 0 only if CircleCI shows the gate approved exactly once.
`

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprint(stderr, usage); flags.PrintDefaults() }
	auto := flags.Bool("auto", false, "play the story in the terminal")
	http := flags.Bool("http", false, "use signed HTTP requests instead of Socket Mode")
	port := flags.Int("port", 0, "port of the page (default: any free one)")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
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
