package gatewayd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli"
	"github.com/rack-gateway/rack-gateway-approvals/store"
)

const (
	// watchStoreEvery is how often the daemon tries whether it can write, so that
	// decisions are refused at the click and not after the code. A try is most of what
	// it does at rest: while the disk writes, the Go runtime wakes up every 0.07 ms.
	watchStoreEvery = 10 * time.Second
	// watchStoreAgain is the same while it cannot write. Both are more than
	// [probeEvery], so that each time is a try.
	watchStoreAgain = 5 * time.Second
	// brokenTime is how long trouble that does not pass by itself may last.
	brokenTime = 2 * time.Minute
)

// storeWatch notices when the database cannot be written, and when it can again.
//
// I/O errors, damage and replaced files ([store.Broken]) end the process after
// brokenTime, with a code that makes a supervisor start it anew: that opens the
// files afresh and checks them, and refuses to start, with the reason, when they
// are bad. What a start would not fix does not end it. On a disk that is full
// or read-only, requests can still be read, callers get a clear answer, and the
// first write that succeeds ends the trouble. When the database file is gone, a
// start would make an empty one, and this process may be all that still has the
// old one (/proc/PID/fd): it stays, and refuses everything. When a newer version has
// migrated the database, this one must not write any more, and ends at once.
type storeWatch struct {
	probe func(context.Context) error // a write
	gone  func() bool                 // whether the database file is
	log   *slog.Logger
}

// run returns why the process must end, or nil at the end of ctx.
func (w storeWatch) run(ctx context.Context) error {
	failing := false
	var broken time.Time // since when, zero = not
	for pause := watchStoreEvery; approvals.Pause(ctx, pause); {
		err := w.probe(ctx)
		switch {
		case err != nil && !failing:
			w.log.Error("nothing is recorded or decided: " + unwritable(err))
		case err == nil && failing:
			w.log.Info("the database can be written again")
		}
		failing, pause = err != nil, watchStoreEvery
		if failing {
			pause = watchStoreAgain
		}
		if errors.Is(err, store.ErrNewerSchema) {
			return err
		}
		switch {
		case !store.Broken(err) || w.gone():
			broken = time.Time{}
		case broken.IsZero():
			broken = time.Now()
		case time.Since(broken) >= brokenTime:
			return fmt.Errorf("the database has not worked for %s: %w", cli.Duration(time.Since(broken).Round(time.Second)), err)
		}
	}
	return nil
}
