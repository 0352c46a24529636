package store

import (
	"context"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// RequestCounts counts the requests by status; a status that none has is absent.
func (db *DB) RequestCounts(ctx context.Context) (map[approvals.Status]int, error) {
	counts := map[approvals.Status]int{}
	err := db.view(ctx, func(t *tx) error {
		return t.each("SELECT status, count(*) FROM requests GROUP BY status", nil, func(scan func(...any) error) error {
			var status approvals.Status
			var n int
			if err := scan(&status, &n); err != nil {
				return err
			}
			counts[status] = n
			return nil
		})
	})
	return counts, err
}
