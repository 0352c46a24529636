package proof

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
	"github.com/rack-gateway/rack-gateway-approvals/store"
)

// History reads the events of a request, oldest first. had are those that were
// read before: only what came after them is read.
func History(tx approvals.Tx, request string, had []approvals.Event) ([]approvals.Event, error) {
	after := int64(-1)
	if len(had) > 0 {
		after = had[len(had)-1].Seq
	}
	lines, err := tx.History(request, after)
	if err != nil {
		return nil, err
	}
	events := slices.Clip(had)
	for _, line := range lines {
		e, err := approvals.ParseEvent(line)
		if err != nil {
			return nil, err
		}
		events = append(events, e)
	}
	return events, nil
}

// Log reads the whole log and checks it (I7) with everything that was ever
// signed, and the database itself (I8).
func Log(ctx context.Context, db *store.DB, key string, anchors [][]byte) (events []approvals.Event, found []string, err error) {
	if err := db.Check(ctx); err != nil {
		found = append(found, fmt.Sprintf("I8: %v", err))
	}
	var newest []byte
	largest := int64(-1)
	err = db.View(ctx, func(tx approvals.Tx) error {
		for _, text := range anchors {
			c, err := ledger.ParseCheckpoint(text, key)
			if err != nil {
				found = append(found, fmt.Sprintf("I7: a checkpoint cannot be read: %v", err))
				continue
			}
			if err := ledger.Consistent(tx.Ledger(), c); err != nil {
				found = append(found, fmt.Sprintf("I7: the checkpoint of %d events: %v", c.Size, err))
			}
			if c.Size > largest {
				largest, newest = c.Size, text
			}
		}
		return nil
	})
	if err != nil {
		return nil, found, err
	}
	read, write := io.Pipe()
	go func() {
		write.CloseWithError(db.View(ctx, func(tx approvals.Tx) error {
			for line, err := range tx.Leaves(0) {
				if err != nil {
					return err
				}
				e, err := approvals.ParseEvent(line)
				if err != nil {
					return err
				}
				events = append(events, e)
				if _, err := write.Write(append(bytes.Clone(line), '\n')); err != nil {
					return err
				}
			}
			return nil
		}))
	}()
	if newest == nil {
		_, err := io.Copy(io.Discard, read)
		return events, found, err
	}
	if _, err := ledger.Verify(read, ledger.VerifyOptions{Checkpoint: newest, Key: key}); err != nil {
		found = append(found, fmt.Sprintf("I7: %v", err))
	}
	_, err = io.Copy(io.Discard, read)
	return events, found, err
}
