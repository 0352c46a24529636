package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
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
func keepReceipt(name string, r ledger.Receipt) (err error) {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode receipt: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".receipt-*") // mode 0600
	if err != nil {
		return fmt.Errorf("keep receipt: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("keep receipt: %w", errors.Join(err, os.Remove(f.Name())))
		}
	}()
	if _, err := f.Write(append(text, '\n')); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
