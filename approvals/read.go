package approvals

import (
	"context"
	"crypto/subtle"
	"errors"
	"slices"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
)

// Authenticate finds the token of a text. The error never says what was wrong.
func (s *Service) Authenticate(ctx context.Context, text string) (Token, error) {
	denied := refuse(CodeUnauthorized, "the API token is missing, not valid, expired or revoked")
	id, hash, ok := ParseToken(text)
	if !ok {
		return Token{}, denied
	}
	var t Token
	var stale bool
	err := s.view(ctx, func(tx Tx, now time.Time) error {
		var err error
		t, err = tx.Token(id)
		if errors.Is(err, ErrNotFound) || err == nil && (subtle.ConstantTimeCompare(t.Hash[:], hash[:]) != 1 || !t.Usable(now)) {
			return denied
		}
		stale = err == nil && now.Sub(t.LastUsedAt) >= time.Minute
		return err
	})
	if err != nil {
		return Token{}, err
	}
	if stale {
		// Once a minute is enough to tell an unused token from a used one.
		err := s.store.Update(ctx, func(tx Tx) error {
			fresh, err := tx.Token(id)
			if err != nil {
				return err
			}
			fresh.LastUsedAt = now()
			return tx.SaveToken(fresh)
		})
		if err != nil {
			s.log.Warn("note a token's use", "token", id, "err", err)
		}
	}
	return t, nil
}

// covered finds a request that the token may see. Another app's is not found.
func covered(tx Tx, t Token, idOrNumber string) (Request, error) {
	r, err := tx.Request(idOrNumber)
	if errors.Is(err, ErrNotFound) || err == nil && !t.Covers(r.App) {
		return Request{}, refuse(CodeNotFound, "there is no such request")
	}
	return r, err
}

func (s *Service) get(ctx context.Context, id string) (r Request, err error) {
	err = s.view(ctx, func(tx Tx, _ time.Time) error { r, err = tx.Request(id); return err })
	return r, err
}

// Get reads a request by id or number.
func (s *Service) Get(ctx context.Context, t Token, idOrNumber string) (r Request, err error) {
	err = s.view(ctx, func(tx Tx, now time.Time) error {
		if r, err = covered(tx, t, idOrNumber); err != nil {
			return err
		}
		return noteUnposted(tx, now, &r)
	})
	return r, err
}

// noteUnposted says why a card does not stand yet that was not tried itself: its
// channel rests after what another one met there.
func noteUnposted(tx Tx, now time.Time, r *Request) error {
	if r.Status != Pending || r.Slack.TS != "" || r.Failure.Code != "" {
		return nil
	}
	why, err := tx.Held(slackLane(*r), now)
	if err == nil && why != "" {
		r.Failure = Failure{FailCardNotPosted, why}
	}
	return err
}

// Await answers as soon as the request's status is not the given one any more,
// at the latest after wait, with the state of that moment.
func (s *Service) Await(ctx context.Context, t Token, idOrNumber string, not Status, wait time.Duration) (Request, error) {
	over := time.NewTimer(wait)
	defer over.Stop()
	// An operator's command may have changed it in another process.
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		changed := s.Changed()
		r, err := s.Get(ctx, t, idOrNumber)
		if err != nil || r.Status != not {
			return r, err
		}
		select {
		case <-ctx.Done():
			return r, ctx.Err()
		case <-over.C:
			return s.Get(ctx, t, idOrNumber)
		case <-changed:
		case <-tick.C:
		}
	}
}

// List reads the requests of the token's apps, newest first.
func (s *Service) List(ctx context.Context, t Token, f Filter) ([]Request, error) {
	if t.Apps != nil {
		if f.Apps == nil {
			f.Apps = slices.Clone(t.Apps)
		} else {
			f.Apps = slices.DeleteFunc(slices.Clone(f.Apps), func(app string) bool { return !t.Covers(app) })
		}
	}
	return s.Recent(ctx, f)
}

