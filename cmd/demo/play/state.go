package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/totp"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// person is somebody whom the visitor can be.
type person struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Login string `json:"login"`
	About string `json:"about"`
}

var cast = []person{
	{stage.Ana, "Ana", "ana", "Admin"},
	{stage.Bea, "Bea", "bea", "Admin"},
	{stage.Alice, "Alice", stage.Starter, "Admin, pushed the first commit"},
	{stage.Carl, "Carl", "carl", "No admin"},
}

func someone(id string) (person, bool) {
	i := slices.IndexFunc(cast, func(p person) bool { return p.ID == id })
	if i < 0 {
		return person{}, false
	}
	return cast[i], true
}

// state is all that one person sees.
type state struct {
	Me        person                      `json:"me"`
	People    []person                    `json:"people"`
	Code      string                      `json:"code"`  // of the person's authenticator, if there is one
	Until     int64                       `json:"until"` // Unix milliseconds
	Messages  []slacktest.Message         `json:"messages"`
	Private   []slacktest.Message         `json:"private"` // only this person sees them
	Direct    []slacktest.Message         `json:"direct"`  // from the app to this person
	View      *slacktest.View             `json:"view"`
	Home      *slacktest.View             `json:"home"`
	Pipelines []circlecitest.PipelineView `json:"pipelines"`
	Jobs      []jobRun                    `json:"jobs"`
	// Simulators says that the visitor runs a daemon of their own. URL is then the one
	// in the context of the jobs, and Connected says whether a daemon has connected.
	Simulators bool   `json:"simulators"`
	URL        string `json:"url"`
	Connected  bool   `json:"connected"`
	// Nodes are empty when there is one daemon alone.
	Nodes []nodeState `json:"nodes"`
}

// nodeState is one of several daemons.
type nodeState struct {
	Name  string `json:"name"`
	Works bool   `json:"works"`
}

func (b *browser) state(me person, now time.Time) state {
	s := state{
		Me: me, People: cast, Until: totp.StepEnd(totp.Step(now)).UnixMilli(), Code: b.Code(me.ID, now),
		Messages: list(b.Slack.AllMessages(stage.Channel)), Private: list(b.Slack.Ephemerals(me.ID)), Direct: list(b.Slack.DMs(me.ID)),
		View: b.Slack.View(me.ID), Home: b.Slack.Home(me.ID),
		Pipelines: list(b.Circle.Snapshot().Pipelines), Jobs: []jobRun{},
		Simulators: b.opts.simulators, Connected: b.Slack.Sockets() > 0, Nodes: []nodeState{},
	}
	if b.team != nil {
		for i := range b.team.Count() {
			s.Nodes = append(s.Nodes, nodeState{b.team.Name(i), b.team.Works(i)})
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s.URL = b.url
	for _, j := range b.jobs {
		s.Jobs = append(s.Jobs, *j)
	}
	return s
}

// list copies a slice; an empty one is [] in JSON and not null.
func list[T any](items []T) []T { return append([]T{}, items...) }

// events sends a person's state, whole, whenever it changed.
// Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
func (b *browser) events(w http.ResponseWriter, r *http.Request) {
	me, ok := someone(r.URL.Query().Get("as"))
	if !ok {
		http.Error(w, "nobody has this id", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	out := http.NewResponseController(w)
	var last []byte
	for {
		changed, now := b.bell.listen(), time.Now()
		raw, err := json.Marshal(b.state(me, now))
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		if !bytes.Equal(raw, last) {
			last = raw
			if _, err := fmt.Fprintf(w, "data: %s\n\n", raw); err != nil || out.Flush() != nil {
				return // the page was closed
			}
		}
		select {
		case <-changed:
		case <-time.After(time.Until(totp.StepEnd(totp.Step(now)))):
		case <-r.Context().Done():
			return
		}
	}
}
