// Command rack-gatewayd is the bot: "serve" runs webhook, Slack, CircleCI and
// store in one process, the other commands are the operator's.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/gatewayd"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := gatewayd.Run(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
