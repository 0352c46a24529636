package gatewayd

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
)

// selfCheckEvery is how often the database and the log are read as a whole.
const selfCheckEvery = 24 * time.Hour

// selfCheck looks daily whether the file is whole and the log still is what was
// signed. A finding stops decisions until a restart finds the cause gone.
func (d *daemon) selfCheck(ctx context.Context) {
	for sleep(ctx, selfCheckEvery) {
		err := d.db.Check(ctx)
		if err == nil {
			err = verifyLog(ctx, d.db, d.signer)
		}
		if ctx.Err() != nil {
			return
		}
		d.health.set(partIntegrity, err)
		if err != nil {
			d.log.Error("nothing is approved: the daily check of the database failed", "err", err)
		}
	}
}

// verifyLog checks every leaf of the log against the tree that is signed.
func verifyLog(ctx context.Context, store approvals.Store, signer *ledger.Signer) error {
	var checkpoint []byte
	err := store.View(ctx, func(tx approvals.Tx) error {
		size, err := tx.Ledger().Size()
		if err != nil {
			return err
		}
		root, err := ledger.Root(tx.Ledger(), size)
		if err != nil {
			return err
		}
		checkpoint, err = signer.Checkpoint(size, root)
		return err
	})
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	lines, w := io.Pipe()
	go func() {
		w.CloseWithError(store.View(ctx, func(tx approvals.Tx) error {
			for line, err := range tx.Leaves(0) {
				if err != nil {
					return err
				}
				if _, err := io.Copy(w, io.MultiReader(bytes.NewReader(line), bytes.NewReader([]byte{'\n'}))); err != nil {
					return err
				}
			}
			return nil
		}))
	}()
	_, err = ledger.Verify(lines, ledger.VerifyOptions{Checkpoint: checkpoint, Key: signer.VerifierKey()})
	lines.CloseWithError(io.ErrClosedPipe)
	if err != nil {
		return fmt.Errorf("verify the log: %w", err)
	}
	return nil
}
