package approvals

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/totp"
)

// varVerifierBefore is the key of the log before the last recovery: a
// checkpoint of it may be ahead of this database, which the operator accepted.
const varVerifierBefore = "log_verifier_key_before"

// FailRolledBack: the request was open in a backup that was restored.
const FailRolledBack = "rolled_back"

// floorSteps is how far ahead of now every authenticator's last step is set at a
// recovery: codes that were used after the backup was taken stay used.
const floorSteps = 2

// newLog makes a signing key of a new origin and keeps it.
func newLog(tx Tx) (key string, err error) {
	key, verifier, err := ledger.GenerateSigner("rack-gateway/" + strings.ToLower(rand.Text()[:12]))
	if err != nil {
		return "", err
	}
	if err := tx.SetSecret(varSigningKey, key); err != nil {
		return "", err
	}
	return key, tx.SetVar(varVerifierKey, verifier)
}

// VerifierBefore is the verifier key of the log before the last recovery, ""
// when there was none.
func VerifierBefore(ctx context.Context, store Store) (key string, err error) {
	err = store.View(ctx, func(tx Tx) error { key, err = tx.Var(varVerifierBefore); return err })
	return key, err
}

// Recover accepts that the database is an older copy: checkpoints go on under a
// new origin, whose first event names the old checkpoint; codes that may have
// been used are refused; what was pending expires; what was approved is
// compared with CircleCI before anything else. lost describes the newest
// checkpoint of the old origin, "" when it is not known.
func (s *Service) Recover(ctx context.Context, lost string) error {
	return s.update(ctx, func(tx Tx, now time.Time) error {
		before, err := tx.Var(varVerifierKey)
		if err != nil {
			return err
		}
		if err := tx.SetVar(varVerifierBefore, before); err != nil {
			return err
		}
		size, err := tx.Ledger().Size()
		if err != nil {
			return err
		}
		if _, err := newLog(tx); err != nil {
			return err
		}
		e := Event{Type: EventRecovered, Actor: operator(), Source: "operator", Data: map[string]string{
			"old_key": before, "old_checkpoint": lost, "size": strconv.FormatInt(size, 10),
		}}
		if e, err = record(tx, now, e); err != nil {
			return err
		}
		if err := announce(tx, e, ""); err != nil {
			return err
		}
		if err := raiseFloor(tx, now); err != nil {
			return err
		}
		return s.closeRestored(tx, now)
	})
}

func raiseFloor(tx Tx, now time.Time) error {
	people, err := tx.People()
	if err != nil {
		return err
	}
	for _, p := range people {
		auth, err := tx.Authenticator(p.SlackID)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("authenticator of %s: %w", p.SlackID, err)
		}
		auth.LastStep = max(auth.LastStep, totp.Step(now)+floorSteps)
		if err := tx.SaveAuthenticator(p.SlackID, &auth); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) closeRestored(tx Tx, now time.Time) error {
	open, err := tx.Requests(Filter{Statuses: OpenStatuses()})
	if err != nil {
		return err
	}
	for _, r := range open {
		if r.Status == Approved {
			r.Restored = true
			if err := tx.SaveRequest(&r); err != nil {
				return err
			}
			if err := enqueue(tx, gateRelease(r), watch(r.Facts.WorkflowID, now)); err != nil {
				return err
			}
			continue
		}
		r.Failure = Failure{FailRolledBack, "a backup was restored while nobody had decided"}
		if err := s.end(tx, now, &r, Expired, about(r, EventExpired, operator(), "operator")); err != nil {
			return err
		}
	}
	return nil
}
