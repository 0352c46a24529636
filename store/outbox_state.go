package store

import (
	"context"
	"time"
)

// ReleaseLeases ends all claims and holds, so that effects which a dead process
// had claimed need not wait for their leases, and what the operator mended before
// the start is tried at once. Call it before any worker starts, and
// only while holding the [Lock] of the database.
func (db *DB) ReleaseLeases(ctx context.Context) error {
	return db.update(ctx, func(t *tx) error {
		var lanes []string
		collect := func(scan func(...any) error) error {
			var lane string
			if err := scan(&lane); err != nil {
				return err
			}
			lanes = append(lanes, lane)
			return nil
		}
		if err := t.each("UPDATE outbox SET state = ?, lease_until = 0 WHERE state = ? RETURNING lane", []any{waiting, claimed}, collect); err != nil {
			return err
		}
		if err := t.each("UPDATE lanes SET hold = 0, reason = '' WHERE hold > 0 RETURNING lane", nil, collect); err != nil {
			return err
		}
		for _, lane := range lanes {
			if err := t.settle(lane); err != nil {
				return err
			}
		}
		return nil
	})
}

// FamilyStats describes the outbox of one family.
type FamilyStats struct {
	Depth     int       // effects in it, those that are not due included
	OldestDue time.Time // since when the oldest due effect could have been claimed; zero = none is due
}

// OutboxStats returns the families that have effects.
func (db *DB) OutboxStats(ctx context.Context) (map[string]FamilyStats, error) {
	stats := map[string]FamilyStats{}
	err := db.view(ctx, func(t *tx) error {
		return t.each(`SELECT family, count(*), coalesce(min(CASE WHEN state IN (0, 1) AND due <= ? THEN due END), 0)
			FROM outbox JOIN lanes USING (lane) GROUP BY family`, []any{time.Now().UnixMilli()},
			func(scan func(...any) error) error {
				var family string
				var s FamilyStats
				if err := scan(&family, &s.Depth, stamp{&s.OldestDue}); err != nil {
					return err
				}
				stats[family] = s
				return nil
			})
	})
	return stats, err
}

// Doubt marks every effect as perhaps delivered, so that what can look does so
// before it acts: a restored outbox does not know what was delivered since.
func (db *DB) Doubt(ctx context.Context) error {
	return db.update(ctx, func(t *tx) error {
		_, err := t.exec("UPDATE outbox SET attempt = max(attempt, 1)")
		return err
	})
}
