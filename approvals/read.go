package approvals

import (
	"context"
	"crypto/subtle"
	"errors"
	"slices"
	"time"
)

// Authenticate finds the token of a text. The error never says what was wrong with
// an API token, and always what was wrong with the OIDC token of a CI job: whoever
// holds one that was signed is no stranger.
func (s *Service) Authenticate(ctx context.Context, text string) (Token, error) {
	denied := refuse(CodeUnauthorized, "the API token is missing, not valid, expired or revoked")
	id, hash, ok := ParseToken(text)
	if !ok && s.identity != nil && IsJWT(text) {
		return s.authenticateJob(ctx, text)
	}
	if !ok {
		return Token{}, denied
	}
	var t Token
	var stale bool
	find := func(tx Tx, p *proof) error {
		row, err := kept[Token](tx, id)
		if t = row; err == nil && p != nil {
			t, err = p.token(id)
		}
		if errors.Is(err, ErrNotFound) || err == nil && (subtle.ConstantTimeCompare([]byte(t.Hash), []byte(hash)) != 1 || !t.Usable(tx.Now())) {
			return denied
		}
		stale = err == nil && tx.Now().Sub(row.LastUsedAt) >= time.Minute
		return err
	}
	var err error
	if s.journal.hold() != "" {
		// A row may be read with. What a token of the log asks for is recorded, but nothing
		// follows from it now.
		err = s.view(ctx, func(tx Tx) error {
			if err := find(tx, nil); err != nil {
				return err
			}
			proven, err := recorded[Token](tx, id)
			t.unproven = err != nil || fieldsOf(t, proven) != ""
			return nil
		})
	} else {
		err = s.journal.proven(ctx, func(p *proof) error { return find(p, p) })
	}
	if err != nil {
		return Token{}, err
	}
	if stale {
		// Once a minute is enough to tell an unused token from a used one.
		err := s.store.Update(Background(ctx), func(tx Tx) error {
			row, err := kept[Token](tx, id)
			if err != nil {
				return err
			}
			row.LastUsedAt = tx.Now()
			return keep(tx, row)
		})
		if err != nil {
			s.log.Warn("note a token's use", "token", id, "err", err)
		}
	}
	return t, nil
}

// authenticateJob makes what a CI job may do out of its OIDC token: it is for the
// apps that take such tokens and have the job's project.
func (s *Service) authenticateJob(ctx context.Context, text string) (Token, error) {
	job, err := s.identity.Job(ctx, text)
	if err != nil {
		return Token{}, err
	}
	t := Token{Role: RoleCICD, Apps: []string{}, Job: &job}
	origin := false
	for _, p := range s.settings.ofProject(job.ProjectID) {
		if !p.builds(job.Origin) {
			origin = true
			continue
		}
		t.ID = jobPrefix + p.Project + "/" + job.WorkflowID
		if !t.Covers(p.App) {
			t.Apps = append(t.Apps, p.App)
		}
	}
	t.Name = t.ID
	e := refuse(CodeUnauthorized, "no app takes OIDC tokens of the token's project: compare circleci_project_id and ci_identity with Project Settings > Overview in CircleCI")
	switch e.Reason = ReasonProject; {
	case len(t.Apps) > 0:
		return t, nil
	case origin:
		e.Reason, e.Message = ReasonOrigin, "the token's pipeline builds another repository than the app's (vcs_repo), such as a fork"
	}
	return Token{}, e
}

// covered finds a request that the token may see. Another app's is not found.
func covered(tx Tx, t Token, idOrNumber string) (Request, error) {
	r, err := tx.Request(idOrNumber)
	if errors.Is(err, ErrNotFound) || err == nil && !t.sees(r) {
		return Request{}, refuse(CodeNotFound, "there is no such request")
	}
	return r, err
}

// cardTime is how soon a card stands at the latest while Slack takes messages.
const cardTime = 10 * time.Second

// shown makes a request as it was read fit to be shown. A card that was not tried
// itself, because its channel rests after what another one met there, is as absent
// as one that failed.
func shown(tx Tx, r *Request) error {
	if r.Status == Pending && r.Slack.TS == "" {
		switch {
		case r.PostFailed != "":
			r.Failure = Failure{FailCardNotPosted, r.PostFailed}
		case tx.Now().Sub(r.CreatedAt) > cardTime:
			r.Failure = Failure{FailCardNotPosted, "it waits behind others: Slack does not take messages to the channel, or not so many"}
		}
	}
	return named(tx, r)
}

