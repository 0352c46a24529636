package approvals_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

var (
	storySteps = flag.Int("step.count", 200_000, "how many steps the generated stories take")
	storySeed  = flag.Uint64("step.seed", 0, "seed of the generated stories; 0 = a random one")
	exploreFor = flag.Duration("step.explore", 5*time.Second, "how long the small world is explored")
)

// model is a small world around [approvals.Step]: one workflow with one gate, two
// requests for it one after the other, two approvers, a provider that answers as
// it likes, and a process that may die at any moment. It judges every move.
type model struct {
	now      time.Time
	seq      int64
	requests []approvals.Request
	trails   map[string]approvals.Trail
	asked    int // requests made

	// What is true at the provider.
	gate     approvals.JobStatus
	openedBy string
	calls    int // approve calls that arrived and have not taken effect
	deploy   approvals.JobStatus
	workflow approvals.WorkflowStatus

	hold    bool // decisions are on hold
	removed bool // who releases in an emergency may not any more
	auto    bool
	broken  string // the first promise that was broken
	steps   int
}

const (
	self     = "bot"
	human    = "human"
	required = 2
)

func newModel(auto bool) *model {
	m := &model{
		now: time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC), trails: map[string]approvals.Trail{}, auto: auto,
		gate: approvals.JobBlocked, deploy: approvals.JobBlocked, workflow: approvals.WorkflowRunning,
	}
	m.ask()
	return m
}

// clone copies what the choices change.
func (m *model) clone() *model {
	c := *m
	c.requests = slices.Clone(m.requests)
	c.trails = map[string]approvals.Trail{}
	for id, t := range m.trails {
		c.trails[id] = t
	}
	return &c
}

func (m *model) fails(format string, args ...any) {
	if m.broken == "" {
		m.broken = fmt.Sprintf(format, args...)
	}
}

// record applies events as a commit does, and judges each.
func (m *model) record(r *approvals.Request, events ...approvals.Event) {
	for _, e := range events {
		m.seq++
		e.Seq, e.Time = m.seq, m.now.Format("2006-01-02T15:04:05.000Z")
		before := *r
		if err := r.Apply(e); err != nil {
			m.fails("an event that cannot be applied: %v", err)
			return
		}
		m.judge(before, *r, e)
	}
}

// judge looks for broken promises in one event.
func (m *model) judge(before, after approvals.Request, e approvals.Event) {
	switch e.Type {
	case approvals.EventApproved:
		if len(e.People) < required {
			m.fails("I2: decided by %v", e.People)
		}
	case approvals.EventBreakGlass:
		if d, ok := after.Emergency(); !ok || d.MFA == "" || len(d.Reason) < 10 || before.Status != approvals.Pending {
			m.fails("I2: an emergency release %+v of a request that is %s", d, before.Status)
		}
	case approvals.EventAttempt:
		if before.Status != approvals.Approved || before.ApprovedAt.IsZero() || !m.auto {
			m.fails("I2: an attempt for a request that is %s", before.Status)
		}
		if _, ok := before.Emergency(); (ok && m.removed) || !ok && len(before.Approvals()) < required {
			m.fails("I2: an attempt by the decisions %+v, removed %v", before.Decisions, m.removed)
		}
	case approvals.EventReleased:
		ours := m.openedBy == self && before.Attempt.IDs != nil
		handed := !m.auto && before.Status == approvals.Approved
		if m.gate != approvals.JobSuccess || !ours && !handed {
			m.fails("released, although the gate is %s by %q after %d calls", m.gate, m.openedBy, before.Attempt.Count)
		}
	case approvals.EventBypassed, approvals.EventGateBypassed:
		if m.gate != approvals.JobSuccess {
			m.fails("an alarm about a gate that is %s", m.gate)
		}
		if m.openedBy == self && before.Attempt.IDs != nil && before.Status.CanBecome(approvals.Released) && len(m.requests) == 1 {
			m.fails("an alarm about our own release")
		}
	case approvals.EventCanceled:
		if !m.gate.Final() && m.workflow == approvals.WorkflowRunning && e.Reason != "withdrawn" && m.trails[after.ID].Odd.What == "" {
			m.fails("I10: canceled (%s) although the gate is %s and nothing odd was seen before", e.Data["detail"], m.gate)
		}
	case approvals.EventDeployed:
		if m.deploy != approvals.JobSuccess {
			m.fails("deployed, although the deploy is %s", m.deploy)
		}
	}
}

