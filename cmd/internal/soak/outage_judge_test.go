package soak_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
)

// verdict waits until everything has ended and judges it all: requests, order,
// readiness, and behind the stopped daemon the log.
func (s *scene) verdict(ctx context.Context) error {
	for _, l := range s.lanes {
		before := s.found()
		s.settle(ctx, l, false)
		if s.found() == before {
			l.Judge(ctx, true)
		}
	}
	if err := s.healthy(ctx); err != nil {
		return err
	}
	return s.last(ctx, s.proc)
}

// healthy waits until /readyz finds nothing wrong any more.
func (s *scene) healthy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	var last webhook.Readiness
	err := again(ctx, func() bool {
		r, status, err := readiness(ctx, s.URL)
		last = r
		return err == nil && status == http.StatusOK && r.Status == webhook.StatusOK
	})
	if err != nil {
		return fmt.Errorf("/readyz is not ok long after the outage: %+v", last)
	}
	return nil
}

// span gives the least and the greatest of some durations.
func span(all []time.Duration) string {
	if len(all) == 0 {
		return "never"
	}
	least, most := slices.Min(all).Round(10*time.Millisecond), slices.Max(all).Round(10*time.Millisecond)
	if least == most {
		return most.String()
	}
	return fmt.Sprintf("%s to %s", least, most)
}
