package approvals_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// scene is what does not change in a story.
type scene struct {
	auto    bool // auto-approve
	onClose approvals.OnClose
	always  bool // a job behind the gate runs although the gate was cancelled
	freeze  bool // nobody may approve from 12:30 to 13:30
	remind  bool
	named   bool // the settings name the deploy job
	ttl     time.Duration
}

// randomScene draws a scene for a story.
func randomScene(rng *rand.Rand) scene {
	return scene{
		auto:    rng.IntN(4) > 0,
		onClose: []approvals.OnClose{approvals.CloseNothing, approvals.CloseCancelJob, approvals.CloseCancelWorkflow}[rng.IntN(3)],
		always:  rng.IntN(4) == 0, freeze: rng.IntN(4) == 0, remind: rng.IntN(2) == 0, named: rng.IntN(2) == 0,
		ttl: []time.Duration{time.Hour, time.Hour, 48 * time.Hour}[rng.IntN(3)],
	}
}

// policy is what the settings of a scene say.
func (s scene) policy() *approvals.Policy {
	p := &approvals.Policy{Required: required, Window: 15 * time.Minute, AutoApprove: s.auto}
	if s.freeze {
		p.Freeze = dayFreeze
	}
	if s.remind {
		p.RemindAfter = 10 * time.Minute
	}
	return p
}

var dayFreeze = func() approvals.Freeze {
	f, err := approvals.ParseFreeze("2030-01-01 12:30-2030-01-01 13:30 UTC")
	if err != nil {
		panic(err)
	}
	return f
}()

// model is a small world around [approvals.Step]: one workflow with one gate, two
// requests for it one after the other, two approvers, a provider that answers as
// it likes, and a process that may die at any moment. It judges every move.
type model struct {
	scene
	now      time.Time
	next     time.Time // when the workflow is to be looked at
	seq      int64
	requests []approvals.Request
	trails   map[string]approvals.Trail
	asked    int // requests made
	// lapsed are the rounds of requests whose approval could have been used for longer
	// than its window while nobody looked.
	lapsed map[string]int

	// What is true at the provider.
	build     approvals.JobStatus // what the gate needs
	gate      approvals.JobStatus
	heldAt    time.Time // since when it was on hold
	openedAt  time.Time
	openedBy  string
	stoppedBy string // who cancelled the gate
	calls     int    // approve calls that arrived and have not taken effect
	stops     int    // likewise of those that stop the gate
	deploy    approvals.JobStatus
	workflow  approvals.WorkflowStatus
	rerun     bool // a newer workflow waits unasked
	changed   bool // the facts are not those of the creation
	forgotten bool // the workflow is not known any more

	hold      bool   // decisions are on hold
	removed   bool   // who releases in an emergency may not any more
	ana       string // what became of an approver: "", "stale" or "lost"
	gone      bool   // the app is not in the settings
	overtaken bool   // a newer request took the place
	rolled    bool   // the database is an older copy
	unnamed   bool   // the list at hand does not say who opened the gate
	shorts    int    // how many lists in a row lacked jobs
	broken    string // the first promise that was broken
	steps     int
}

const (
	self     = "bot"
	human    = "human"
	required = 2
)

func newModel(s scene) *model {
	m := &model{
		scene: s, now: time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC), trails: map[string]approvals.Trail{}, lapsed: map[string]int{},
		build: approvals.JobRunning, gate: approvals.JobBlocked, deploy: approvals.JobBlocked, workflow: approvals.WorkflowRunning,
	}
	m.ask()
	return m
}

// clone copies what the choices change.
func (m *model) clone() *model {
	c := *m
	c.requests = slices.Clone(m.requests)
	c.trails = maps.Clone(m.trails)
	c.lapsed = maps.Clone(m.lapsed)
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
		m.judgeVerify(*r)
	}
}

// judgeVerify judges what the deploy job would be told now: yes in the window of the
// release, and otherwise only while an approval stands by which the gate may be open.
func (m *model) judgeVerify(r approvals.Request) {
	yes := r.MayDeploy(m.now) == nil
	window := m.policy().Window
	released := !r.ReleasedAt.IsZero() && m.now.Sub(r.ReleasedAt) <= window
	since := slices.MaxFunc([]time.Time{r.ApprovedAt, r.Attempt.At, r.Gate.Since}, time.Time.Compare)
	stands := r.Status == approvals.Approved && (!m.auto || r.Attempt.Count > 0) && m.now.Sub(since) <= window
	switch {
	case released && !yes:
		m.fails("the deploy job is told %v, %s after the release", r.MayDeploy(m.now), m.now.Sub(r.ReleasedAt))
	case yes && !released && !stands:
		m.fails("the deploy job is told yes for a request that is %s", r.Status)
	}
}

