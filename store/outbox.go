package store

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// The states of an effect. Only the oldest of a chain is waiting, ready or
// claimed; those behind it are blocked. At most one of a lane is claimed.
//
// The table lanes says when each lane can be claimed from next: at the end of
// its lease, else at the earliest due of its rows that are not blocked, and never
// before the end of its hold. With it a claim costs the same however many effects
// wait.
const (
	waiting = 0 // until due
	ready   = 1 // due has passed
	claimed = 2
	blocked = 3
)

func (t *tx) Enqueue(e approvals.Effect) error {
	family, name, found := strings.Cut(e.Lane, ":")
	if !found || family == "" || name == "" {
		return fmt.Errorf("enqueue %s: malformed lane %q", e.Kind, e.Lane)
	}
	now := time.Now().UnixMilli()
	due := now
	if !e.Due.IsZero() {
		due = e.Due.UnixMilli()
	}
	var dedupe any
	if e.Dedupe != "" {
		dedupe = e.Dedupe
		switch lane, err := t.bringForward(e, due); {
		case err == nil:
			return t.settle(lane)
		case !errors.Is(err, approvals.ErrNotFound):
			return err
		}
	}
	_, err := t.exec(`INSERT INTO outbox (kind, lane, chain, dedupe, priority, request, seq, payload, due, since, state)
		VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10,
			CASE WHEN ?3 <> '' AND EXISTS (SELECT 1 FROM outbox WHERE lane = ?2 AND chain = ?3) THEN ?11 ELSE ?12 END)`,
		e.Kind, e.Lane, e.Chain, dedupe, e.Priority, e.Request, e.Seq, e.Payload, due, now, blocked, waiting)
	if err != nil {
		return fmt.Errorf("enqueue %s: %w", e.Kind, err)
	}
	return t.settle(e.Lane)
}

// bringForward finds the row with e's dedupe and makes it due at due or before.
// A claimed row keeps its due until the claim ends.
func (t *tx) bringForward(e approvals.Effect, due int64) (lane string, err error) {
	err = t.get(`UPDATE outbox SET seq = ?1, payload = ?2,
			due = CASE WHEN state = ?3 THEN due ELSE min(due, ?4) END,
			nudge = CASE WHEN state <> ?3 THEN 0 WHEN nudge = 0 THEN ?4 ELSE min(nudge, ?4) END
		WHERE dedupe = ?5 RETURNING lane`,
		[]any{e.Seq, e.Payload, claimed, due, e.Dedupe}, &lane)
	return lane, err
}

func (t *tx) Claim(family string, now time.Time, lease time.Duration) (approvals.Effect, error) {
	var lane string
	ms := now.UnixMilli()
	err := t.get("SELECT lane FROM lanes WHERE family = ? AND wake <= ? ORDER BY wake, lane LIMIT 1", []any{family, ms}, &lane)
	if err != nil {
		return approvals.Effect{}, err
	}
	// A claim that is still there has run out, else the lane would not wake.
	if _, err := t.exec("UPDATE outbox SET state = ?, lease_until = 0 WHERE lane = ? AND state = ?", ready, lane, claimed); err != nil {
		return approvals.Effect{}, err
	}
	if _, err := t.exec("UPDATE outbox SET state = ? WHERE lane = ? AND state = ? AND due <= ?", ready, lane, waiting, ms); err != nil {
		return approvals.Effect{}, err
	}
	e := approvals.Effect{Lane: lane}
	err = t.get(`UPDATE outbox SET state = ?1, attempt = attempt + 1, lease_until = ?2, nudge = 0
		WHERE id = (SELECT id FROM outbox WHERE lane = ?3 AND state = ?4 ORDER BY priority, due, id LIMIT 1)
		RETURNING id, kind, chain, coalesce(dedupe, ''), priority, request, seq, payload, due, attempt, since`,
		[]any{claimed, now.Add(lease).UnixMilli(), lane, ready},
		&e.ID, &e.Kind, &e.Chain, &e.Dedupe, &e.Priority, &e.Request, &e.Seq, &e.Payload, stamp{&e.Due}, &e.Attempt, stamp{&e.Since})
	if err != nil {
		return approvals.Effect{}, fmt.Errorf("claim in lane %s: %w", lane, err)
	}
	return e, t.settle(lane)
}

