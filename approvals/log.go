package approvals

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
)

// secretSigner names the signing key of the log. secretVerifierBefore names the
// verifier key of the log before the last recovery: a checkpoint of it may be
// ahead of this database, which the operator accepted.
const (
	secretSigner         = "log_signing_key"
	secretVerifierBefore = "log_verifier_key_before"
)

// ErrNoKey says that the log has events but its signing key is gone. A new key
// would make a log that nobody signed look like one that was.
var ErrNoKey = errors.New("the log has events, but its signing key is missing from the database: restore a backup")

// OpenLog opens the signing key of the log, and makes it for a new log. The
// log's origin, its name in every checkpoint (C2SP tlog-checkpoint), is made with
// the key, so that a key belongs to one log only. [ErrNoKey].
func OpenLog(ctx context.Context, store Store) (*ledger.Signer, error) {
	read := func(tx Tx) (key string, err error) {
		if key, err = tx.Secret(secretSigner); err != nil {
			err = fmt.Errorf("open the signing key of the log: %w", err)
		}
		return key, err
	}
	key, err := query(ctx, store, read)
	if err == nil && key == "" {
		if err := store.Update(ctx, ensureSigner); err != nil {
			return nil, err
		}
		key, err = query(ctx, store, read)
	}
	if err != nil {
		return nil, err
	}
	return ledger.NewSigner(key)
}

// ensureSigner makes the signing key of a log that has no events yet.
func ensureSigner(tx Tx) error {
	key, err := tx.Secret(secretSigner)
	if err != nil || key != "" {
		return err
	}
	size, err := tx.Ledger().Size()
	if err != nil {
		return err
	}
	if size > 0 {
		return ErrNoKey
	}
	return newSigner(tx)
}

// newSigner makes a signing key of a new origin and keeps it.
func newSigner(tx Tx) error {
	key, _, err := ledger.GenerateSigner("rack-gateway/" + strings.ToLower(rand.Text()[:12]))
	if err != nil {
		return err
	}
	return tx.SetSecret(secretSigner, key)
}

// VerifierBefore is the verifier key of the log before the last recovery, ""
// when there was none.
func VerifierBefore(ctx context.Context, store Store) (string, error) {
	return query(ctx, store, func(tx Tx) (string, error) { return tx.Secret(secretVerifierBefore) })
}

// VerifyLog reads the whole log and compares it with the sealed head. It changes
// nothing. For an error, see [LogChanged].
func VerifyLog(ctx context.Context, store Store) error {
	return newJournal(store, nil, slog.New(slog.DiscardHandler)).read(ctx)
}

// LogFault is what was found wrong with the log before, or what its sealed head
// says now without the leaves being read; "" when nothing is known to be wrong.
func LogFault(ctx context.Context, store Store) (fault string, err error) {
	j := newJournal(store, nil, slog.New(slog.DiscardHandler))
	_, err = query(ctx, store, j.proveHead)
	if LogChanged(err) {
		return err.Error(), nil
	}
	return "", err
}
