package approvals

import (
	"context"
	"slices"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
)

// Card is all that a card shows beside the request itself.
type Card struct {
	Request      Request
	Approvers    []string // ids of who may approve; empty = every admin
	Notify       []string
	Needs        int
	Valid        int    // votes that count now
	RetryOffered bool   // show the Retry button
	BreakGlass   bool   // show the button for an emergency release
	Stranger     bool   // nobody on record set the workflow off
	Frozen       string // until when nobody may approve, see [Freeze.Says]; empty = they may

	SupersededByNumber int64
	SupersededByLink   string
}

// Card reads what a request's card shows now.
func (s *Service) Card(ctx context.Context, requestID string) (Card, error) {
	return query(ctx, s.store, func(tx Tx) (c Card, err error) {
		r, err := tx.Request(requestID)
		if err == nil {
			err = shown(tx, &r)
		}
		if err != nil {
			return c, err
		}
		c.Request, c.Needs = r, r.Required
		if c.RetryOffered, err = retryOffered(tx, r); err != nil {
			return c, err
		}
		if p, err := s.settings.Lookup(r.App, r.Environment); err == nil {
			c.Approvers, c.Notify, c.Needs, c.Frozen = p.Approvers, p.Notify, needed(r, p), p.Freeze.Says(tx.Now())
			c.BreakGlass = len(p.BreakGlass) > 0
			votes, err := tally(rows{tx}, p, r)
			if err != nil {
				return c, err
			}
			c.Valid = votes.Valid
		}
		who, err := starterOf(rows{tx}, r)
		c.Stranger = !who.known
		if err != nil || r.SupersededBy == "" {
			return c, err
		}
		by, err := tx.Request(r.SupersededBy)
		c.SupersededByNumber, c.SupersededByLink = by.Number, by.Slack.Permalink
		return c, err
	})
}

// Told is an event with what is needed to tell it.
type Told struct {
	Event          Event
	Rank           int      // of the line within its channel: outcomes go before remarks
	Request        Request  // zero for an event without one
	With           []Event  // earlier events that this line tells, too
	CheckpointSize int64    // of the first tree that holds the event; 0 = shown without
	CheckpointRoot string   // base64
	Notify         []string // who is told of the app's cards; only with an emergency release
	Starter        string   // Slack id of who set the workflow off, if on record
	RetryOffered   bool     // the card shows the Retry button
}

// Tell reads an event for people. Those of a decision and of a close come with
// the root of the tree that ends with them.
func (s *Service) Tell(ctx context.Context, seq int64) (Told, error) {
	return query(ctx, s.store, func(tx Tx) (Told, error) {
		e, err := EventAt(tx, seq)
		if err != nil {
			return Told{}, err
		}
		return s.tell(tx, e)
	})
}

// EventAt reads the event with a number; [ErrNotFound].
func EventAt(tx Tx, seq int64) (Event, error) {
	for line, err := range tx.Leaves(seq) {
		if err != nil {
			return Event{}, err
		}
		return ParseEvent(line)
	}
	return Event{}, ErrNotFound
}

func (s *Service) tell(tx Tx, e Event) (Told, error) {
	t := Told{Event: e}
	t.Rank, _ = e.told()
	var err error
	if e.Request != "" {
		if t.Request, err = tx.Request(e.Request); err != nil {
			return t, err
		}
		if t.Starter, err = onRecord(tx, t.Request); err != nil {
			return t, err
		}
		if t.RetryOffered, err = retryOffered(tx, t.Request); err != nil {
			return t, err
		}
	}
	if p, err := s.settings.Lookup(e.App, e.Environment); err == nil && e.Type == EventBreakGlass {
		t.Notify = p.Notify
	}
	if !e.anchored() {
		return t, nil
	}
	root, err := ledger.Root(tx.Ledger(), e.Seq+1)
	if err != nil {
		return t, err
	}
	t.CheckpointSize, t.CheckpointRoot = e.Seq+1, root.String()
	return t, nil
}

// Thread is what the thread of a request lacks.
type Thread struct {
	Card   SlackRef  // that it stands below
	Lines  []Told    // oldest first
	Newest int64     // number of the event up to which nothing is left to tell then
	Due    time.Time // when there will be more; zero if only another event can bring it
}

// Untold finds the events of a request that its thread lacks and tells.
func (s *Service) Untold(ctx context.Context, requestID string) (Thread, error) {
	return query(ctx, s.store, func(tx Tx) (t Thread, err error) {
		r, err := tx.Request(requestID)
		if err != nil {
			return t, err
		}
		history, err := historyOf(tx, r.ID, r.Told)
		if err != nil {
			return t, err
		}
		events, err := parseEvents(history)
		if err != nil {
			return t, err
		}
		t.Card, t.Newest = r.Slack, r.Told
		with := map[int64][]Event{}
		for i, e := range events {
			if teller, ok := e.toldWith(events[i+1:]); ok {
				with[teller] = append(with[teller], e)
				t.Newest = e.Seq
				continue
			}
			if due := r.awaits(e, events[i+1:]); due.After(tx.Now()) {
				t.Due = due
				break
			}
			t.Newest = e.Seq
			if _, told := e.told(); !told || e.Type == EventReminded && !r.reminds(events[i:]) {
				continue
			}
			line, err := s.tell(tx, e)
			if err != nil {
				return t, err
			}
			line.With = with[e.Seq]
			t.Lines = append(t.Lines, line)
		}
		return t, nil
	})
}

