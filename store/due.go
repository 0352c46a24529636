package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

func (t *tx) Ask(w approvals.Work) error {
	family, rest, _ := strings.Cut(w.Lane, ":")
	if family == "" || rest == "" {
		return t.failed(fmt.Errorf("ask for %s: malformed lane %q", w.Kind, w.Lane))
	}
	due := w.Due
	if due.IsZero() {
		due = t.now
	}
	// While the row is claimed, again and again_rank collect what is asked for. What
	// is asked for anew has failed once at most: tries that it brought forward do not
	// lengthen the pause after the last one.
	return t.exec(`INSERT INTO due (kind, subject, lane, rank, due) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (kind, subject) DO UPDATE SET
			due = CASE WHEN due.claim = '' AND excluded.due < due.due THEN excluded.due ELSE due.due END,
			rank = CASE WHEN due.claim = '' AND excluded.rank < due.rank THEN excluded.rank ELSE due.rank END,
			attempt = CASE WHEN due.claim = '' AND excluded.due < due.due AND due.attempt > 1 THEN 1 ELSE due.attempt END,
			again_rank = CASE WHEN due.claim <> '' AND (due.again = 0 OR excluded.rank < due.again_rank) THEN excluded.rank ELSE due.again_rank END,
			again = CASE WHEN due.claim <> '' AND (due.again = 0 OR excluded.due < due.again) THEN excluded.due ELSE due.again END`,
		string(w.Kind), w.Subject, w.Lane, w.Rank, due.UnixMilli())
}

// selectLanes skips from lane to lane in an index, so that its cost does not
// depend on how much work there is.
const selectLanes = `WITH RECURSIVE names (lane) AS (
		SELECT min(lane) FROM due WHERE lane >= ?1 AND lane < ?2
		UNION ALL
		SELECT (SELECT min(lane) FROM due WHERE lane > names.lane AND lane < ?2) FROM names WHERE names.lane IS NOT NULL)
	SELECT lane, coalesce((SELECT due FROM due WHERE due.lane = names.lane AND claimed_until <= ?3 ORDER BY due.due LIMIT 1), 0)
	FROM names WHERE lane IS NOT NULL`

func (t *tx) Lanes(family string) ([]approvals.Lane, error) {
	// The lanes of the family are those from "family:" to "family;", the next character.
	from, to := family+":", family+";"
	if family == "" {
		from, to = "", "\x7f" // after every name of a family
	}
	lanes, err := list(t, func(l *approvals.Lane) []any { return []any{&l.Name, stamp{&l.Due}} }, selectLanes, from, to, t.now.UnixMilli())
	return slices.DeleteFunc(lanes, func(l approvals.Lane) bool { return l.Due.IsZero() }), err
}

// selectFree reads from an index in the order in which work is claimed.
const selectFree = `SELECT kind, subject, rank, due, note, attempt FROM due
	WHERE lane = ? AND rank >= ? AND claimed_until <= ? ORDER BY rank, due, id LIMIT ?`

func freeWork(w *approvals.Work) []any {
	return []any{&w.Kind, &w.Subject, &w.Rank, stamp{&w.Due}, &w.Note, &w.Attempt}
}