func (m *model) open() *approvals.Request {
	for i := range m.requests {
		if m.requests[i].Status.Open() || m.requests[i].CanRetry(m.now) {
			return &m.requests[i]
		}
	}
	return nil
}

// ask files a request for the workflow, if none stands.
func (m *model) ask() {
	if m.asked == 2 || m.gate.Final() || slices.ContainsFunc(m.requests, func(r approvals.Request) bool { return !r.Status.Yields() }) {
		return
	}
	m.asked++
	r := approvals.Request{}
	r.Told = -1
	m.record(&r, approvals.Event{
		Type: approvals.EventRequested, Request: fmt.Sprintf("R%d", m.asked), App: "shop", Environment: "default",
		Asked: &approvals.Asked{
			Number: int64(m.asked), GateName: "hold", PendingTTL: time.Hour, AutoApprove: m.auto, Required: required, OnClose: approvals.CloseNothing,
			Facts: approvals.Facts{WorkflowID: "w", Project: "gh/acme/shop", Revision: "abc", PipelineNumber: 7},
		},
	})
	m.requests = append(m.requests, r)
}

func event(r approvals.Request, t approvals.EventType, who string) approvals.Event {
	return approvals.Event{Type: t, Request: r.ID, App: r.App, Environment: r.Environment, Actor: approvals.Actor{Kind: approvals.ActorPerson, ID: who}}
}

// reopened is the request that can be decided, in a fresh round if need be; nil
// when there is none.
func (m *model) reopened(who string) *approvals.Request {
	r := m.open()
	if r == nil || !r.Status.Open() && !r.CanRetry(m.now) || r.Status == approvals.Approved || m.hold {
		return nil
	}
	for _, o := range m.requests {
		if o.ID != r.ID && !o.Status.Yields() && r.Status != approvals.Pending {
			return nil // taken
		}
	}
	if r.Status != approvals.Pending {
		m.record(r, event(*r, approvals.EventReopened, who))
	} else if !m.now.Before(r.ExpiresAt()) {
		return nil
	}
	return r
}

// breakGlass is an accepted emergency release.
func (m *model) breakGlass() {
	if m.removed {
		return
	}
	r := m.reopened("chief")
	if r == nil {
		return
	}
	e := event(*r, approvals.EventBreakGlass, "chief")
	e.MFA, e.Reason, e.People = "totp", "the site is down", []string{"chief"}
	e.Data = approvals.Data{"round": fmt.Sprint(r.Round), "window_seconds": "900"}
	m.record(r, e)
}

// vote is one person's accepted vote. With the quorum it decides at once, as the
// use case does.
func (m *model) vote(who string) {
	r := m.reopened(who)
	if r == nil {
		return
	}
	for _, d := range r.Approvals() {
		if d.SlackUser == who {
			return
		}
	}
	e := event(*r, approvals.EventVoted, who)
	e.MFA = "totp"
	m.record(r, e)
}

// jobs is the list as the provider tells it truly.
func (m *model) jobs() []approvals.Job {
	gate := approvals.Job{ID: "g", Name: "hold", Type: "approval", Status: m.gate, Project: "gh/acme/shop", ApprovalRequestID: "ar"}
	if m.gate == approvals.JobSuccess {
		gate.ApprovedBy = m.openedBy
	}
	return []approvals.Job{gate, {ID: "d", Name: "deploy", Type: "build", Status: m.deploy, Needs: map[string][]string{"g": {"success"}}}}
}

func (m *model) facts() *approvals.Facts {
	f := m.requests[0].Facts
	f.WorkflowStatus = m.workflow
	return &f
}

// Kinds of looks, and what happens to the process meanwhile.
const (
	lookTrue = iota
	lookEmpty
	lookError
	lookGone
	lookFacts // true, but the facts cannot be read
	looks
)

const (
	dieNever = iota
	dieBeforeCommit
	dieBeforeCall
	dieAfterCall
	deaths
)