// Recent reads requests without regard to tokens, newest first.
func (s *Service) Recent(ctx context.Context, f Filter) (found []Request, err error) {
	err = s.view(ctx, func(tx Tx, now time.Time) error {
		if found, err = tx.Requests(f); err != nil {
			return err
		}
		for i := range found {
			if err := noteUnposted(tx, now, &found[i]); err != nil {
				return err
			}
		}
		return nil
	})
	return found, err
}

// History reads the events of a request, oldest first.
func (s *Service) History(ctx context.Context, t Token, idOrNumber string) (events []Event, err error) {
	err = s.view(ctx, func(tx Tx, _ time.Time) error {
		r, err := covered(tx, t, idOrNumber)
		if err != nil {
			return err
		}
		events, err = tx.EventsOf(r.ID)
		return err
	})
	return events, err
}

// Story reads a request and its history without regard to tokens.
func (s *Service) Story(ctx context.Context, idOrNumber string) (r Request, events []Event, err error) {
	err = s.view(ctx, func(tx Tx, _ time.Time) error {
		if r, err = tx.Request(idOrNumber); err != nil {
			return err
		}
		events, err = tx.EventsOf(r.ID)
		return err
	})
	return r, events, err
}

// AuthenticatorInfo is what a person may know of an authenticator.
type AuthenticatorInfo struct {
	EnrolledAt time.Time
	FirstUsed  time.Time
	WaitUntil  time.Time
	Disabled   bool
}

// Person reads one admin; info is nil without an authenticator.
func (s *Service) Person(ctx context.Context, slackUser string) (p Person, info *AuthenticatorInfo, err error) {
	err = s.view(ctx, func(tx Tx, _ time.Time) error {
		if p, err = tx.Person(slackUser); err != nil || !p.Enrolled {
			return err
		}
		a, err := tx.Authenticator(slackUser)
		if err != nil {
			return err
		}
		info = &AuthenticatorInfo{a.EnrolledAt, a.FirstUsed, a.Throttle.WaitUntil, a.Throttle.Disabled}
		return nil
	})
	return p, info, err
}

// Card is all that a card shows beside the request itself.
type Card struct {
	Request      Request
	Approvers    []string // ids of who may approve; empty = every admin
	Notify       []string
	Needs        int
	Valid        int  // votes that count now
	RetryOffered bool // show the Retry button

	SupersededByNumber int64
	SupersededByLink   string
}

// Card reads what a request's card shows now.
func (s *Service) Card(ctx context.Context, requestID string) (Card, error) {
	var c Card
	err := s.view(ctx, func(tx Tx, now time.Time) error {
		r, err := tx.Request(requestID)
		if err != nil {
			return err
		}
		c = Card{Request: r, Needs: r.RequiredApprovals, RetryOffered: r.CanRetry(now)}
		if p, err := s.settings.Lookup(r.App, r.Environment); err == nil {
			c.Approvers, c.Notify, c.Needs = p.Approvers, p.Notify, needed(r, p)
			if c.Valid, _, _, err = tally(tx, now, p, r); err != nil {
				return err
			}
		}
		if r.SupersededBy != "" {
			by, err := tx.Request(r.SupersededBy)
			if err != nil {
				return err
			}
			c.SupersededByNumber, c.SupersededByLink = by.Number, by.Slack.Permalink
		}
		return nil
	})
	return c, err
}

// Told is an event with what is needed to tell it.
type Told struct {
	Event          Event
	Request        Request // zero for an event without one
	CheckpointSize int64   // of the first tree that holds the event; 0 = shown without
	CheckpointRoot string  // base64
	Starter        string  // Slack id of who set the workflow off, if on record
}

