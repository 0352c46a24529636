package gatewayd

import (
	"testing"

	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli/clitest"
)

func TestHelpOfEveryCommand(t *testing.T) {
	t.Parallel()
	clitest.Walk(t, (&program{}).root())
}