// teller names the types of the later event whose line tells this one, too: the decision
// that a vote led to at once, the release after the call that was accepted, and the
// outcome after what the deploy job said of its own end. wait is for how long a line
// waits for that event: for the release, or for the look that finds the end of a deploy.
func (e Event) teller() (types []EventType, wait time.Duration) {
	switch {
	case e.Type == EventVoted:
		return []EventType{EventApproved}, 0
	case e.Type == EventAccepted:
		return []EventType{EventReleased}, settleTime
	case e.Type == EventDeployReport && Phase(e.Outcome) != PhaseStarted:
		return []EventType{EventDeployed, EventDeployFailed}, 45 * time.Second
	}
	return nil, 0
}

// toldWith finds the later event whose line tells this one, too.
func (e Event) toldWith(later []Event) (seq int64, ok bool) {
	types, wait := e.teller()
	for _, l := range later {
		if slices.Contains(types, l.Type) && (wait > 0 || l.Seq == e.Seq+1) {
			return l.Seq, true
		}
	}
	return 0, false
}

// awaits is until when the newest event of a request waits for the one that may
// tell it, too; zero = it does not. A deploy job that asks before the release was
// seen does not make the accepted call a line of its own.
func (r Request) awaits(e Event, later []Event) time.Time {
	_, told := e.told()
	_, wait := e.teller()
	follows := func(l Event) bool { _, told := l.told(); return told && l.Type != EventVerified }
	if !told || wait == 0 || r.Status != Approved && r.Status != Released || slices.ContainsFunc(later, follows) {
		return time.Time{}
	}
	return e.At().Add(wait)
}

// reminds reports whether the reminder that the events begin with is still to be
// told: not after the decision, nor below a card that was posted since and that
// people were told of.
func (r Request) reminds(events []Event) bool {
	return r.Status == Pending && !slices.ContainsFunc(events, func(e Event) bool { return e.Type == EventCardPosted })
}

// onRecord finds the person who set the workflow off, "" when none is on record.
func onRecord(tx Tx, r Request) (string, error) {
	all, err := allKept[Person](tx)
	for _, p := range all {
		if p.RemovedAt.IsZero() && r.Facts.startedBy(p) {
			return p.SlackID, nil
		}
	}
	return "", err
}

// observed changes what was observed of a request.
func observed(requestID string, fn func(*Change, *Request) error) func(*Change) error {
	return func(c *Change) error {
		r, err := c.Request(requestID)
		if err != nil {
			return err
		}
		if err := fn(c, &r); err != nil {
			return err
		}
		return c.store(&r)
	}
}

// Posted records where the card of a request stands, and what it showed. What it
// did not show yet, and the thread, come next.
func (s *Service) Posted(rendered Request, ref SlackRef, shows string) func(*Change) error {
	return observed(rendered.ID, func(c *Change, r *Request) error {
		r.Slack, r.Shown, r.PostFailed = ref, shows, ""
		e := about(*r, EventCardPosted, Actor{Kind: ActorSystem}, "slack")
		e.Data = Data{"channel": ref.Channel, "ts": ref.TS}
		e, err := c.record(e)
		if err != nil {
			return err
		}
		if err := r.Apply(e); err != nil {
			return err
		}
		work := []Work{threadWork(*r, RankRemark)}
		if rendered.Version != r.Version {
			work = append(work, cardWork(*r))
		}
		if err := c.ask(work...); err != nil {
			return err
		}
		return linkOlder(c, *r)
	})
}

// linkOlder renders the cards anew whose place a request took: they link to its
// card, which stands only now.
func linkOlder(c *Change, r Request) error {
	older, err := c.Requests(Filter{Apps: []string{r.App}, Environment: r.Environment, Statuses: []Status{Superseded}, Limit: 20})
	if err != nil {
		return err
	}
	for _, o := range older {
		if o.SupersededBy == r.ID {
			if err := c.ask(cardWork(o)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Shown records what the card of a request shows now.
func (s *Service) Shown(requestID, shows string) func(*Change) error {
	return observed(requestID, func(_ *Change, r *Request) error {
		r.Shown = shows
		return nil
	})
}

// TellUntil records that the thread below a card tells the events of its request up to
// the one with number seq. A card that was lost meanwhile takes its thread along: the
// next one tells all of them. gone: Slack found no thread for a line, so that it is
// looked whether the card is still there.
func (s *Service) TellUntil(requestID string, card SlackRef, seq int64, gone bool) func(*Change) error {
	return observed(requestID, func(c *Change, r *Request) error {
		if r.Slack != card {
			return nil
		}
		r.Told = seq
		if gone {
			return c.showAgain(r)
		}
		return nil
	})
}

// showAgain renders a card that people may decide on although nothing changed: if
// somebody deleted it, that comes to light, and people get another one.
func (c *Change) showAgain(r *Request) error {
	if r.Slack.TS == "" || r.Status != Pending && !r.retryable() {
		return nil
	}
	r.Shown = ""
	return c.ask(cardWork(*r))
}

// CardLost has a card posted anew that somebody deleted while it was needed. Its
// new thread begins with the first event.
func (s *Service) CardLost(requestID string, ref SlackRef) func(*Change) error {
	return observed(requestID, func(c *Change, r *Request) error {
		if r.Slack != ref {
			return nil
		}
		r.Slack, r.Shown, r.Told = SlackRef{}, "", -1
		return c.ask(cardWork(*r))
	})
}

// PostFailed records why a card does not stand yet.
func (s *Service) PostFailed(requestID, detail string) func(*Change) error {
	return func(c *Change) error {
		r, err := c.Request(requestID)
		if err != nil || r.PostFailed == detail {
			return err
		}
		r.PostFailed = detail
		return c.store(&r)
	}
}
