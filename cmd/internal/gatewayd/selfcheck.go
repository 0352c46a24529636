package gatewayd

import (
	"context"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// checkEvery is how often the file of the database is read as a whole.
const checkEvery = 24 * time.Hour

// checkFile checks the whole file of the database for damage, beside the service:
// after a stop that was not clean, and daily. A finding stops decisions. Whether the
// log is the one that was signed is verified by the core at every start.
func (d *daemon) checkFile(ctx context.Context) {
	for now := d.db.Unclean(); ; now = true {
		if !now && !approvals.Pause(ctx, checkEvery) {
			return
		}
		err := d.db.Check(ctx)
		if ctx.Err() != nil {
			return
		}
		d.health.set(partIntegrity, err)
		if err != nil {
			d.log.Error("nothing is approved, because the check of the database file failed: see Restore in cmd/rack-gatewayd/README.md", "err", err)
		}
		if !approvals.Pause(ctx, checkEvery) {
			return
		}
	}
}