const (
	callDone = iota
	callRefused
	callLost    // done, but without an answer
	callDropped // not done, and without an answer
	answers
)

// follow is one delivery: look, step, commit, act, record the answer.
func (m *model) follow(kind, death, answer int) {
	for i := range m.requests {
		m.followOne(i, kind, death, answer)
		if death != dieNever {
			m.trails = map[string]approvals.Trail{} // a restart remembers no more than its last commit
			return
		}
	}
}

func (m *model) look(kind int) approvals.Look {
	l := approvals.Look{At: m.now, Self: self}
	switch kind {
	case lookTrue:
		l.Jobs = m.jobs()
	case lookEmpty:
	case lookError:
		l.Err = &approvals.CIError{Status: 503, Message: "503"}
	case lookGone:
		l.Err = &approvals.CIError{Status: 404, Message: "404"}
	case lookFacts:
		l.Jobs, l.FactsErr = m.jobs(), errors.New("no facts")
	}
	return l
}

func (m *model) followOne(i, kind, death, answer int) {
	r := m.requests[i]
	l := m.look(kind)
	for range 3 {
		m.steps++
		p := approvals.Policy{Required: required, Window: 15 * time.Minute, AutoApprove: m.auto}
		k := approvals.Knowledge{Policy: &p, Poll: 15 * time.Second, Valid: len(r.Deciding())}
		if _, ok := r.Emergency(); ok && m.removed {
			k.Valid, k.Lost = 0, []string{"chief"}
		}
		if m.hold {
			k.Hold = "the clock"
		}
		for j, o := range m.requests {
			if j != i {
				k.Others = append(k.Others, o)
			}
		}
		move := approvals.Step(r, m.trails[r.ID], l, k, m.now)
		m.judgeMove(r, l, k, move)
		if death == dieBeforeCommit {
			return
		}
		m.record(&r, move.Events...)
		m.requests[i] = r
		m.trails[r.ID] = move.Trail
		switch move.Act {
		case approvals.ActReadFacts:
			l.Facts = m.facts()
			continue
		case approvals.ActReadSiblings:
			l.Siblings = true
			continue
		case approvals.ActApprove:
			m.call(i, death, answer)
			return
		}
		return
	}
}

func (m *model) judgeMove(r approvals.Request, l approvals.Look, k approvals.Knowledge, move approvals.Move) {
	attempts := 0
	for _, e := range move.Events {
		if e.Type == approvals.EventAttempt {
			attempts++
		}
	}
	switch {
	case move.Act == approvals.ActApprove && attempts != 1:
		m.fails("I2: an approve call with %d recorded attempts", attempts)
	case move.Act != approvals.ActApprove && attempts != 0:
		m.fails("an attempt without a call")
	case move.Act == approvals.ActApprove && (k.Hold != "" || l.Err != nil || l.Facts == nil):
		m.fails("I12: an approve call without knowing everything")
	case move.Act == approvals.ActApprove && m.gate == approvals.JobSuccess:
		m.fails("I4: an approve call after the gate was seen open")
	case move.Next.IsZero() && r.Status.Open() && len(move.Events) == 0:
		m.fails("I5: nothing looks after a request that is %s any more", r.Status)
	case !move.Next.IsZero() && move.Next.Before(m.now):
		m.fails("the next look is in the past")
	case !move.Next.IsZero() && move.Next.Equal(m.now) && len(move.Events) == 0:
		m.fails("the follower spins")
	case l.Err == nil && len(l.Jobs) == 0 && m.trails[r.ID].Odd.What == "" && slices.ContainsFunc(move.Events, func(e approvals.Event) bool { return e.Type == approvals.EventCanceled }):
		m.fails("I10: one odd list canceled a request")
	}
}

// call is the approve call that was recorded.
func (m *model) call(i, death, answer int) {
	if death == dieBeforeCall {
		return
	}
	if answer != callDropped && answer != callRefused && m.gate == approvals.JobOnHold {
		m.calls++
	}
	if death == dieAfterCall {
		return
	}
	r := m.requests[i]
	e := event(r, approvals.EventAccepted, "")
	e.Actor.Kind = approvals.ActorCI
	e.Data = approvals.Data{"status": "202"}
	switch answer {
	case callRefused:
		e.Type, e.Reason, e.Data = approvals.EventGateRefused, "403", approvals.Data{"status": "403"}
	case callLost, callDropped:
		e.Type, e.Reason, e.Data = approvals.EventGateRefused, "no answer", approvals.Data{"status": "0"}
	}
	m.record(&r, e)
	m.requests[i] = r
}