// Tell reads an event for people. Those of a decision and of a close come with
// the root of the tree that ends with them.
func (s *Service) Tell(ctx context.Context, seq int64) (Told, error) {
	var t Told
	err := s.view(ctx, func(tx Tx, _ time.Time) error {
		var err error
		if t.Event, err = tx.Event(seq); err != nil {
			return err
		}
		if t.Event.Request != "" {
			if t.Request, err = tx.Request(t.Event.Request); err != nil {
				return err
			}
			if t.Starter, err = starter(tx, t.Request); err != nil {
				return err
			}
		}
		if !anchored(t.Event.Type) {
			return nil
		}
		root, err := ledger.Root(tx.Ledger(), seq+1)
		if err != nil {
			return err
		}
		t.CheckpointSize, t.CheckpointRoot = seq+1, root.String()
		return nil
	})
	return t, err
}

// starter finds the person whose VCS login set the workflow off, "" when none
// is on record.
func starter(tx Tx, r Request) (string, error) {
	people, err := tx.People()
	if err != nil {
		return "", err
	}
	for _, p := range people {
		if p.VCSLogin != "" && p.RemovedAt.IsZero() && r.Facts.StartedByLogin(p.VCSLogin) {
			return p.SlackID, nil
		}
	}
	return "", nil
}

// anchored reports whether the reply that tells the event shows the tree: those
// of the decision and of every close do.
func anchored(t EventType) bool {
	switch t {
	case EventApproved, EventRejected, EventDeployed, EventDeployFailed, EventExpired, EventSuperseded, EventCanceled, EventBypassed, EventUndeliverable:
		return true
	}
	return false
}

// Posted records where the card stands that shows a request as it was rendered.
func (s *Service) Posted(rendered Request, ref SlackRef) func(Tx, time.Time) error {
	return func(tx Tx, now time.Time) error {
		r, err := tx.Request(rendered.ID)
		if err != nil {
			return err
		}
		changed := r.Version != rendered.Version
		r.Slack = ref
		if r.Failure.Code == FailCardNotPosted {
			r.Failure = Failure{}
		}
		if err := tx.SaveRequest(&r); err != nil {
			return err
		}
		e := about(r, EventCardPosted, Actor{Kind: ActorSystem}, "slack")
		e.Data = map[string]string{"channel": ref.Channel, "ts": ref.TS}
		if _, err := record(tx, now, e); err != nil {
			return err
		}
		if changed {
			if err := tx.Enqueue(cardUpdate(r)); err != nil {
				return err
			}
		}
		return linkOlder(tx, r)
	}
}

// linkOlder renders the cards anew whose place a request took: they link to its
// card, which stands only now.
func linkOlder(tx Tx, r Request) error {
	older, err := tx.Requests(Filter{Apps: []string{r.App}, Environment: r.Environment, Statuses: []Status{Superseded}, CreatedFrom: r.CreatedAt.Add(-r.PendingTTL)})
	if err != nil {
		return err
	}
	for _, o := range older {
		if o.SupersededBy == r.ID {
			if err := tx.Enqueue(cardUpdate(o)); err != nil {
				return err
			}
		}
	}
	return nil
}

// CardLost has a card posted anew that somebody deleted while it was needed.
func (s *Service) CardLost(requestID string, ref SlackRef) func(Tx, time.Time) error {
	return func(tx Tx, _ time.Time) error {
		r, err := tx.Request(requestID)
		if err != nil || r.Slack != ref {
			return err
		}
		r.Slack = SlackRef{}
		if err := tx.SaveRequest(&r); err != nil {
			return err
		}
		post := cardPost(r)
		post.Chain = "" // lines that are on their way wait for it, not it for them
		return tx.Enqueue(post)
	}
}

// PostFailed records why a card does not stand yet.
func (s *Service) PostFailed(requestID, detail string) func(Tx, time.Time) error {
	return func(tx Tx, _ time.Time) error {
		r, err := tx.Request(requestID)
		if err != nil || r.Status != Pending || r.Failure == (Failure{FailCardNotPosted, detail}) {
			return err
		}
		r.Failure = Failure{FailCardNotPosted, detail}
		return tx.SaveRequest(&r)
	}
}
