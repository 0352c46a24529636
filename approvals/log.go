package approvals

import (
	"context"
	"encoding/base64"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
)

// Names of what the log keeps in [Vars].
const (
	varSigningKey  = "log_signing_key" // sealed
	varVerifierKey = "log_verifier_key"
)

// OpenLog makes the signing key of the log at the first start, and opens it at
// every later one. The log's origin, its name in every checkpoint (C2SP
// tlog-checkpoint), is made with the key, so that a key belongs to one log only.
func OpenLog(ctx context.Context, store Store) (*ledger.Signer, error) {
	var signer *ledger.Signer
	err := store.Update(ctx, func(tx Tx) error {
		key, err := tx.Secret(varSigningKey)
		if err != nil {
			return fmt.Errorf("open signing key: %w", err)
		}
		if key == "" {
			if key, err = newLog(tx); err != nil {
				return err
			}
		}
		signer, err = ledger.NewSigner(key)
		return err
	})
	return signer, err
}

// record appends an event to the log within the transaction and makes it
// findable. It fills Version, Seq, Prev and Time.
func record(tx Tx, now time.Time, e Event) (Event, error) {
	e.Version = 1
	e.Time = now.Format(timeFormat)
	seq, err := ledger.Append(tx.Ledger(), func(seq int64, prev tlog.Hash) ([]byte, error) {
		e.Seq = seq
		e.Prev = base64.StdEncoding.EncodeToString(prev[:])
		return e.line()
	})
	if err != nil {
		return Event{}, fmt.Errorf("append %s to the log: %w", e.Type, err)
	}
	if err := tx.Index(seq, e); err != nil {
		return Event{}, fmt.Errorf("index %s in the log: %w", e.Type, err)
	}
	return e, nil
}

// Record appends an event that belongs to no request, such as a start.
func (s *Service) Record(ctx context.Context, e Event) error {
	return s.update(ctx, func(tx Tx, now time.Time) error {
		_, err := record(tx, now, e)
		return err
	})
}

// about starts an event of a request.
func about(r Request, t EventType, by Actor, source string) Event {
	return Event{Type: t, Request: r.ID, App: r.App, Environment: r.Environment, Actor: by, Source: source}
}

// Checkpoint signs the tree of the given size, or the newest for 0. Only sizes
// that are committed are signed.
func (s *Service) Checkpoint(ctx context.Context, size int64) ([]byte, error) {
	if err := s.maySign(); err != nil {
		return nil, err
	}
	var root tlog.Hash
	err := s.view(ctx, func(tx Tx, _ time.Time) error {
		have, err := tx.Ledger().Size()
		if err != nil {
			return err
		}
		if size == 0 {
			size = have
		}
		if size < 0 || size > have {
			return refuse(CodeNotFound, "the log has %d events; there is no checkpoint of size %d", have, size)
		}
		root, err = ledger.Root(tx.Ledger(), size)
		return err
	})
	if err != nil {
		return nil, err
	}
	return s.signer.Checkpoint(size, root)
}

// maySign refuses while the log does not continue what was signed before.
func (s *Service) maySign() error {
	if s.unsigned == "" {
		return nil
	}
	e := refuse(CodeUnavailable, "no checkpoint is signed: %s", s.unsigned)
	e.RetryAfter = time.Minute
	return e
}

// VerifierKey is the public key that checks the log's checkpoints.
func (s *Service) VerifierKey() string { return s.signer.VerifierKey() }
