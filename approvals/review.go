package approvals

import (
	"context"
	"errors"
	"time"
)

// Review is who and what has access, for an access review.
type Review struct {
	At      time.Time
	Admins  []ReviewedPerson
	Removed []ReviewedPerson
	Tokens  []Token // oldest first, ended ones included
}

// ReviewedPerson is a person with the dates of the authenticator.
type ReviewedPerson struct {
	Person
	Authenticator *ReviewedAuthenticator // nil = none
}

// ReviewedAuthenticator is what may be said of an authenticator.
type ReviewedAuthenticator struct {
	EnrolledAt time.Time
	EnrolledBy string
	FirstUsed  time.Time
	WaitUntil  time.Time // codes are refused until then
	Disabled   bool      // after too many wrong codes
	Unreadable bool      // the sealed row does not open: it was altered; nothing else is known
}

// Review reads who and what has access.
func (a Admin) Review(ctx context.Context) (Review, error) {
	r := Review{At: now()}
	err := a.Store.View(ctx, func(tx Tx) error {
		all, err := people(tx)
		if err != nil {
			return err
		}
		for _, p := range all {
			reviewed := ReviewedPerson{Person: p}
			if p.Enrolled {
				if reviewed.Authenticator, err = reviewAuthenticator(tx, p.SlackID); err != nil {
					return err
				}
			}
			if p.RemovedAt.IsZero() {
				r.Admins = append(r.Admins, reviewed)
			} else {
				r.Removed = append(r.Removed, reviewed)
			}
		}
		r.Tokens, err = allKept[Token](tx, keptToken)
		return err
	})
	return r, err
}

// reviewAuthenticator shows a row that was altered instead of hiding all others
// behind it.
func reviewAuthenticator(tx Tx, slackID string) (*ReviewedAuthenticator, error) {
	a, err := authenticator(tx, slackID)
	if errors.Is(err, ErrSeal) {
		return &ReviewedAuthenticator{Unreadable: true}, nil
	}
	if err != nil {
		return nil, err
	}
	return &ReviewedAuthenticator{
		EnrolledAt: a.EnrolledAt, EnrolledBy: a.EnrolledBy, FirstUsed: a.FirstUsed,
		WaitUntil: a.Throttle.WaitUntil, Disabled: a.Throttle.Disabled,
	}, nil
}
