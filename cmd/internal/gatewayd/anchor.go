package gatewayd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli"
	"github.com/rack-gateway/rack-gateway-approvals/store"
)

// anchorPause is the least time between two writes of the anchor file: a burst
// of commits is covered by the checkpoint after it.
const anchorPause = 250 * time.Millisecond

// anchorAgain is how soon a writing that failed is repeated.
const anchorAgain = 2 * time.Second

// anchor keeps the newest signed checkpoint in a file outside the data volume.
type anchor struct {
	path    string
	service *approvals.Service
	held    func() error // nil while no other daemon writes the file
	written func()       // after each write
	last    []byte
}

// checkAnchor compares the log with the checkpoint in the anchor file. A reason
// means that the database does not continue what was signed: an old copy was
// restored, or it is another one.
func checkAnchor(ctx context.Context, path string, db *store.DB, signer *ledger.Signer) (reason string, err error) {
	if path == "" {
		return "", nil
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read RGW_ANCHOR_FILE: %w", err)
	}
	checkpoint, err := ledger.ParseCheckpoint(text, signer.VerifierKey())
	if err != nil {
		// After a recovery the file may still hold what the old origin signed.
		before, failed := approvals.VerifierBefore(ctx, db)
		if failed != nil {
			return "", failed
		}
		if before != "" {
			if _, err := ledger.ParseCheckpoint(text, before); err == nil {
				return "", nil
			}
		}
		return "the checkpoint in RGW_ANCHOR_FILE was not signed by this database's log", nil
	}
	err = db.View(ctx, func(tx approvals.Tx) error { return ledger.Consistent(tx.Ledger(), checkpoint) })
	switch {
	case errors.Is(err, ledger.ErrBehind):
		return fmt.Sprintf("the database is older than the checkpoint of %d events in RGW_ANCHOR_FILE: an old copy was restored", checkpoint.Size), nil
	case errors.Is(err, ledger.ErrInconsistent):
		return fmt.Sprintf("the log differs from the checkpoint of %d events in RGW_ANCHOR_FILE", checkpoint.Size), nil
	}
	return "", err
}

// logFault says why the daemon would approve nothing with this log: what was found
// wrong with it before, what its head says now, or [checkAnchor]; "" = nothing is known.
func logFault(ctx context.Context, anchor string, db *store.DB) (fault string, err error) {
	signer, err := approvals.OpenLog(ctx, db)
	if err != nil {
		return "", err
	}
	if fault, err = approvals.LogFault(ctx, db); err != nil || fault != "" {
		return fault, err
	}
	return checkAnchor(ctx, anchor, db, signer)
}

// run writes the newest checkpoint after every commit until ctx ends, and once
// more then. It tells how each writing went.
func (a *anchor) run(ctx context.Context, tell func(error)) {
	for over := false; !over; {
		over = ctx.Err() != nil
		changed, had := a.service.Grown(), a.last
		err := a.write(context.WithoutCancel(ctx))
		tell(err)
		if (err != nil || !bytes.Equal(a.last, had)) && !approvals.Pause(ctx, anchorPause) {
			continue // once more, then out
		}
		var again <-chan time.Time
		if err != nil {
			again = time.After(anchorAgain)
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-again:
		}
	}
}

func (a *anchor) write(ctx context.Context) error {
	if err := a.held(); err != nil {
		return err
	}
	text, err := a.service.Checkpoint(ctx, 0)
	if err != nil {
		return fmt.Errorf("sign a checkpoint: %w", err)
	}
	if string(text) == string(a.last) {
		return nil
	}
	if err := a.continues(ctx, text); err != nil {
		return err
	}
	if a.last == nil { // gone later, its volume is gone, and another directory is no substitute
		if err := os.MkdirAll(filepath.Dir(a.path), 0o755); err != nil {
			return fmt.Errorf("make the directory of RGW_ANCHOR_FILE: %w", err)
		}
	}
	if err := replaceFile(a.path, text); err != nil {
		return fmt.Errorf("write RGW_ANCHOR_FILE: %w", err)
	}
	a.last = text
	a.written()
	return nil
}

// continues refuses to put a checkpoint in place of one that it does not continue:
// the file is a witness, and never goes back.
func (a *anchor) continues(ctx context.Context, text []byte) error {
	there, err := os.ReadFile(a.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("read RGW_ANCHOR_FILE: %w", err)
	case a.last != nil && string(there) == string(a.last):
		return nil // the log was proven since
	}
	key := a.service.VerifierKey()
	had, err := ledger.ParseCheckpoint(there, key)
	if err != nil {
		if a.last == nil {
			return nil // of the log before the recovery: the start has judged it
		}
		return errors.New("RGW_ANCHOR_FILE no longer holds a checkpoint of this log: another daemon may write to it. Give each daemon a file of its own, or move this one away")
	}
	next, err := ledger.ParseCheckpoint(text, key)
	if err != nil {
		return err
	}
	same := had.Size <= next.Size
	if same && had.Size > 0 { // every log continues the empty one
		var before ledger.Checkpoint
		note, err := a.service.Checkpoint(ctx, had.Size)
		if err == nil {
			before, err = ledger.ParseCheckpoint(note, key)
		}
		if err != nil {
			return fmt.Errorf("sign the checkpoint of %d events: %w", had.Size, err)
		}
		same = before.Root == had.Root
	}
	if !same {
		return fmt.Errorf("RGW_ANCHOR_FILE holds a checkpoint of %d events, which the one of %d events does not continue", had.Size, next.Size)
	}
	return nil
}

// anchored notes whether the anchor file could be written. The file is a witness and
// no part of any decision. While it cannot be written, an old copy of the database
// that is restored later is compared with an older checkpoint, so the daemon is only
// degraded.
func (d *daemon) anchored(err error) {
	if !d.health.set(partAnchor, err) {
		return
	}
	if err != nil {
		d.log.Error("the newest checkpoint is not in its file", "err", err)
		return
	}
	d.log.Info("the newest checkpoint is in its file again")
}

// replaceFile puts text in place of a file that everybody may read.
func replaceFile(path string, text []byte) error { return cli.ReplaceFile(path, text, 0o644) }
