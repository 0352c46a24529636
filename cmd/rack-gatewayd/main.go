// Command rack-gatewayd is the bot: "serve" runs webhook, Slack, CircleCI and
// store in one process, the other commands are the operator's.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/gatewayd"
)

func main() {
	// A heap of 2 to 3 MB needs no 4 MB and more of garbage beside it: collecting twice as
	// often takes 4 MB off the peak under load and 1 % of a processor there.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := gatewayd.Run(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