// judge looks for broken promises in one event.
func (m *model) judge(before, after approvals.Request, e approvals.Event) {
	switch e.Type {
	case approvals.EventApproved, approvals.EventBreakGlass, approvals.EventAttempt, approvals.EventReleased:
		m.judgeRight(before, after, e)
	case approvals.EventUndeliverable:
		m.judgeLost(before, e)
	case approvals.EventBypassed, approvals.EventGateBypassed:
		m.judgeLost(before, e)
		if m.gate != approvals.JobSuccess {
			m.fails("an alarm about a gate that is %s", m.gate)
		}
		if before.Gate.Bypassed {
			m.fails("a second alarm")
		}
		m.judgeBypass(before)
		if m.openedBy == self && !m.unnamed && before.Attempt.IDs != nil && before.Status.CanBecome(approvals.Released) && len(m.requests) == 1 {
			m.fails("an alarm about our own release")
		}
	case approvals.EventCanceled:
		m.judgeCanceled(before, e)
	case approvals.EventSuperseded:
		if !m.overtaken {
			m.fails("superseded by nothing")
		}
	case approvals.EventReminded:
		if m.inFreeze() || !before.RemindedAt.IsZero() || before.Round != 1 {
			m.fails("a reminder in a freeze or a second one")
		}
	case approvals.EventClosing:
		c := before.Closing
		if before.OnClose == approvals.CloseNothing || c.Answer >= 400 && c.Count >= 8 || c.Answer == 403 || before.CanRetry(m.now) || m.gate.Final() {
			m.fails("on_close %s stops a gate that is %s, %d tries before, answered %d", before.OnClose, m.gate, c.Count, c.Answer)
		}
		if since := m.now.Sub(c.At); c.Count >= 6 && since < 2*time.Minute {
			m.fails("on_close repeats call %d after %s", c.Count, since)
		}
		if m.always && m.shorts == 1 && m.trails[after.ID].Jobs > 0 && e.Outcome == string(approvals.CloseCancelJob) {
			m.fails("on_close goes by one list that lacks jobs")
		}
	case approvals.EventDeployed:
		if m.deploy != approvals.JobSuccess {
			m.fails("deployed, although the deploy is %s", m.deploy)
		}
	case approvals.EventDeployFailed:
		if m.deploy == approvals.JobSuccess || !m.deploy.Final() && !m.workflow.Final() {
			m.fails("the deploy failed, although it is %s", m.deploy)
		}
	case approvals.EventGateEnded:
		if !m.over() || before.Gate.Status != "" || after.CanRetry(m.now) {
			m.fails("the end of a gate that is %s, of which %q was recorded before", m.gate, before.Gate.Status)
		}
	case approvals.EventNewerWorkflow:
		if slices.Contains(before.NewerFlows, e.Data["workflow_id"]) {
			m.fails("a newer workflow is told twice")
		}
	}
}

// over reports whether the gate never opens any more. In a workflow that is over the
// list may leave a gate that is blocked as it was.
func (m *model) over() bool {
	return m.gate.Final() && m.gate != approvals.JobSuccess || m.gate == approvals.JobBlocked && m.workflow.Final()
}

// judgeRight judges what gives the right to deploy, and what uses it.
func (m *model) judgeRight(before, after approvals.Request, e approvals.Event) {
	switch e.Type {
	case approvals.EventApproved:
		if len(e.People) < required || m.inFreeze() || m.hold || m.gone {
			m.fails("I2: decided by %v, in a freeze %v, on hold %v, without settings %v", e.People, m.inFreeze(), m.hold, m.gone)
		}
		if before.Commits != nil && before.Commits.Config == approvals.ConfigOther {
			m.fails("a foreign configuration was approved")
		}
	case approvals.EventBreakGlass:
		if d, ok := after.Emergency(); !ok || d.MFA == "" || len(d.Reason) < 10 || before.Status != approvals.Pending {
			m.fails("I2: an emergency release %+v of a request that is %s", d, before.Status)
		}
	case approvals.EventAttempt:
		if before.Status != approvals.Approved || before.ApprovedAt.IsZero() || !m.auto || before.Restored || m.gone {
			m.fails("I2: an attempt for a request that is %s, restored %v, without settings %v", before.Status, before.Restored, m.gone)
		}
		if !m.counts(before) {
			m.fails("I2: an attempt by the decisions %+v, removed %v, ana %q", before.Decisions, m.removed, m.ana)
		}
		if before.Commits != nil && before.Commits.Config == approvals.ConfigOther {
			m.fails("an attempt for a foreign configuration")
		}
		if n, since := before.Attempt.Count, m.now.Sub(before.Attempt.At); n >= 4 && since < time.Minute {
			m.fails("call %d comes %s after the one before", n+1, since)
		}
		if m.lapsed[before.ID] == before.Round {
			m.fails("an attempt for an approval whose window was over while nobody looked")
		}
	case approvals.EventReleased:
		ours := m.openedBy == self && (before.Attempt.IDs != nil || before.Restored || m.rolled)
		inTime := m.lapsed[before.ID] != before.Round || m.openedAt.Sub(m.heldAt) < before.Window || m.openedAt.Sub(before.ApprovedAt) < before.Window
		// A window that was over for a minute is judged 30 s late, for the two clocks.
		// CircleCI's silence lengthens it, even that after the gate was opened: the
		// looks do not tell which came first.
		inTime = inTime || m.now.Sub(m.openedAt) > 30*time.Second
		handed := !m.auto && before.Status == approvals.Approved && !m.hold && m.counts(before) && inTime
		if m.gate != approvals.JobSuccess || !ours && !handed {
			m.fails("released, although the gate is %s by %q after %d calls", m.gate, m.openedBy, before.Attempt.Count)
		}
		if !ours && m.openedAt.Before(before.ApprovedAt) {
			m.fails("released by hand at %s, before the decision at %s", m.openedAt, before.ApprovedAt)
		}
		if !ours && !before.Gate.Waiting && m.openedAt.After(before.ApprovalExpiresAt().Add(30*time.Second)) {
			m.fails("released by hand after %s, until when the deploy job was told it could be used", before.ApprovalExpiresAt())
		}
	}
}