func (t *tx) Claim(lane string, n int, lease time.Duration) ([]approvals.Work, error) {
	var out []approvals.Work
	now := t.now.UnixMilli()
	// Work that is not due yet is the end of what can be had of a rank.
	for rank, more := math.MinInt, true; more && len(out) < n; {
		found, err := list(t, freeWork, selectFree, lane, rank, now, n-len(out))
		if err != nil {
			return nil, err
		}
		early := slices.IndexFunc(found, func(w approvals.Work) bool { return w.Due.After(t.now) })
		if more = early >= 0; more {
			rank, found = found[early].Rank+1, found[:early]
		}
		out = append(out, found...)
	}
	until := t.now.Add(max(lease, time.Millisecond)).UnixMilli()
	for i := range out {
		w := &out[i]
		w.Lane = lane
		w.Attempt++
		w.Claim = t.db.newClaim()
		err := t.exec(`UPDATE due SET claim = ?, node = ?, claimed_until = ?, attempt = ?, again = 0, again_rank = 0
			WHERE kind = ? AND subject = ?`, w.Claim, t.db.engine.Node(), until, w.Attempt, string(w.Kind), w.Subject)
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// newClaim is a name that no other claim has or had, of this process or another.
func (db *DB) newClaim() string {
	return db.engine.Node() + "-" + strconv.FormatInt(db.claims.Add(1), 36)
}

const selectClaimed = "SELECT 1 FROM due WHERE kind = ? AND subject = ? AND claim = ? AND claim <> ''"

func (t *tx) Claimed(w approvals.Work) error {
	var one int
	err := t.get(selectClaimed, []any{string(w.Kind), w.Subject, w.Claim}, &one)
	if errors.Is(err, approvals.ErrNotFound) {
		return approvals.ErrLostClaim
	}
	return err
}

func (t *tx) Finish(w approvals.Work) error {
	key := []any{string(w.Kind), w.Subject, w.Claim}
	if w.Due.IsZero() {
		done, err := t.change("DELETE FROM due WHERE kind = ? AND subject = ? AND claim = ? AND claim <> '' AND again = 0", key...)
		if err != nil || done == 1 {
			return err
		}
	}
	// With a zero Due only what was asked for meanwhile counts.
	due, rank := w.Due.UnixMilli(), int64(w.Rank)
	if w.Due.IsZero() {
		due, rank = math.MaxInt64, math.MaxInt64
	}
	done, err := t.change(`UPDATE due SET
			due = CASE WHEN again > 0 AND again < ?1 THEN again ELSE ?1 END,
			rank = CASE WHEN again > 0 AND again_rank < ?2 THEN again_rank ELSE ?2 END,
			note = ?3, attempt = CASE WHEN again > 0 AND ?4 > 1 THEN 1 ELSE ?4 END, claim = '', node = '', claimed_until = 0, again = 0, again_rank = 0
		WHERE kind = ?5 AND subject = ?6 AND claim = ?7 AND claim <> ''`,
		append([]any{due, rank, w.Note, w.Attempt}, key...)...)
	if err == nil && done == 0 {
		return approvals.ErrLostClaim
	}
	return err
}

// free ends claims. What was asked for meanwhile is due already with the claim's
// own work.
const free = `UPDATE due SET claim = '', node = '', claimed_until = 0,
	rank = CASE WHEN again > 0 AND again_rank < rank THEN again_rank ELSE rank END, again = 0, again_rank = 0 WHERE node <> '' AND `

// setBack brings forward what was put off by a clock that was set back since. Some of it
// becomes due too early, which costs a look.
func (t *tx) setBack(by time.Duration) error {
	return t.exec("UPDATE due SET due = due - ? WHERE due > ?", by.Milliseconds(), t.now.UnixMilli())
}

// Doubt marks all work as perhaps delivered, so that what can look does so
// before it acts: a restored database does not know what was delivered since.
func (db *DB) Doubt(ctx context.Context) error {
	return db.update(ctx, func(t *tx) error { return t.exec("UPDATE due SET attempt = 1 WHERE attempt < 1") })
}

// FamilyStats describes the work of one family of lanes.
type FamilyStats struct {
	Depth     int       // pieces of work, those that are not due yet included
	OldestDue time.Time // since when the oldest could have been claimed; zero = none is due
}

// WorkStats returns the families that have work.
func (db *DB) WorkStats(ctx context.Context) (map[string]FamilyStats, error) {
	stats := map[string]FamilyStats{}
	err := db.view(ctx, func(t *tx) error {
		now := t.now.UnixMilli()
		return t.each(`SELECT lane, count(*), coalesce(min(CASE WHEN due <= ? AND claimed_until <= ? THEN due END), 0)
			FROM due GROUP BY lane`, []any{now, now}, func(scan func(...any) error) error {
			var lane string
			var n int
			var oldest time.Time
			if err := scan(&lane, &n, stamp{&oldest}); err != nil {
				return err
			}
			family, _, _ := strings.Cut(lane, ":")
			s := stats[family]
			s.Depth += n
			if s.OldestDue.IsZero() || !oldest.IsZero() && oldest.Before(s.OldestDue) {
				s.OldestDue = oldest
			}
			stats[family] = s
			return nil
		})
	})
	return stats, err
}
