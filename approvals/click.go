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
	return s.refuseOnce(ctx, click{who.User, requestID, why.Code}, func(c *Change) (Request, Event, error) {
		r, err := c.Request(requestID)
		return r, clickRefused(r, who, action, why), err
	})
}

// clickRefused says that a person was refused.
func clickRefused(r Request, who Clicker, action Action, why *Refusal) Event {
	e := about(r, EventClickRefused, who.actor(), "slack")
	e.Outcome, e.Reason, e.Data = string(action), string(why.Code), Data{}
	return e
}

// refuseOnce records a refusal, as refused tells it, unless it is only to be counted, and
// notes in it how often it happened since it was recorded last. The first one that this
// process meets may have been recorded before it was started, or by another one. Of a
// request that is not there nothing is recorded.
func (s *Service) refuseOnce(ctx context.Context, k click, refused func(*Change) (Request, Event, error)) error {
	again, record := s.clicks.refused(k, time.Now())
	if !record {
		return nil
	}
	err := s.update(Background(ctx), func(c *Change) error {
		r, e, err := refused(c)
		if err != nil {
			return err
		}
		if again == 0 && e.Request != "" {
			events, err := EventsOf(c.Tx, e.Request)
			if err != nil {
				return err
			}
			if slices.ContainsFunc(events, func(was Event) bool {
				return was.Type == e.Type && was.Actor.ID == e.Actor.ID && was.Reason == e.Reason
			}) {
				again = 1
			}
		}
		if again > 0 {
			e.Data["count"] = itoa(again)
		}
		if e.Request == "" {
			_, err := c.record(e)
			return err
		}
		return c.happen(&r, e)
	})
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		s.clicks.forget(k)
	}
	return err
}

// click is one person's refusal on one request for one reason.
type click struct {
	user    string
	request string // its id, or what names the workflow of a deploy job without one
	reason  RefusalCode
}

// clicks counts refusals, so that a flood of clicks does not become a flood of
// events.
type clicks struct {
	mu   sync.Mutex
	seen map[click]clickCount
}

type clickCount struct {
	recorded time.Time
	since    int
}

// refused counts a refusal. record: it is to be recorded, together with the again
// refusals before it that were only counted.
func (k *clicks) refused(c click, now time.Time) (again int, record bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	had, known := k.seen[c]
	switch {
	case known && now.Sub(had.recorded) < clickCountEvery:
		had.since++
		k.seen[c] = had
		return 0, false
	case known:
		again = had.since + 1
	case len(k.seen) >= mostClicks:
		clear(k.seen)
	}
	k.seen[c] = clickCount{recorded: now}
	return again, true
}

// forget drops a refusal that could not be recorded, so that the next one is.
func (k *clicks) forget(c click) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.seen, c)
}

const (
	clickCountEvery = 10 * time.Minute
	mostClicks      = 10_000 // that are remembered
)
