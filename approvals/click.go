package approvals

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// ClickRefused records that a click was refused: once per person, request and
// reason, and then now and then how often it happened again. A click that is only
// counted costs no transaction.
func (s *Service) ClickRefused(ctx context.Context, who Clicker, requestID string, action Action, why *Refusal) error {
	again, record := s.clicks.refused(click{who.User, requestID, why.Code}, time.Now())
	if !record {
		return nil
	}
	return s.update(Background(ctx), func(c *Change) error {
		r, err := c.Request(requestID)
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if again == 0 {
			// Another process may have recorded it, or this one before it was started.
			e := about(r, EventClickRefused, who.actor(), "slack")
			e.Reason = string(why.Code)
			if again, err = c.recorded(e); err != nil {
				return err
			}
		}
		return c.refused(&r, who, action, why, again)
	})
}

// recorded is 1 when a refusal like e is in the history of its request, otherwise 0:
// to record it again is to count it.
func (c *Change) recorded(e Event) (int, error) {
	events, err := EventsOf(c.Tx, e.Request)
	if slices.ContainsFunc(events, func(was Event) bool {
		return was.Type == e.Type && was.Actor.ID == e.Actor.ID && was.Reason == e.Reason
	}) {
		return 1, err
	}
	return 0, err
}

// refused records a refusal; again is how often it happened since it was
// recorded last.
func (c *Change) refused(r *Request, who Clicker, action Action, why *Refusal, again int) error {
	e := about(*r, EventClickRefused, who.actor(), "slack")
	e.Outcome, e.Reason = string(action), string(why.Code)
	if again > 0 {
		e.Data = Data{"count": itoa(again)}
	}
	return c.happen(r, e)
}

// click is one person's refusal on one request for one reason.
type click struct {
	user    string
	request string
	reason  RefusalCode
}

// clicks counts refusals, so that a flood of clicks does not become a flood of
// events.
type clicks struct {
	mu   sync.Mutex
	seen map[click]*clickCount
}

type clickCount struct {
	recorded time.Time
	since    int
}

func newClicks() *clicks { return &clicks{seen: map[click]*clickCount{}} }

// refused counts a refusal. record: it is to be recorded, together with the again
// refusals before it that were only counted.
func (k *clicks) refused(c click, now time.Time) (again int, record bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	had := k.seen[c]
	switch {
	case had == nil:
		if len(k.seen) >= mostClicks {
			clear(k.seen)
		}
		k.seen[c] = &clickCount{recorded: now}
		return 0, true
	case now.Sub(had.recorded) < clickCountEvery:
		had.since++
		return 0, false
	}
	again = had.since + 1
	*had = clickCount{recorded: now}
	return again, true
}

const (
	clickCountEvery = 10 * time.Minute
	mostClicks      = 10_000 // that are remembered
)
