package soak_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
)

// service can be taken away from the daemon.
type service struct {
	name        string // as /readyz calls it
	namedWithin time.Duration
	wire        *wire
	refuse      func() (mend func()) // answers everything with 503

	mu   sync.Mutex
	mend func() // nil while it is there
}

// services puts wires in front of both simulators.
func (s *scene) services() error {
	wire, base, err := newWire(strings.TrimSuffix(s.Slack.URL(), "/api/"))
	if err != nil {
		return err
	}
	s.Slack.SetBaseURL(base) // sockets and response URLs go over it as well
	s.slack = &service{name: "slack", namedWithin: nameSlackWithin, wire: wire, refuse: func() func() {
		remove := s.Slack.AddFault(slacktest.Fault{Status: http.StatusServiceUnavailable})
		s.Slack.CloseSockets()
		return remove
	}}
	s.SetEnv("SLACK_API_URL=" + s.Slack.URL())
	if wire, base, err = newWire(s.Variable("CIRCLECI_URL")); err != nil {
		return err
	}
	s.circle = &service{name: "circleci", namedWithin: nameCircleWithin, wire: wire, refuse: func() func() {
		s.Circle.Inject(circlecitest.Fault{Status: http.StatusServiceUnavailable, Body: `{"message":"unavailable"}`, Count: -1})
		return s.Circle.ClearFaults
	}}
	s.SetEnv("CIRCLECI_URL=" + base)
	return nil
}

// down lets the service answer 503 from now on, unless it does already.
func (v *service) down() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.mend == nil {
		v.mend = v.refuse()
	}
}

// hangUp lets it refuse connections instead.
func (v *service) hangUp() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.mend != nil {
		v.wire.cut()
	}
}

// up ends the outage.
func (v *service) up() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.mend == nil {
		return nil
	}
	v.mend()
	v.mend = nil
	return v.wire.mend()
}

// without takes services away for so long: they answer 503 for one half of it
// and refuse connections for the other. meanwhile is played in it, and may make
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
