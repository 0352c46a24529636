package gateway

import (
	"encoding/json"
	"fmt"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli"
)

// logReceipt puts a receipt into the job's log, as one line of JSON.
func (c *program) logReceipt(r ledger.Receipt) error {
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode receipt: %w", err)
	}
	c.Say("Receipt: %s", text)
	return nil
}

// keepReceipt writes a receipt to a file that only its owner can read. A reader
// sees the whole receipt or the file that was there before, never a part.
func keepReceipt(name string, r ledger.Receipt) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode receipt: %w", err)
	}
	if err := cli.ReplaceFile(name, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("keep receipt: %w", err)
	}
	return nil
}