// choices are all that can happen next.
const choices = others + 16

// do lets one thing happen.
func (m *model) do(choice int) {
	if choice < looks {
		m.follow(choice, dieNever, callDone)
		return
	}
	if choice -= looks; choice < deaths-1 {
		m.follow(lookTrue, choice+1, callDone)
		return
	}
	if choice -= deaths - 1; choice < answers-1 {
		m.follow(lookTrue, dieNever, choice+1)
		return
	}
	switch choice - (answers - 1) {
	case 0:
		m.vote("ana")
	case 1:
		m.vote("bea")
	case 2:
		if r := m.open(); r != nil && r.Status == approvals.Pending {
			m.record(r, event(*r, approvals.EventRejected, "bea"))
		}
	case 3:
		m.ask()
	case 4: // the gate is reached
		if m.gate == approvals.JobBlocked {
			m.gate = approvals.JobOnHold
		}
	case 5: // somebody opens it
		if m.gate == approvals.JobOnHold {
			m.gate, m.openedBy, m.deploy = approvals.JobSuccess, human, approvals.JobRunning
		}
	case 6: // somebody stops it
		if !m.gate.Final() {
			m.gate, m.workflow = approvals.JobCanceled, approvals.WorkflowCanceled
		}
	case 7: // what was accepted takes effect
		if m.calls > 0 && m.gate == approvals.JobOnHold {
			m.gate, m.openedBy, m.deploy = approvals.JobSuccess, self, approvals.JobRunning
		}
		m.calls = 0
	case 8:
		if m.deploy == approvals.JobRunning {
			m.deploy, m.workflow = approvals.JobSuccess, approvals.WorkflowSuccess
		}
	case 9:
		if m.deploy == approvals.JobRunning {
			m.deploy, m.workflow = approvals.JobFailed, approvals.WorkflowFailed
		}
	case 10:
		m.hold = !m.hold
	case 11:
		m.now = m.now.Add(11 * time.Second)
	case 12:
		m.now = m.now.Add(16 * time.Minute)
	case 13:
		m.now = m.now.Add(time.Hour)
	case 14:
		m.breakGlass()
	case 15:
		m.removed = !m.removed
	}
}

// calm ends all trouble and lets time pass: every request has to come to an end.
func (m *model) calm() {
	m.hold = false
	for range 8 {
		for range 3 {
			m.do(lookTrue)
			m.now = m.now.Add(20 * time.Second)
			m.do(others + 7) // what was accepted takes effect
		}
		m.now = m.now.Add(20 * time.Minute)
	}
	for _, r := range m.requests {
		if r.Status.Open() {
			m.fails("I5: the request is still %s", r.Status)
		}
		if m.openedBy == self && len(m.requests) == 1 && r.Status.Yields() && r.Status != approvals.Canceled {
			m.fails("I4: our call opened the gate, but the request is %s", r.Status)
		}
	}
}

// key names the state, with all times as ages.
func (m *model) key() string {
	text, err := json.Marshal(struct {
		R []approvals.Request
		T map[string]approvals.Trail
		M []any
	}{m.requests, m.trails, []any{m.gate, m.openedBy, m.calls > 0, m.deploy, m.workflow, m.hold, m.removed, m.asked}})
	if err != nil {
		panic(err)
	}
	return ages.ReplaceAllStringFunc(string(text), func(s string) string {
		at, err := time.Parse(time.RFC3339Nano, strings.Trim(s, `"`))
		if err != nil || at.IsZero() {
			return s
		}
		return m.now.Sub(at).String()
	})
}

// ages matches the times in a state.
var ages = regexp.MustCompile(`"\d{4}-\d\d-\d\dT[^"]*"`)