// judgeBypass looks for a gate that somebody opened in time after it was reached: the
// window begins no earlier than the last look that showed it not on hold yet.
func (m *model) judgeBypass(before approvals.Request) {
	looked := m.trails[before.ID].LookedAt
	if before.Status == approvals.Approved && !m.auto && before.Gate.Waiting && m.openedBy == human &&
		m.counts(before) && m.now.Sub(looked) < 15*time.Minute && m.now.Sub(before.CreatedAt) < m.ttl {
		m.fails("an alarm about a gate that was opened in time: it was not on hold at %s", looked)
	}
}

// judgeLost looks whether votes are lost of which an event says so.
func (m *model) judgeLost(before approvals.Request, e approvals.Event) {
	if e.Reason == approvals.FailAppGone && m.hold {
		m.fails("an app counts as gone while decisions are on hold")
	}
	if e.Reason == approvals.FailQuorumLost && (m.counts(before) || m.hold || m.ana == "stale") {
		m.fails("%s although the votes count, or cannot be judged: on hold %v, removed %v, ana %q", e.Data["detail"], m.hold, m.removed, m.ana)
	}
}

// judgeCanceled looks for the reason why a request was canceled.
func (m *model) judgeCanceled(before approvals.Request, e approvals.Event) {
	t := m.trails[before.ID]
	ok := false
	switch e.Reason {
	case approvals.FailWithdrawn:
		ok = true
	case approvals.FailAppGone:
		ok = m.gone && !m.hold
	case approvals.FailForeignConfig:
		ok = before.Commits != nil && before.Commits.Config == approvals.ConfigOther
	case approvals.FailFactsChanged:
		ok = t.Odd.What != "" || t.Changed.What != "" && m.changed
	case approvals.FailCIEnded:
		ok = m.gate != approvals.JobSuccess && (m.gate.Final() || m.workflow != approvals.WorkflowRunning)
	}
	if m.openedBy == self && before.Attempt.Count > 0 && m.now.Before(before.CreatedAt.Add(m.ttl)) {
		m.fails("canceled (%s) although our call had opened the gate", e.Data["detail"])
	}
	if !ok {
		m.fails("I10: canceled (%s) although the gate is %s, the workflow %s, and the trail %+v", e.Data["detail"], m.gate, m.workflow, t)
	}
}

// counts reports whether the decision is known to count now.
func (m *model) counts(r approvals.Request) bool {
	need := required
	if _, ok := r.Emergency(); ok {
		need = 1
	}
	valid, _ := m.valid(r)
	return valid >= need && !m.gone
}

func (m *model) inFreeze() bool { return m.freeze && m.scene.policy().Freeze.Says(m.now) != "" }

// valid counts the decisions of a request that count now, and lists whose do not.
func (m *model) valid(r approvals.Request) (valid int, lost []string) {
	for _, d := range r.Deciding() {
		switch {
		case d.SlackUser == "chief" && m.removed, d.SlackUser == "ana" && m.ana == "lost":
			lost = append(lost, d.SlackUser)
		case d.SlackUser == "ana" && m.ana == "stale":
		default:
			valid++
		}
	}
	return valid, lost
}

