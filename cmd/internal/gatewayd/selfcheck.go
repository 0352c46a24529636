package gatewayd

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/store"
)

const (
	// checkEvery is how often the file of the database is read as a whole.
	checkEvery = 24 * time.Hour
	// checkAgain is how soon a check is repeated that failed without a finding.
	checkAgain = time.Minute
)

// checkFile checks the whole file of the database for damage, beside the service:
// daily, and first after a while, which is none after a stop that was not clean. A
// finding stops decisions until a day later, and so does a check that fails until it is
// repeated. Whether the log is the one that was signed is verified by the core at every
// start.
func (h *health) checkFile(ctx context.Context, wait time.Duration, check func(context.Context) error, log *slog.Logger) {
	for approvals.Pause(ctx, wait) {
		err := check(ctx)
		if ctx.Err() != nil {
			return
		}
		turned := h.set(partIntegrity, err)
		wait = checkEvery
		switch damaged := errors.Is(err, store.ErrDamaged); {
		case err == nil && turned:
			log.Info("the check of the database file finds nothing wrong again")
		case damaged:
			log.Error("nothing is approved, because the check of the database file failed: see Restore in cmd/rack-gatewayd/README.md", "err", err)
		case err != nil:
			wait = checkAgain
			if turned {
				log.Error("nothing is approved, because the database file could not be checked; it is tried again every minute", "err", err)
			}
		}
	}
}