func (t *tx) Holds(e approvals.Effect) error {
	_, err := t.nudge(e)
	return err
}

// nudge reads when e was asked for again since its claim, 0 = not at all.
func (t *tx) nudge(e approvals.Effect) (int64, error) {
	var at int64
	err := t.get("SELECT nudge FROM outbox WHERE id = ? AND attempt = ? AND state = ?", []any{e.ID, e.Attempt, claimed}, &at)
	if errors.Is(err, approvals.ErrNotFound) {
		return 0, approvals.ErrLostLease
	}
	return at, err
}

func (t *tx) Finish(e approvals.Effect, due time.Time, reason string) error {
	nudge, err := t.nudge(e)
	if err != nil {
		return err
	}
	next := millis(due)
	if nudge != 0 && (next == 0 || nudge < next) {
		next = nudge
	}
	var lane, chain string
	if next != 0 {
		err := t.get(`UPDATE outbox SET state = ?, due = ?, lease_until = 0, nudge = 0, reason = ? WHERE id = ? RETURNING lane`,
			[]any{waiting, next, reason, e.ID}, &lane)
		if err != nil {
			return err
		}
		return t.settle(lane)
	}
	if err := t.get("DELETE FROM outbox WHERE id = ? RETURNING lane, chain", []any{e.ID}, &lane, &chain); err != nil {
		return err
	}
	if chain != "" {
		_, err := t.exec(`UPDATE outbox SET state = ?1
			WHERE id = (SELECT min(id) FROM outbox WHERE lane = ?2 AND chain = ?3) AND state = ?4`,
			waiting, lane, chain, blocked)
		if err != nil {
			return err
		}
	}
	return t.settle(lane)
}

func (t *tx) Hold(e approvals.Effect, until time.Time, reason string) error {
	if err := t.Holds(e); err != nil {
		return err
	}
	if _, err := t.exec("UPDATE outbox SET state = ?, lease_until = 0, nudge = 0, reason = ? WHERE id = ?", waiting, reason, e.ID); err != nil {
		return err
	}
	if _, err := t.exec("UPDATE lanes SET hold = ?, reason = ? WHERE lane = ?", millis(until), reason, e.Lane); err != nil {
		return err
	}
	return t.settle(e.Lane)
}

func (t *tx) Held(lane string, now time.Time) (reason string, err error) {
	err = t.get("SELECT reason FROM lanes WHERE lane = ? AND hold > ?", []any{lane, now.UnixMilli()}, &reason)
	if errors.Is(err, approvals.ErrNotFound) {
		return "", nil
	}
	return reason, err
}

// settle writes down when the lane wakes. It belongs at the end of every change
// of a row of the lane.
func (t *tx) settle(lane string) error {
	var wake *int64
	err := t.get("SELECT min(lease_until) FROM outbox WHERE lane = ? AND state = ?", []any{lane, claimed}, &wake)
	if err != nil {
		return err
	}
	if wake == nil {
		if wake, err = t.earliestDue(lane); err != nil {
			return err
		}
	}
	if wake == nil {
		_, err = t.exec("DELETE FROM lanes WHERE lane = ?", lane)
		return err
	}
	family, _, _ := strings.Cut(lane, ":")
	_, err = t.exec("INSERT INTO lanes (lane, family, wake) VALUES (?, ?, ?) ON CONFLICT (lane) DO UPDATE SET wake = max(excluded.wake, hold)",
		lane, family, *wake)
	return err
}

// earliestDue is nil for a lane without effects.
func (t *tx) earliestDue(lane string) (*int64, error) {
	var earliest *int64
	for _, state := range []int{waiting, ready} {
		var due *int64
		if err := t.get("SELECT min(due) FROM outbox WHERE lane = ? AND state = ?", []any{lane, state}, &due); err != nil {
			return nil, err
		}
		if earliest == nil || due != nil && *due < *earliest {
			earliest = due
		}
	}
	return earliest, nil
}

func (t *tx) NextDue(families ...string) ([]time.Time, error) {
	due := make([]time.Time, len(families))
	var columns []string
	var args, dest []any
	for i, f := range families {
		columns = append(columns, "(SELECT coalesce(min(wake), 0) FROM lanes WHERE family = ?)")
		args, dest = append(args, f), append(dest, stamp{&due[i]})
	}
	return due, t.get("SELECT "+strings.Join(columns, ", "), args, dest...)
}