// open is the request that is open or, if there is none, one that can be retried.
func (m *model) open() *approvals.Request {
	for _, is := range []func(approvals.Request) bool{
		func(r approvals.Request) bool { return r.Status.Open() },
		func(r approvals.Request) bool { return r.CanRetry(m.now) },
	} {
		if i := slices.IndexFunc(m.requests, is); i >= 0 {
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
	var deploy []string
	if m.named {
		deploy = []string{"deploy"}
	}
	m.record(&r, approvals.Event{
		Type: approvals.EventRequested, Request: fmt.Sprintf("R%d", m.asked), App: "shop", Environment: "default",
		Asked: &approvals.Asked{
			Number: int64(m.asked), GateName: "hold", PendingTTL: m.ttl, AutoApprove: m.auto, Required: required, OnClose: m.onClose, DeployJobs: deploy,
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
	if r == nil || !r.Status.Open() && !r.CanRetry(m.now) || r.Status == approvals.Approved || m.hold || m.gone {
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

// vote is one person's accepted vote. The follower decides with the quorum.
func (m *model) vote(who string) {
	if m.inFreeze() || who == "ana" && m.ana != "" {
		return
	}
	r := m.reopened(who)
	if r == nil || slices.ContainsFunc(r.Approvals(), func(d approvals.Decision) bool { return d.SlackUser == who }) {
		return
	}
	e := event(*r, approvals.EventVoted, who)
	e.MFA = "totp"
	m.record(r, e)
}

// readCommits is what the code host says of the commit.
func (m *model) readCommits(config approvals.ConfigMatch) {
	r := m.open()
	if r == nil || r.Commits != nil {
		return
	}
	e := event(*r, approvals.EventCommitsRead, "")
	e.Actor.Kind, e.Commits = approvals.ActorCodeHost, &approvals.Commits{Count: 1, Config: config}
	m.record(r, e)
}

// jobs is the list as the provider tells it truly: a build, the gate, the deploy, the
// job that files the request of another environment, and one that undoes a deploy that
// failed, and one that tells of that.
func (m *model) jobs() []approvals.Job {
	gate := approvals.Job{
		ID: "g", Name: "hold", Type: "approval", Status: m.gate, Project: "gh/acme/shop", ApprovalRequestID: "ar",
		Needs: map[string][]string{"b": {"success"}}, CanceledBy: m.stoppedBy,
	}
	if m.gate == approvals.JobSuccess && !m.unnamed {
		gate.ApprovedBy, gate.StoppedAt = m.openedBy, m.openedAt
	}
	jobs := []approvals.Job{
		{ID: "b", Name: "build", Type: "build", Status: m.build}, gate,
		{ID: "d", Name: "deploy", Type: "build", Status: m.deploy, Needs: map[string][]string{"g": {"success"}}},
		{ID: "f", Name: "ask-eu", Type: "build", Status: approvals.JobRunning, Needs: map[string][]string{"g": {"success"}}},
		{ID: "u", Name: "undo", Type: "build", Status: approvals.JobBlocked, Needs: map[string][]string{"d": {"failed"}}},
		{ID: "n", Name: "notice", Type: "build", Status: approvals.JobBlocked, Needs: map[string][]string{"u": {"success"}}},
	}
	if m.deploy.Final() {
		jobs[4].Status, jobs[5].Status = approvals.JobNotRun, approvals.JobNotRun
	}
	if m.always {
		jobs[3].Needs["g"] = []string{"success", "canceled"}
	}
	return jobs
}

func (m *model) facts() *approvals.Facts {
	f := m.requests[0].Facts
	f.WorkflowStatus = m.workflow
	if m.workflow == approvals.WorkflowCanceled {
		f.CanceledBy = human
	}
	if m.changed {
		f.Revision = "def"
	}
	return &f
}

// Kinds of looks.
const (
	lookTrue    = "true"
	lookEmpty   = "empty"    // a list without jobs
	lookOther   = "other"    // a list of another project
	lookUnnamed = "unnamed"  // true, but it does not say who opened the gate
	lookShort   = "short"    // true, but it lacks the deploy
	lookGate    = "gate"     // true, but it lacks all that is behind the gate
	lookError   = "503"      // no list
	lookBusy    = "429"      // no list, and when to ask again
	lookLost    = "lost"     // no answer at all
	lookGone    = "404"      // no such workflow
	lookFacts   = "no facts" // true, but the facts cannot be read
	lookSlow    = "slow"     // true, but reading more takes a while
	lookPast    = "past"     // true, but all goes to its end before the facts are read
)

// Where the process may die in a delivery.
const (
	dieNever        = ""
	dieBeforeCommit = "before the commit"
	dieBeforeCall   = "before the call"
	dieAfterCall    = "after the call"
)

// Answers to a call.
const (
	callDone    = ""
	callRefused = "403"
	callBusy    = "429"
	callBroken  = "500"
	callLost    = "lost"    // done, but without an answer
	callDropped = "dropped" // not done, and without an answer
)

// follow is one delivery: look, step, commit, act, record the answer.
func (m *model) follow(kind, death, answer string) {
	m.lapse()
	for _, r := range m.requests {
		m.judgeVerify(r)
	}
	next, noted, shorts := time.Time{}, maps.Clone(m.trails), m.shorts
	switch {
	case m.forgotten:
	case kind == lookShort || kind == lookGate:
		m.shorts++
	case kind == lookTrue || kind == lookUnnamed || kind == lookFacts || kind == lookSlow || kind == lookPast:
		m.shorts = 0
	}
	for i := range m.requests {
		at := m.followOne(i, kind, death, answer)
		if next.IsZero() || !at.IsZero() && at.Before(next) {
			next = at
		}
		if death != dieNever {
			m.trails, m.shorts = noted, shorts // what was learnt is stored when a delivery ends
			return
		}
	}
	m.next = next
}

// lapse notes the approvals that could have been used for longer than their window
// while nobody looked, although it was time to.
func (m *model) lapse() {
	for _, r := range m.requests {
		since := m.next
		for _, t := range []time.Time{r.ApprovedAt, m.heldAt} {
			if t.After(since) {
				since = t
			}
		}
		if m.late() && r.Status == approvals.Approved && !m.heldAt.IsZero() && m.now.Sub(since) > r.Window+time.Minute {
			m.lapsed[r.ID] = r.Round
		}
	}
}

// late reports whether nobody looked when it was time to.
func (m *model) late() bool { return !m.next.IsZero() && m.now.Sub(m.next) > time.Minute }

// missed is for how long nobody looked by now.
func (m *model) missed() time.Duration {
	if !m.late() {
		return 0
	}
	return m.now.Sub(m.next)
}

func (m *model) look(kind string) approvals.Look {
	l := approvals.Look{At: m.now, Self: self, Names: map[string]string{human: "login of " + human}}
	if m.late() {
		l.Due = m.next
	}
	if m.forgotten {
		kind = lookGone
	}
	m.unnamed = kind == lookUnnamed
	switch kind {
	case lookTrue, lookUnnamed, lookSlow, lookPast:
		l.Jobs = m.jobs()
	case lookShort:
		l.Jobs = slices.Delete(m.jobs(), 2, 3)
	case lookGate:
		l.Jobs = m.jobs()[:2]
	case lookEmpty:
	case lookOther:
		l.Jobs = m.jobs()
		l.Jobs[1].Project = "gh/acme/other"
	case lookError:
		l.Err = &approvals.CIError{Status: 503, Message: "503"}
	case lookBusy:
		l.Err = &approvals.CIError{Status: 429, Message: "429", RetryAfter: time.Minute}
	case lookLost:
		l.Err = &approvals.CIError{Message: "no answer"}
	case lookGone:
		l.Err = &approvals.CIError{Status: 404, Message: "404"}
	case lookFacts:
		l.Jobs, l.FactsErr = m.jobs(), errors.New("no facts")
	}
	return l
}

// elsewhere is the request of another environment in the same workflow.
var elsewhere = approvals.Request{
	ID: "E", Number: 9, App: "shop", Environment: "eu", Status: approvals.Pending, Asked: approvals.Asked{JobID: "f", GateName: "hold-eu"},
}

// know is what the store knows of a request.
func (m *model) know(i int) approvals.Knowledge {
	r := m.requests[i]
	k := approvals.Knowledge{
		Policy: m.scene.policy(), Poll: 15 * time.Second, Rolled: m.rolled, Able: []string{"bea"},
		Others: append(slices.Delete(slices.Clone(m.requests), i, i+1), elsewhere),
	}
	k.Stale = m.ana == "stale"
	k.Valid, k.Lost = m.valid(r)
	if m.ana == "stale" {
		k.Able = nil
	}
	if m.gone {
		k.Policy = nil
	}
	if m.hold {
		k.Hold = "the clock"
	}
	if m.overtaken {
		k.Overtaken = &approvals.Request{ID: "N", Number: 10}
	}
	return k
}

// followOne steps one request until a step asks for no more to be read, and returns
// when to look again.
func (m *model) followOne(i int, kind, death, answer string) time.Time {
	r := m.requests[i]
	l := m.look(kind)
	for range 3 {
		m.steps++
		k := m.know(i)
		move := approvals.Step(r, m.trails[r.ID], l, k, m.now)
		m.judgeMove(r, l, k, move)
		if death == dieBeforeCommit {
			return m.now
		}
		m.record(&r, move.Events...)
		m.requests[i] = r
		m.trails[r.ID] = move.Trail
		switch move.Act {
		case approvals.ActNone:
			return move.Next
		case approvals.ActReadFacts:
			if kind == lookPast {
				m.reach()
				m.opens(human)
				m.deployEnds(approvals.JobSuccess, approvals.WorkflowSuccess)
			}
			if l.Facts = m.facts(); kind == lookSlow {
				m.now = m.now.Add(11 * time.Second)
			}
		case approvals.ActReadSiblings:
			if l.Siblings = true; m.rerun {
				l.Unasked = []string{"w2"}
			}
			if kind == lookSlow || kind == lookUnnamed {
				m.now = m.now.Add(11 * time.Second)
			}
		default:
			m.call(i, move.Act, death, answer)
			return m.now
		}
	}
	return m.now
}

// judgeMove looks for broken promises in what a step wants.
func (m *model) judgeMove(r approvals.Request, l approvals.Look, k approvals.Knowledge, move approvals.Move) {
	count := map[approvals.EventType]int{}
	for _, e := range move.Events {
		count[e.Type]++
	}
	approves, stops := move.Act == approvals.ActApprove, move.Act > approvals.ActApprove
	switch {
	case approves != (count[approvals.EventAttempt] == 1) || count[approvals.EventAttempt] > 1:
		m.fails("I2: the act %d with %d recorded attempts", move.Act, count[approvals.EventAttempt])
	case stops != (count[approvals.EventClosing] == 1):
		m.fails("the act %d with %d recorded tries to stop the gate", move.Act, count[approvals.EventClosing])
	case approves && (k.Hold != "" || l.Err != nil || l.Facts == nil || l.FactsErr != nil || k.Policy == nil):
		m.fails("I12: an approve call without knowing everything")
	case m.auto && l.FactsErr != nil && r.Status == approvals.Approved && count[approvals.EventExpired] > 0 && !m.trails[r.ID].FailedAt.IsZero() && m.now.Before(r.CreatedAt.Add(m.ttl)) && !r.Restored:
		m.fails("facts that cannot be read expire an approval")
	case m.hasty(l, move):
		m.fails("one odd look was counted twice: %v, %+v", count, move.Trail)
	case r.Status == approvals.Released && l.Err == nil && m.shorts == 1 && (move.Next.IsZero() || len(move.Events) > 0):
		m.fails("one list that lacks jobs ends the watch of a deploy: %v", count)
	case approves && l.Facts.Differs(r.Facts) != "":
		m.fails("an approve call although the facts changed")
	case (approves || stops) && (approvals.GateOf(r, l.Jobs) == "opened" || move.Gate.ID != "g" || move.Gate.Project != "gh/acme/shop"):
		m.fails("I4: a call about the gate %+v, which is %s", move.Gate, m.gate)
	case m.leaves(r, l, k, move):
		m.fails("a gate is left to a person although the approval does not count any more")
	case move.Next.IsZero() && r.Status.Open() && len(move.Events) == 0:
		m.fails("I5: nothing looks after a request that is %s any more", r.Status)
	case !move.Next.IsZero() && move.Next.Before(m.now):
		m.fails("the next look is in the past")
	case !move.Next.IsZero() && move.Next.Equal(m.now) && len(move.Events) == 0:
		m.fails("the follower spins")
	}
}

// hasty reports whether a move rests on something odd that was answered first less than
// 10 s before the look.
func (m *model) hasty(l approvals.Look, move approvals.Move) bool {
	young := func(doubts ...approvals.Doubt) bool {
		return slices.ContainsFunc(doubts, func(d approvals.Doubt) bool { return d.What != "" && l.At.Before(d.Since.Add(10*time.Second)) })
	}
	t := move.Trail
	return slices.ContainsFunc(move.Events, func(e approvals.Event) bool {
		switch e.Type {
		case approvals.EventCanceled:
			return e.Reason == approvals.FailFactsChanged && young(t.Odd, t.Changed)
		case approvals.EventBypassed, approvals.EventGateBypassed:
			return young(t.Odd)
		case approvals.EventDeployed, approvals.EventDeployFailed:
			return young(t.Short)
		}
		return false
	})
}

// leaves reports whether a move leaves a gate on hold to a person although the votes
// are known not to count.
func (m *model) leaves(r approvals.Request, l approvals.Look, k approvals.Knowledge, move approvals.Move) bool {
	handed := !m.auto && r.Status == approvals.Approved && approvals.GateOf(r, l.Jobs) == "on hold"
	return handed && !m.counts(r) && k.Hold == "" && !k.Stale && len(move.Events) == 0 && move.Act == approvals.ActNone && move.Trail.Changed.What == ""
}

// call is the call that was recorded.
func (m *model) call(i int, act approvals.Act, death, answer string) {
	if death == dieBeforeCall {
		return
	}
	arrives := answer == callDone || answer == callLost
	switch {
	case arrives && act == approvals.ActApprove && m.gate == approvals.JobOnHold:
		m.calls++
	case arrives && act != approvals.ActApprove:
		m.stops++
	}
	if death == dieAfterCall {
		return
	}
	r := m.requests[i]
	e := event(r, approvals.EventAccepted, "")
	e.Actor.Kind, e.Data = approvals.ActorCI, approvals.Data{"status": "202"}
	if act != approvals.ActApprove {
		e.Type, e.Outcome = approvals.EventGateClosed, "cancel_job"
	}
	if answer != callDone {
		if e.Type == approvals.EventAccepted {
			e.Type = approvals.EventGateRefused
		} else if answer != callRefused {
			return // it is tried again, and only what comes of it is news
		}
		e.Reason, e.Outcome, e.Data["status"] = answer, "refused", "0"
		if answer != callLost && answer != callDropped {
			e.Data["status"] = answer
		}
		if answer == callBusy {
			e.Data["retry_after"] = "60"
		}
	}
	m.record(&r, e)
	m.requests[i] = r
}

// choice is one thing that can happen next.
type choice struct {
	name   string
	weight int // how often stories choose it, compared with the others
	happen func(*model)
}

// choices are all that can happen next.
var choices = []choice{
	{"a look", 12, func(m *model) { m.follow(lookTrue, dieNever, callDone) }},
	{"looks for some minutes", 1, func(m *model) {
		for range 19 { // the next one reads the facts
			m.follow(lookTrue, dieNever, callDone)
			m.now = m.now.Add(15 * time.Second)
		}
	}},
	{"an empty list", 1, func(m *model) { m.follow(lookEmpty, dieNever, callDone) }},
	{"a list of another project", 1, func(m *model) { m.follow(lookOther, dieNever, callDone) }},
	{"a list without names", 1, func(m *model) { m.follow(lookUnnamed, dieNever, callDone) }},
	{"a list without the deploy", 1, func(m *model) { m.follow(lookShort, dieNever, callDone) }},
	{"a list that ends with the gate", 1, func(m *model) { m.follow(lookGate, dieNever, callDone) }},
	{"503 for a list", 1, func(m *model) { m.follow(lookError, dieNever, callDone) }},
	{"429 for a list", 1, func(m *model) { m.follow(lookBusy, dieNever, callDone) }},
	{"no answer for a list", 1, func(m *model) { m.follow(lookLost, dieNever, callDone) }},
	{"404 for a list", 1, func(m *model) { m.follow(lookGone, dieNever, callDone) }},
	{"a list that is past when the facts are read", 1, func(m *model) { m.follow(lookPast, dieNever, callDone) }},
	{"a look that takes long", 1, func(m *model) { m.follow(lookSlow, dieNever, callDone) }},
	{"no facts", 1, func(m *model) { m.follow(lookFacts, dieNever, callDone) }},
	{"death before the commit", 1, func(m *model) { m.follow(lookTrue, dieBeforeCommit, callDone) }},
	{"death before the call", 1, func(m *model) { m.follow(lookTrue, dieBeforeCall, callDone) }},
	{"death after the call", 1, func(m *model) { m.follow(lookTrue, dieAfterCall, callDone) }},
	{"403 for a call", 1, func(m *model) { m.follow(lookTrue, dieNever, callRefused) }},
	{"429 for a call", 1, func(m *model) { m.follow(lookTrue, dieNever, callBusy) }},
	{"500 for a call", 1, func(m *model) { m.follow(lookTrue, dieNever, callBroken) }},
	{"a call whose answer is lost", 1, func(m *model) { m.follow(lookTrue, dieNever, callLost) }},
	{"a call that is lost", 1, func(m *model) { m.follow(lookTrue, dieNever, callDropped) }},
	{"a call takes effect", 6, (*model).takeEffect},

	{"ana votes", 6, func(m *model) { m.vote("ana") }},
	{"bea votes", 6, func(m *model) { m.vote("bea") }},
	{"bea rejects", 1, (*model).reject},
	{"an emergency release", 3, (*model).breakGlass},
	{"CI asks", 2, (*model).ask},
	{"CI withdraws", 1, func(m *model) { m.withdraw(lookTrue) }},
	{"CI withdraws while CircleCI does not answer", 1, func(m *model) { m.withdraw(lookLost) }},
	{"the code host knows the configuration", 1, func(m *model) { m.readCommits(approvals.ConfigSame) }},
	{"the code host knows another configuration", 1, func(m *model) { m.readCommits(approvals.ConfigOther) }},
	{"a backup is restored", 1, (*model).restore},

	{"what was learnt is lost", 1, func(m *model) { clear(m.trails); clear(m.lapsed) }},

	{"the gate is reached", 6, (*model).reach},
	{"the build fails", 1, func(m *model) {
		if m.gate == approvals.JobBlocked {
			m.build, m.workflow = approvals.JobFailed, approvals.WorkflowFailed
		}
	}},
	{"the workflow ends before the gate", 1, func(m *model) {
		if m.gate == approvals.JobBlocked {
			m.build, m.workflow = approvals.JobUnauthorized, approvals.WorkflowUnauthorized
		}
	}},
	{"somebody opens the gate", 1, func(m *model) { m.opens(human) }},
	{"somebody opens the gate just before an emergency release", 1, func(m *model) {
		m.opens(human)
		m.now = m.now.Add(time.Second)
		m.breakGlass()
	}},
	{"somebody cancels the gate", 1, func(m *model) {
		if !m.gate.Final() {
			m.gate, m.stoppedBy = approvals.JobCanceled, human
		}
	}},
	{"somebody cancels the workflow", 1, func(m *model) {
		if !m.gate.Final() {
			m.gate, m.workflow = approvals.JobCanceled, approvals.WorkflowCanceled
		}
	}},
	{"the deploy succeeds", 6, func(m *model) { m.deployEnds(approvals.JobSuccess, approvals.WorkflowSuccess) }},
	{"the deploy fails", 1, func(m *model) { m.deployEnds(approvals.JobFailed, approvals.WorkflowFailed) }},
	{"the deploy is not authorised", 1, func(m *model) { m.deployEnds(approvals.JobUnauthorized, approvals.WorkflowUnauthorized) }},
	{"the deploy is skipped", 1, func(m *model) { m.deployEnds(approvals.JobNotRun, approvals.WorkflowSuccess) }},
	{"the workflow is run again", 1, func(m *model) { m.rerun = true }},
	{"the facts change", 1, func(m *model) { m.changed = !m.changed }},
	{"CircleCI forgets the workflow", 1, func(m *model) { m.forgotten = true }},

	{"decisions are on hold, or not any more", 1, func(m *model) { m.hold = !m.hold }},
	{"the chief may not any more, or may again", 1, func(m *model) { m.removed = !m.removed }},
	{"ana is not confirmed, or is again", 1, func(m *model) { m.ana = map[string]string{"": "stale"}[m.ana] }},
	{"ana is removed, or is back", 1, func(m *model) { m.ana = map[string]string{"": "lost"}[m.ana] }},
	{"the app leaves the settings, or is back", 1, func(m *model) { m.gone = !m.gone }},
	{"a newer request takes the place", 1, func(m *model) { m.overtaken = true }},
	{"an older database is found", 1, func(m *model) { m.rolled, m.hold = true, true }},

	{"11 s", 6, func(m *model) { m.now = m.now.Add(11 * time.Second) }},
	{"16 min", 1, func(m *model) { m.now = m.now.Add(16 * time.Minute) }},
	{"1 h", 1, func(m *model) { m.now = m.now.Add(time.Hour) }},
	{"7 h", 1, func(m *model) { m.now = m.now.Add(7 * time.Hour) }},
	{"25 h", 1, func(m *model) { m.now = m.now.Add(25 * time.Hour) }},
}

// draw has each choice as often as its weight says, but of the rare ones only a
// quarter: a story in which everything goes wrong gets nowhere.
func draw(rng *rand.Rand) (all []int) {
	for i, c := range choices {
		if c.weight == 1 && rng.IntN(4) > 0 {
			continue
		}
		for range c.weight {
			all = append(all, i)
		}
	}
	return all
}

func (m *model) reject() {
	if r := m.open(); r != nil && r.Status == approvals.Pending {
		m.record(r, event(*r, approvals.EventRejected, "bea"))
	}
}

// withdraw is what CI asks for; kind is the look that it takes when a call was made.
func (m *model) withdraw(kind string) {
	r := m.open()
	if r == nil || !r.Status.Open() {
		return
	}
	held := time.Time{}
	if l := m.look(kind); approvals.GateOf(*r, l.Jobs) == "on hold" {
		held = m.now
	}
	if !r.Releasing(held) {
		e := event(*r, approvals.EventCanceled, "")
		e.Actor.Kind, e.Reason = approvals.ActorToken, approvals.FailWithdrawn
		m.record(r, e)
	}
}

// restore marks what was approved in a backup.
func (m *model) restore() {
	if r := m.open(); r != nil && r.Status == approvals.Approved {
		m.record(r, event(*r, approvals.EventRestored, ""))
	}
}

func (m *model) reach() {
	if m.gate == approvals.JobBlocked && m.build == approvals.JobRunning {
		m.build, m.gate, m.heldAt = approvals.JobSuccess, approvals.JobOnHold, m.now
	}
}

func (m *model) opens(by string) {
	if m.gate == approvals.JobOnHold {
		m.gate, m.openedBy, m.openedAt, m.deploy = approvals.JobSuccess, by, m.now, approvals.JobRunning
	}
}

// takeEffect is what follows from a call that was accepted.
func (m *model) takeEffect() {
	if m.calls > 0 {
		m.opens(self)
	}
	switch {
	case m.stops > 0 && m.gate == approvals.JobOnHold:
		m.gate, m.workflow = approvals.JobCanceled, approvals.WorkflowCanceled
	case m.stops > 0 && m.gate == approvals.JobBlocked:
		m.build, m.workflow = approvals.JobCanceled, approvals.WorkflowCanceled
	}
	m.calls, m.stops = 0, 0
}

func (m *model) deployEnds(is approvals.JobStatus, workflow approvals.WorkflowStatus) {
	if m.deploy == approvals.JobRunning {
		m.deploy, m.workflow = is, workflow
	}
}

// calm ends all trouble and lets time pass: every request has to come to an end.
func (m *model) calm() {
	m.hold, m.gone, m.changed, m.forgotten, m.rolled, m.ana = false, false, false, false, false, ""
	for i := range 10 {
		for range 3 {
			m.follow(lookTrue, dieNever, callDone)
			m.now = m.now.Add(20 * time.Second)
			m.takeEffect()
		}
		m.now = m.now.Add(20 * time.Minute)
		for _, r := range m.requests {
			if i == 3 && r.Status == approvals.Rejected && r.OnClose != approvals.CloseNothing && r.Closing.Answer < 400 && m.gate == approvals.JobOnHold {
				m.fails("the gate of a rejected request is left on hold, %d tries, answered %d", r.Closing.Count, r.Closing.Answer)
			}
		}
		if i == 7 {
			m.now = m.now.Add(m.ttl)
		}
	}
	m.judgeRest()
	for _, r := range m.requests {
		if r.Status.Open() {
			m.fails("I5: the request is still %s", r.Status)
		}
		if m.openedBy == self && len(m.requests) == 1 && r.Status == approvals.Expired && !r.Gate.Bypassed {
			m.fails("I4: our call opened the gate, but the request is %s", r.Status)
		}
	}
}

// judgeRest lets days pass: a closed request is looked at at most every five minutes, and
// no more when its gate is over.
func (m *model) judgeRest() {
	for range 40 {
		m.now = m.now.Add(6 * time.Hour)
		m.follow(lookTrue, dieNever, callDone)
		m.takeEffect()
	}
	if slices.ContainsFunc(m.requests, func(r approvals.Request) bool { return r.Status.Passed() }) {
		return
	}
	if pause := m.next.Sub(m.now); !m.next.IsZero() && (m.over() || pause < 5*time.Minute) {
		m.fails("the workflow of closed requests is looked at again after %s, gate %s, workflow %s", pause, m.gate, m.workflow)
	}
}

// key names the state, with all times as ages.
func (m *model) key() string {
	text, err := json.Marshal(struct {
		R []approvals.Request
		T map[string]approvals.Trail
		M []any
	}{m.requests, m.trails, []any{
		m.build, m.gate, m.openedBy, m.stoppedBy, m.calls > 0, m.stops > 0, m.deploy, m.workflow, m.rerun, m.changed, m.forgotten,
		m.hold, m.removed, m.ana, m.gone, m.overtaken, m.rolled, m.asked, m.inFreeze(), min(m.shorts, 2),
		m.lapsed, max(0, m.heldAt.Sub(m.next)), m.missed(), m.openedAt,
	}})
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
