package soak_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
)

// service can be taken away from the daemon.
type service struct {
	name        string // as /readyz calls it
	namedWithin time.Duration
	refuse      func() (mend func())       // answers everything with 503
	cut         func() (mend func() error) // takes no connection

	mu   sync.Mutex
	mend []func() error // none while it is there
}

// services are both simulators. Slack cuts every connection without an answer;
// nobody listens at CircleCI's address.
func (s *scene) services() {
	s.slack = &service{name: "slack", namedWithin: nameSlackWithin, refuse: func() func() {
		remove := s.Slack.AddFault(slacktest.Fault{Status: http.StatusServiceUnavailable})
		s.Slack.CloseSockets()
		return remove
	}, cut: func() func() error {
		s.Slack.SetOutage(true)
		return func() error { s.Slack.SetOutage(false); return nil }
	}}
	s.circle = &service{name: "circleci", namedWithin: nameCircleWithin, refuse: func() func() {
		s.Circle.Inject(circlecitest.Fault{Status: http.StatusServiceUnavailable, Body: `{"message":"unavailable"}`, Count: -1})
		return s.Circle.ClearFaults
	}, cut: s.CutCircle}
}

// down lets the service answer 503 from now on, unless it does already.
func (v *service) down() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.mend) == 0 {
		mend := v.refuse()
		v.mend = append(v.mend, func() error { mend(); return nil })
	}
}

// hangUp lets it take no connections instead.
func (v *service) hangUp() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.mend) > 0 {
		v.mend = append(v.mend, v.cut())
	}
}

// up ends the outage.
func (v *service) up() (err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, mend := range v.mend {
		err = errors.Join(err, mend())
	}
	v.mend = nil
	return err
}

// without takes services away for so long: they answer 503 for one half of it
// and take no connections for the other. meanwhile is played in it, and may make
// it longer. The result is when they were back.
func (s *scene) without(ctx context.Context, length time.Duration, services []*service, meanwhile func(until time.Time, looks *lookout) error) (time.Time, error) {
	s.Slack.SetRateLimits(true) // with all that Slack grants at once
	for _, v := range services {
		v.down()
	}
	began := time.Now()
	for _, v := range services {
		half := time.AfterFunc(length/2, v.hangUp)
		defer half.Stop()
	}
	looks := newLookout(s.URL, services)
	watching, stop := context.WithCancel(ctx)
	defer stop()
	var watcher sync.WaitGroup
	watcher.Go(func() { looks.watch(watching) })

	err := meanwhile(began.Add(length), looks)
	if err == nil {
		err = pause(ctx, time.Until(began.Add(length)))
	}
	stop()
	watcher.Wait()
	for what := range looks.broken {
		s.violation(what)
	}
	for _, v := range services {
		if after, ok := looks.named[v.name]; ok {
			s.figure("/readyz named %s after %s", v.name, after.Round(10*time.Millisecond))
		}
	}
	ended := time.Now()
	for _, v := range services {
		err = errors.Join(err, v.up())
	}
	return ended, err
}