// Get reads a request by id or number.
func (s *Service) Get(ctx context.Context, t Token, idOrNumber string) (Request, error) {
	return query(ctx, s.store, func(tx Tx) (Request, error) {
		r, err := covered(tx, t, idOrNumber)
		if err != nil {
			return r, err
		}
		return r, shown(tx, &r)
	})
}

// Await answers as soon as the request's status is not the given one any more,
// at the latest after wait, with the state of that moment. What another process
// does is noticed within a second, while a [Worker] runs.
func (s *Service) Await(ctx context.Context, t Token, idOrNumber string, not Status, wait time.Duration) (Request, error) {
	over := time.After(wait)
	r, err := s.Get(ctx, t, idOrNumber)
	for wait > 0 && err == nil && r.Status == not {
		changed, done := s.waiters.on(r.ID)
		r, err = s.Get(ctx, t, r.ID) // it may have changed before
		if err == nil && r.Status == not {
			select {
			case <-ctx.Done():
				err = ctx.Err()
			case <-over:
				wait = 0
				r, err = s.Get(ctx, t, r.ID)
			case <-changed:
			}
		}
		done()
	}
	return r, err
}

// List reads the requests of the token's apps, newest first.
func (s *Service) List(ctx context.Context, t Token, f Filter) ([]Request, error) {
	if t.Apps != nil {
		if f.Apps == nil {
			f.Apps = t.Apps
		}
		f.Apps = slices.DeleteFunc(slices.Clone(f.Apps), func(app string) bool { return !t.Covers(app) })
	}
	if t.Job != nil {
		if f.WorkflowID != "" && f.WorkflowID != t.Job.WorkflowID {
			return nil, nil
		}
		f.WorkflowID = t.Job.WorkflowID
	}
	return s.Recent(ctx, f)
}

// Recent reads requests without regard to tokens, newest first.
func (s *Service) Recent(ctx context.Context, f Filter) ([]Request, error) {
	return query(ctx, s.store, func(tx Tx) ([]Request, error) {
		found, err := tx.Requests(f)
		for i := range found {
			if err := shown(tx, &found[i]); err != nil {
				return nil, err
			}
		}
		return found, err
	})
}

// History reads the events of a request, oldest first.
func (s *Service) History(ctx context.Context, t Token, idOrNumber string) ([]Event, error) {
	return query(ctx, s.store, func(tx Tx) ([]Event, error) {
		r, err := covered(tx, t, idOrNumber)
		if err != nil {
			return nil, err
		}
		return EventsOf(tx, r.ID)
	})
}

// Story reads a request and its history without regard to tokens.
func (s *Service) Story(ctx context.Context, idOrNumber string) (r Request, events []Event, err error) {
	err = s.view(ctx, func(tx Tx) error {
		if r, err = tx.Request(idOrNumber); err != nil {
			return err
		}
		if err = shown(tx, &r); err != nil {
			return err
		}
		events, err = EventsOf(tx, r.ID)
		return err
	})
	return r, events, err
}

// AuthenticatorInfo is what a person may know of an authenticator.
type AuthenticatorInfo struct {
	EnrolledAt time.Time
	EnrolledBy string
	FirstUsed  time.Time
	WaitUntil  time.Time
	Disabled   bool
}

// Person reads one admin; info is nil without an authenticator.
func (s *Service) Person(ctx context.Context, slackUser string) (p Person, info *AuthenticatorInfo, err error) {
	err = s.view(ctx, func(tx Tx) error {
		if p, err = person(tx, slackUser); err != nil || !p.Enrolled {
			return err
		}
		a, err := InfoOf(tx, slackUser)
		info = &a
		return err
	})
	return p, info, err
}

// InfoOf reads what may be said of a person's authenticator. [ErrSeal] when the
// sealed row was altered.
func InfoOf(tx Tx, slackID string) (AuthenticatorInfo, error) {
	a, err := authenticator(tx, slackID)
	return AuthenticatorInfo{a.EnrolledAt, a.EnrolledBy, a.FirstUsed, a.Throttle.WaitUntil, a.Throttle.Disabled}, err
}
