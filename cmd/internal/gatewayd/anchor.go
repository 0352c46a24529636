package gatewayd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
	"github.com/rack-gateway/rack-gateway-approvals/store"
)

// anchorPause is the least time between two writes of the anchor file: a burst
// of commits is covered by the checkpoint after it.
const anchorPause = 250 * time.Millisecond

// anchorTick is how soon an event of an operator's command, which runs in
// another process, is covered.
const anchorTick = 2 * time.Second

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

// run writes the newest checkpoint after every commit until ctx ends, and once
// more then. It tells how each writing went.
func (a *anchor) run(ctx context.Context, tell func(error)) {
	for over := false; !over; {
		over = ctx.Err() != nil
		changed := a.service.Changed()
		tell(a.write(context.WithoutCancel(ctx)))
		if !sleep(ctx, anchorPause) {
			continue // once more, then out
		}
		others := time.NewTimer(anchorTick)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-others.C:
		}
		others.Stop()
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
	if err := replaceFile(a.path, text); err != nil {
		return fmt.Errorf("write RGW_ANCHOR_FILE: %w", err)
	}
	a.last = text
	a.written()
	return nil
}

// anchored takes how a writing of the anchor file went. The file is a witness,
// not a part of any decision: without it an old copy that is restored later is
// noticed against an older checkpoint, so that its trouble degrades only.
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

// replaceFile puts text in place of a file, so that a reader or a crash finds
// either the old or the new one whole.
func replaceFile(path string, text []byte) error {
	// One name, so that a crash leaves at most one: only one daemon writes.
	f, err := os.OpenFile(path+".tmp", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
