package audit

import (
	"context"
	"errors"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// Review is who and what has access, for an access review.
type Review struct {
	At      time.Time
	Admins  []ReviewedPerson
	Removed []ReviewedPerson
	Tokens  []approvals.Token // oldest first, ended ones included
}

// ReviewedPerson is a person with the dates of the authenticator.
type ReviewedPerson struct {
	approvals.Person
	Authenticator *ReviewedAuthenticator // nil = none
}

// ReviewedAuthenticator is what may be said of an authenticator.
type ReviewedAuthenticator struct {
	approvals.AuthenticatorInfo
	Unreadable bool // the sealed row does not open: it was altered; nothing else is known
}

// ReviewAccess reads who and what has access.
func ReviewAccess(ctx context.Context, store approvals.Store) (Review, error) {
	var r Review
	err := store.View(ctx, func(tx approvals.Tx) error {
		r.At = tx.Now()
		all, tokens, err := approvals.Recorded(tx)
		if err != nil {
			return err
		}
		r.Tokens = tokens
		for _, p := range all {
			reviewed := ReviewedPerson{Person: p}
			if p.Enrolled {
				info, err := approvals.InfoOf(tx, p.SlackID)
				altered := errors.Is(err, approvals.ErrSeal) // it is shown, and hides no others
				if err != nil && !altered {
					return err
				}
				reviewed.Authenticator = &ReviewedAuthenticator{info, altered}
			}
			if p.RemovedAt.IsZero() {
				r.Admins = append(r.Admins, reviewed)
			} else {
				r.Removed = append(r.Removed, reviewed)
			}
		}
		return nil
	})
	return r, err
}
