package approvals

import (
	"context"
	"errors"
	"fmt"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/totp"
)

// floorSteps is how far ahead of now every authenticator's last step is set at a
// recovery: codes that were used after the backup was taken stay used.
const floorSteps = 2

// Recover accepts the database as it is, although it is older than what was
// signed, or was changed from outside: checkpoints go on under a new origin,
// whose first event names the old checkpoint; rows are made anew from the log;
// codes that may have been used are refused; what was pending expires; what was
// approved is compared with CircleCI before anything else. lost describes the
// newest checkpoint of the old origin, "" when it is not known. operator is who
// accepts it; see [Operator]. All that accepts the log is one transaction: until
// then nothing follows from an event that was not sealed. A log that would be found
// to be changed again is not accepted.
func Recover(ctx context.Context, store Store, lost, operator string) error {
	err := store.View(ctx, func(tx Tx) error { return ledger.Check(tx.Ledger(), tx.Leaves(0)) })
	if err != nil {
		return fmt.Errorf("the log cannot go on: %w; put a backup back", err)
	}
	if _, err := Rebuild(ctx, store, false); err != nil {
		return fmt.Errorf("rebuild the rows: %w", err)
	}
	return commit(ctx, store, nil, func(c *Change) error {
		before, err := c.Secret(secretSigner)
		if err != nil && !errors.Is(err, ErrSeal) {
			return err
		}
		old := ""
		if signer, err := ledger.NewSigner(before); err == nil {
			old = signer.VerifierKey()
		}
		by := Operator(operator)
		e := Event{Type: EventRecovered, Actor: by, Source: "operator", Data: Data{"old_key": old, "old_checkpoint": lost}}
		if err := c.accept(e.Data); err != nil {
			return err
		}
		if err := c.SetSecret(secretVerifierBefore, old); err != nil {
			return err
		}
		if err := newSigner(c.Tx); err != nil {
			return err
		}
		if err := c.SetSecret(secretFault, ""); err != nil {
			return err
		}
		if err := c.warn(e); err != nil {
			return err
		}
		if err := raiseFloor(c); err != nil {
			return err
		}
		return closeRestored(c, by)
	})
}

// accept has the log go on as it stands now. It notes its size, and that of the log
// that was sealed if that is another one.
func (c *Change) accept(note Data) error {
	w, err := ledger.NewWriter(c.Ledger())
	if err != nil {
		return err
	}
	had, err := readHead(c.Tx)
	if err != nil && !LogChanged(err) {
		return err
	}
	size, root := w.Head()
	note["size"] = itoa(size)
	if had.Size != size || had.Root != root.String() && size > 0 {
		note["sealed"] = itoa(had.Size)
	}
	c.writer, c.head = w, head{Turn: had.Turn, Factors: had.Factors}
	return nil
}

// Unsealed says in what the log that a recovery accepted differs from the one that was
// sealed before, "" when it does not.
func (e Event) Unsealed() string {
	if e.Data["sealed"] == "" {
		return ""
	}
	return fmt.Sprintf("its %s events are not the %s that the gateway had sealed", e.Data["size"], e.Data["sealed"])
}

// raiseFloor makes codes useless that may have been used after the backup was
// taken. An authenticator that does not open is left: it opens nothing.
func raiseFloor(c *Change) error {
	all, err := Everybody(c.Tx)
	if err != nil {
		return err
	}
	for _, p := range all {
		auth, err := c.authenticator(p.SlackID)
		if errors.Is(err, ErrNotFound) || errors.Is(err, ErrSeal) {
			continue
		}
		if err != nil {
			return fmt.Errorf("authenticator of %s: %w", p.SlackID, err)
		}
		auth.LastStep = max(auth.LastStep, totp.Step(c.Now())+floorSteps)
		if err := c.saveAuthenticator(p.SlackID, &auth); err != nil {
			return err
		}
	}
	return nil
}

func closeRestored(c *Change, by Actor) error {
	open, err := c.Requests(Filter{Statuses: OpenStatuses()})
	if err != nil {
		return err
	}
	for _, r := range open {
		if _, refused := errors.AsType[*Error](c.mustBeGenuine(r)); refused {
			continue // [Rebuild] names a row that it could not repair
		}
		e := about(r, EventRestored, by, "operator")
		if r.Status == Pending {
			e.Type, e.Outcome, e.Reason = EventExpired, string(Expired), FailRolledBack
			e.Data = Data{"detail": "a backup was restored while nobody had decided"}
		}
		if err := c.happen(&r, e); err != nil {
			return err
		}
		if err := c.ask(followWork(r.Facts.WorkflowID, c.Now(), rankUrgent)); err != nil {
			return err
		}
	}
	return nil
}