// story tells choices in words.
func story(auto bool, did []int) string {
	var b strings.Builder
	m := newModel(auto)
	fmt.Fprintf(&b, "auto %v\n", auto)
	for _, c := range did {
		m.do(c)
		states := make([]string, len(m.requests))
		for i, r := range m.requests {
			states[i] = fmt.Sprintf("%s (round %d, %d decisions, %d attempts)", r.Status, r.Round, len(r.Decisions), r.Attempt.Count)
		}
		fmt.Fprintf(&b, "%2d %s gate %s by %q: %s\n", c, m.now.Format(time.TimeOnly), m.gate, m.openedBy, strings.Join(states, ", "))
	}
	return b.String()
}

// play replays choices, and returns what was broken.
func play(auto bool, did []int) string {
	m := newModel(auto)
	for _, c := range did {
		if m.do(c); m.broken != "" {
			return m.broken
		}
	}
	return ""
}

// shrink leaves choices out as long as something stays broken.
func shrink(auto bool, did []int) []int {
	for n := len(did) / 2; n > 0; n /= 2 {
		for at := 0; at+n <= len(did); {
			if less := slices.Delete(slices.Clone(did), at, at+n); play(auto, less) != "" {
				did = less
			} else {
				at += n
			}
		}
	}
	return did
}

// others is where the choices begin that are neither looks nor crashes.
const others = looks + (deaths - 1) + (answers - 1)

// likely are the choices that lead somewhere.
var likely = []int{lookTrue, lookTrue, others, others + 1, others + 14, others + 4, others + 7, others + 8, others + 11}

// TestStepStories plays random stories. With -step.count 10000000 it takes as
// many steps by hand; a failure is shrunk and can be played again by its seed.
func TestStepStories(t *testing.T) {
	seed := *storySeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	rng := rand.New(rand.NewPCG(seed, 1))
	steps, stories := 0, 0
	ends := map[approvals.Status]int{}
	for steps < *storySteps {
		auto := rng.IntN(4) > 0
		m := newModel(auto)
		var did []int
		for range 60 {
			c := rng.IntN(choices)
			if rng.IntN(3) > 0 { // towards a decision and a deploy
				c = likely[rng.IntN(len(likely))]
			}
			did = append(did, c)
			if m.do(c); m.broken != "" {
				did = shrink(auto, did)
				t.Fatalf("seed %d, story %d: %s\n%s", seed, stories, play(auto, did), story(auto, did))
			}
		}
		if m.calm(); m.broken != "" {
			t.Fatalf("seed %d, story %d, after it was calm again: %s\n%s", seed, stories, m.broken, story(auto, did))
		}
		for _, r := range m.requests {
			ends[r.Status]++
		}
		steps += m.steps
		stories++
	}
	t.Logf("seed %d: %d stories, %d steps, nothing broken; the requests ended as %v", seed, stories, steps, ends)
	for _, s := range []approvals.Status{approvals.Deployed, approvals.DeployFailed, approvals.Released, approvals.Rejected, approvals.Expired, approvals.Canceled, approvals.Bypassed, approvals.Undeliverable} {
		if ends[s] == 0 {
			t.Errorf("no story ended as %s: the model does not get there", s)
		}
	}
}

// TestStepExplored lets everything happen in a small world, to the depth that the
// time allows, without looking at a state twice.
func TestStepExplored(t *testing.T) {
	type state struct {
		m   *model
		did []int
	}
	for _, auto := range []bool{true, false} {
		level := []state{{m: newModel(auto)}}
		seen := map[string]bool{level[0].m.key(): true}
		end := time.Now().Add(*exploreFor / 2)
		depth, steps := 0, 0
		for ; len(level) > 0 && time.Now().Before(end); depth++ {
			var next []state
			for _, s := range level {
				if time.Now().After(end) {
					break
				}
				for c := range choices {
					m := s.m.clone()
					m.do(c)
					steps++
					did := append(slices.Clone(s.did), c)
					if m.broken != "" {
						t.Fatalf("%s\n%s", m.broken, story(auto, did))
					}
					if k := m.key(); !seen[k] {
						seen[k] = true
						next = append(next, state{m, did})
					}
				}
			}
			level = next
		}
		t.Logf("auto %v: depth %d, %d states, %d choices taken", auto, depth, len(seen), steps)
	}
}
