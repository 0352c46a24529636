// Command rack-gateway is the client for CI jobs and terminals: it asks for
// deploy approvals, waits for them, and runs deploys under them.
package main

import (
	"os"

	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/gateway"
)

func main() {
	os.Exit(gateway.Main())
}
