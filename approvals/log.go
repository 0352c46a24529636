package approvals

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	json "github.com/go-json-experiment/json/v1"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
)

// head is what a transaction commits the log to. It is sealed with the key ring,
// so that nobody without the keys can continue, cut or rewrite the log unseen.
type head struct {
	Turn int64  `json:"turn"` // counts the commits that sealed a head
	Size int64  `json:"size"` // leaves
	Root string `json:"root"` // base64
	// Factors names the version of every authenticator: an older one that is put
	// back does not open.
	Factors map[string]int64 `json:"factors,omitempty"`
	// Tokens is how many tokens were made, so that none can be hidden; nil = they were not
	// counted yet, after a recovery or by an older version.
	Tokens *int `json:"tokens,omitempty"`
}

// secretHead names the sealed head.
const secretHead = "log_head"

func readHead(tx Tx) (h head, err error) {
	text, err := tx.Secret(secretHead)
	if errors.Is(err, ErrSeal) {
		return h, tampered("its sealed head does not open")
	}
	if err != nil || text == "" {
		return h, err
	}
	if err := json.Unmarshal([]byte(text), &h); err != nil {
		return h, fmt.Errorf("read the head of the log: %w", err)
	}
	return h, nil
}

// tampering says that the database is not what this program left there.
type tampering struct{ why string }

func tampered(format string, args ...any) error {
	return &tampering{fmt.Sprintf(format, args...)}
}

func (t *tampering) Error() string { return tamperedPrefix + t.why }

const tamperedPrefix = "the log was changed by somebody without the keys: "

// unreadableLog is why the log could not be read: it was changed, unless the
// store could not be used at that moment or the caller went away, which say
// nothing of the log.
func unreadableLog(err error) error {
	if e, ok := errors.AsType[*Error](err); ok && e.Code == CodeUnavailable || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return tampered("%v", err)
}

// Unwrap makes the edge answer that the service is not available.
func (t *tampering) Unwrap() error {
	return later(time.Minute, "the log of this gateway was changed from outside; the operator has to look at it")
}

// begin reads the head of the log and compares it with what was sealed.
func (c *Change) begin() error {
	if c.writer != nil {
		return nil
	}
	if err := c.compareHead(); err != nil {
		return err
	}
	if c.head.Turn > 0 {
		return nil
	}
	c.head.Tokens = new(int)
	return ensureSigner(c.Tx)
}

// compareHead refuses a log that is not the one that was sealed last.
func (c *Change) compareHead() error {
	h, err := readHead(c.Tx)
	if err != nil {
		return err
	}
	w, err := ledger.NewWriter(c.Ledger())
	if err != nil {
		return unreadableLog(err)
	}
	size, root := w.Head()
	switch {
	case h.Turn == 0 && size == 0:
	case h.Turn == 0:
		return tampered("it has %d leaves, but no sealed head", size)
	case h.Size != size || h.Root != root.String():
		return tampered("its %d leaves are not the %d leaves that were sealed", size, h.Size)
	}
	if c.journal != nil {
		if err := c.journal.compare(h); err != nil {
			return err
		}
	}
	c.writer, c.head = w, h
	return nil
}

// seal commits the transaction to what it appended.
func (c *Change) seal() error {
	if !c.grown {
		return nil
	}
	size, root := c.writer.Head()
	c.head.Turn++
	c.head.Size, c.head.Root = size, root.String()
	return sealValue(c.Tx, secretHead, c.head)
}

// LogChanged reports whether err says that the log, or a row that caches it, is
// not what this program left in the database.
func LogChanged(err error) bool {
	_, changed := errors.AsType[*tampering](err)
	return changed
}

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
