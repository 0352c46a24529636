package approvals_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/audit"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/totp"
)

// TestMachine clicks, breaks, kills and waits at random, and looks after every
// step whether what must never happen has happened.
//
// Ids and pauses are random in the product, so a failure may not repeat from
// its seed: the first one is therefore told with its whole story.
func TestMachine(t *testing.T) {
	t.Parallel()
	told := false
	rapid.Check(t, func(rt *rapid.T) {
		var failed any
		m := &machine{rt: rt, users: []string{"U01", "U02", "U03"}, lastCode: map[string]string{}}
		synctest.Test(t, func(*testing.T) {
			defer func() { failed = recover() }() // belongs to rapid, outside of the bubble
			m.play()
		})
		if failed != nil {
			if text := fmt.Sprintf("%T", failed); !told && text != "rapid.invalidData" {
				told = true
				t.Logf("%v\n%s", failed, m.told2)
			}
			panic(failed)
		}
	})
}

type machine struct {
	*world
	rt       *rapid.T
	required int
	users    []string
	lastCode map[string]string
	told2    string   // the story, once the world is closed
	wrongs   []string // what onPost found
	n        int
}

// story lists what the log has of the requests.
func (m *machine) story() string {
	var b strings.Builder
	if m.world != nil {
		numbers := map[string]int64{}
		for _, e := range m.events() {
			if e.Asked != nil {
				numbers[e.Request] = e.Asked.Number
			}
			if e.Request != "" {
				fmt.Fprintln(&b, e.Time, numbers[e.Request], e.Type, e.Actor.ID, e.Outcome, e.Reason, e.Data)
			}
		}
	}
	return b.String()
}

func (m *machine) play() {
	rt := m.rt
	m.required = rapid.IntRange(1, 2).Draw(rt, "required")
	settings := fmt.Sprintf("REQUIRED_APPROVALS=%d PENDING_TTL=%s DEPLOY_APPROVAL_WINDOW_MINUTES=%d ON_CLOSE=%s SUPERSEDE=%s MFA_ON_REJECT=%v BREAK_GLASS=U02,U03 FREEZE=%s", m.required,
		rapid.SampledFrom([]string{"3m", "20m"}).Draw(rt, "ttl"), rapid.IntRange(1, 2).Draw(rt, "window"),
		rapid.SampledFrom([]string{"cancel_job", "cancel_workflow", "nothing"}).Draw(rt, "on_close"), rapid.SampledFrom([]string{"branch", "off"}).Draw(rt, "supersede"), rapid.Bool().Draw(rt, "mfa_on_reject"),
		rapid.SampledFrom([]string{"", "Sat~00:03-Sat~00:10~UTC"}).Draw(rt, "freeze"))
	m.world = newWorld(rt, settings)
	defer func() {
		m.told2 = m.story()
		m.close()
	}()
	m.ci.onPost = m.onPost
	m.drain()
	for range rapid.IntRange(1, 2).Draw(rt, "requests") {
		m.n++
		_, _, err := m.ask(m.ci.newFlow(m.n, int64(m.n), rapid.SampledFrom([]approvals.JobStatus{"on_hold", "blocked"}).Draw(rt, "gate")))
		m.must(err)
	}
	rt.Repeat(map[string]func(*rapid.T){
		"":         func(*rapid.T) { m.check() },
		"request":  m.fileRequest,
		"approve":  m.click,
		"approve2": m.click,
		"approve3": m.click,
		"approve4": m.click,
		"reject":   m.clickReject,
		"glass":    m.breakGlass,
		"hold":     func(rt *rapid.T) { m.ci.hold(m.pick(rt).Facts.WorkflowID) },
		"outside": func(rt *rapid.T) {
			rapid.SampledFrom([]func(*rapid.T){m.humanApproves, m.cancelGate, m.withdraw}).Draw(rt, "what")(rt)
		},
		"deploy":  m.endDeploy,
		"fault":   m.breakCI,
		"heal":    func(*rapid.T) { m.heal() },
		"crash":   m.crashes,
		"person":  m.person,
		"slack":   func(rt *rapid.T) { m.dir.set(rapid.Bool().Draw(rt, "down")) },
		"deliver": func(*rapid.T) { m.drain() },
		"time": func(rt *rapid.T) {
			d := rapid.SampledFrom([]int{1, 16, 31, 70}).Draw(rt, "seconds")
			if !m.worker.Pass(m.ctx, time.Duration(d)*time.Second, time.Second) {
				rt.Fatal("the work never comes to an end")
			}
			synctest.Wait()
		},
		"sleep": func(rt *rapid.T) { // the process stands still
			time.Sleep(rapid.SampledFrom([]time.Duration{20 * time.Second, time.Minute, 2 * time.Minute, 12 * time.Minute}).Draw(rt, "time"))
			m.drain()
		},
	})
	m.finish()
}

func (m *machine) drain() {
	if !m.worker.Drain(m.ctx) {
		m.rt.Fatal("the work never comes to an end")
	}
	synctest.Wait()
}

func (m *machine) all() []approvals.Request {
	found, err := m.svc.Recent(m.ctx, approvals.Filter{})
	m.must(err)
	return found
}

// pick skips the action when there is no request yet.
func (m *machine) pick(rt *rapid.T) approvals.Request {
	all := m.all()
	if len(all) == 0 {
		rt.Skip()
	}
	return all[rapid.IntRange(0, len(all)-1).Draw(rt, "request")]
}

func (m *machine) fileRequest(rt *rapid.T) {
	if m.n > 0 && (m.n == 4 || rapid.Bool().Draw(rt, "again")) {
		_, _, _ = m.ask(m.pick(rt).Facts.WorkflowID)
		return
	}
	m.n++
	_, _, _ = m.ask(m.ci.newFlow(m.n, int64(m.n), rapid.SampledFrom([]approvals.JobStatus{"blocked", "on_hold"}).Draw(rt, "gate")))
}

func (m *machine) votes(user string) (n int) {
	for _, e := range m.events() {
		if e.Type == approvals.EventVoted && e.Actor.ID == user {
			n++
		}
	}
	return n
}

func (m *machine) click(rt *rapid.T) {
	r := m.pick(rt)
	user := rapid.SampledFrom(m.users).Draw(rt, "user")
	skew := time.Duration(rapid.IntRange(-1, 1).Draw(rt, "skew")) * 30 * time.Second
	code := m.secrets[user].At(time.Now().Add(skew))
	switch kind := rapid.SampledFrom([]string{"right", "right", "right", "wrong", "used"}).Draw(rt, "code"); {
	case kind == "wrong":
		code = m.wrong(user)
	case kind == "used" && m.lastCode[user] != "":
		code = m.lastCode[user]
	}
	votes, last := m.votes(user), m.factor(user).LastStep
	err := m.svc.Decide(m.ctx, approvals.Clicker{Team: team, User: user}, r.ID, approvals.ActionApprove, "", code)
	m.lastCode[user] = code
	gained, step := m.votes(user)-votes, m.factor(user).LastStep
	if gained == 0 && err == nil || gained > 1 {
		rt.Fatalf("%d votes of one click, which answered %v", gained, err)
	}
	if gained == 1 && (step <= last || m.secrets[user].At(totp.StepEnd(step-1)) != code) {
		rt.Fatalf("I6: %s voted with step %d after step %d, it is %d", user, step, last, totp.Step(time.Now()))
	}
	if rapid.Bool().Draw(rt, "deliver") {
		m.drain()
	}
}

// breakGlass is an emergency release; U01 may make none.
func (m *machine) breakGlass(rt *rapid.T) {
	r := m.pick(rt)
	user := rapid.SampledFrom(m.users).Draw(rt, "user")
	code := m.secrets[user].At(time.Now())
	right := rapid.Bool().Draw(rt, "right")
	if !right {
		code = m.wrong(user)
	}
	last := m.factor(user).LastStep
	err := m.svc.Decide(m.ctx, approvals.Clicker{Team: team, User: user}, r.ID, approvals.ActionBreakGlass, "the site is down", code)
	if err == nil && (user == "U01" || !right || m.factor(user).LastStep <= last) {
		rt.Fatalf("%s released in an emergency with a right code: %v", user, right)
	}
	m.lastCode[user] = code
}

func (m *machine) clickReject(rt *rapid.T) {
	user := rapid.SampledFrom(m.users).Draw(rt, "user")
	_ = m.svc.Decide(m.ctx, approvals.Clicker{Team: team, User: user}, m.pick(rt).ID, approvals.ActionReject, "no", m.code(user))
}

func (m *machine) withdraw(rt *rapid.T) {
	r := m.pick(rt)
	_, err := m.svc.Withdraw(m.ctx, m.token, r.ID, "")
	if err == nil && r.Status == approvals.Approved && r.Attempt.Count > 0 && time.Since(r.Attempt.At) < 15*time.Second && (r.Attempt.Answer < 400 || r.Attempt.Answer >= 500) {
		rt.Fatalf("#%d was withdrawn during an attempt", r.Number)
	}
}

func (m *machine) humanApproves(rt *rapid.T) { m.ci.humanApproves(m.pick(rt).Facts.WorkflowID) }

func (m *machine) cancelGate(rt *rapid.T) {
	m.ci.do(m.pick(rt).Facts.WorkflowID, func(f *flow) {
		if g := f.job("hold"); !g.Status.Final() {
			g.Status, g.CanceledBy = "canceled", "user-eve"
		}
	})
}

func (m *machine) endDeploy(rt *rapid.T) {
	status := rapid.SampledFrom([]approvals.JobStatus{"success", "failed", "odd"}).Draw(rt, "status")
	m.ci.do(m.pick(rt).Facts.WorkflowID, func(f *flow) {
		if d := f.job("deploy"); d.Status == "running" {
			d.Status = status
		}
	})
}

func (m *machine) breakCI(rt *rapid.T) {
	kind := rapid.SampledFrom([]string{"facts", "jobs", "approve", "approve", "cancel", "self"}).Draw(rt, "call")
	m.ci.breaks(kind, &fault{status: rapid.SampledFrom([]int{0, 400, 401, 403, 404, 429, 500}).Draw(rt, "status"), done: rapid.Bool().Draw(rt, "done"),
		times: rapid.IntRange(1, 4).Draw(rt, "times"), retry: time.Duration(rapid.IntRange(0, 40).Draw(rt, "retry")) * time.Second})
}

func (m *machine) heal() {
	for _, kind := range []string{"facts", "jobs", "approve", "cancel", "self"} {
		m.ci.breaks(kind, nil)
	}
}

// crashes kills the process before or after one of the next commits.
func (m *machine) crashes(rt *rapid.T) {
	left, after := rapid.IntRange(1, 6).Draw(rt, "commits"), rapid.Bool().Draw(rt, "after")
	m.pick(rt) // else nothing is there to be cut off
	dead := false
	m.store.crash = func() (bool, bool) {
		if dead {
			return true, false
		}
		if left--; left > 0 {
			return false, false
		}
		dead = true
		return !after, after
	}
	if rapid.Bool().Draw(rt, "click") {
		m.click(rt)
	}
	m.drainUntil(func() bool { return dead })
	m.store.crash = nil
	m.must(m.db.Leave(m.ctx))
	m.start()
}

func (m *machine) drainUntil(dead func() bool) {
	for i := 0; i < 3 && !dead(); i++ {
		if !m.worker.Drain(m.ctx) {
			m.rt.Fatal("the work never comes to an end")
		}
		time.Sleep(time.Second)
	}
}

func (m *machine) person(rt *rapid.T) {
	user := rapid.SampledFrom(m.users).Draw(rt, "user")
	if rapid.IntRange(0, 3).Draw(rt, "remove") == 0 {
		_ = m.admin.RemovePerson(m.ctx, user)
		return
	}
	_, err := m.admin.AddPerson(m.ctx, user, "", "login-"+user)
	m.must(err)
	if p, _ := m.admin.CheckActive(m.ctx, user); !p.Enrolled {
		m.secrets[user] = totp.NewSecret()
		m.must(m.admin.Enrol(m.ctx, user, m.secrets[user], "", approvals.EnrolledByImport))
	}
	_ = m.admin.Unlock(m.ctx, user)
	m.drain()
}

// onPost judges an approve call at the moment it is made, by the store alone.
func (m *machine) onPost(workflow, id string) {
	wrong := func(format string, args ...any) { m.wrongs = append(m.wrongs, fmt.Sprintf(format, args...)) }
	events := m.events()
	for _, r := range m.all() {
		if r.Facts.WorkflowID != workflow || r.Status != approvals.Approved {
			continue
		}
		decided, attempted := false, false
		for _, e := range events {
			if e.Request != r.ID || e.Data["round"] != fmt.Sprint(r.Round) {
				continue
			}
			decided = decided || e.Type.Approves()
			attempted = attempted || e.Type == approvals.EventAttempt && e.Data["approval_request_id"] == id
		}
		voters, needed := map[string]bool{}, m.required
		for _, d := range r.Deciding() {
			if _, err := m.admin.CheckActive(m.ctx, d.SlackUser); err == nil {
				voters[d.SlackUser] = true
			}
		}
		if d, ok := r.Emergency(); ok {
			if needed = 1; d.SlackUser == "U01" {
				wrong("I2: #%d posted for an emergency release by %s", r.Number, d.SlackUser)
			}
		}
		if !decided || !attempted || len(voters) < needed || r.Attempt.Answer != 0 {
			wrong("I2: #%d posted: decided %v, attempt recorded %v, %d of %d valid voters", r.Number, decided, attempted, len(voters), needed)
		}
		if r.Gate.Status == "success" {
			wrong("I4: #%d posted although the gate is known to be open", r.Number)
		}
		return
	}
	wrong("I2: posted for workflow %s without an approved request", workflow)
}

var statusOf = map[approvals.EventType]approvals.Status{
	approvals.EventApproved: approvals.Approved, approvals.EventBreakGlass: approvals.Approved, approvals.EventRejected: approvals.Rejected, approvals.EventReleased: approvals.Released, approvals.EventDeployed: approvals.Deployed,
	approvals.EventDeployFailed: approvals.DeployFailed, approvals.EventExpired: approvals.Expired, approvals.EventSuperseded: approvals.Superseded, approvals.EventCanceled: approvals.Canceled,
	approvals.EventBypassed: approvals.Bypassed, approvals.EventUndeliverable: approvals.Undeliverable, approvals.EventReopened: approvals.Pending,
}

func (m *machine) check() {
	m.rt.Helper()
	if len(m.wrongs) > 0 {
		m.rt.Fatal(m.wrongs)
	}
	events := m.events()
	standing := map[string]bool{}
	for _, r := range m.all() {
		status := approvals.Status("")
		rounds := map[string]bool{}
		for _, e := range events {
			if e.Request != r.ID {
				continue
			}
			if e.Type == approvals.EventRequested {
				status = approvals.Pending
			}
			if e.Type.Approves() {
				if rounds[e.Data["round"]] {
					m.rt.Fatalf("#%d was decided twice in round %s", r.Number, e.Data["round"])
				}
				rounds[e.Data["round"]] = true
			}
			if next, ok := statusOf[e.Type]; ok {
				if !status.CanBecome(next) {
					m.rt.Fatalf("#%d: the log says %s → %s", r.Number, status, next)
				}
				status = next
			}
		}
		closed := !r.Status.Open() && r.Status != approvals.Released
		if status != r.Status || closed == r.ClosedAt.IsZero() {
			m.rt.Fatalf("#%d is %s, closed at %v; the log says %s", r.Number, r.Status, r.ClosedAt, status)
		}
		if !r.Status.Yields() {
			if standing[r.Facts.WorkflowID] {
				m.rt.Fatalf("two requests stand for workflow %s", r.Facts.WorkflowID)
			}
			standing[r.Facts.WorkflowID] = true
		}
		var by string
		var gate approvals.JobStatus
		m.ci.do(r.Facts.WorkflowID, func(f *flow) { by, gate = f.job("hold").ApprovedBy, f.job("hold").Status })
		if (r.Status == approvals.Released || r.Status == approvals.Deployed) && (gate != "success" || by != botUser) {
			m.rt.Fatalf("#%d is %s, but its gate is %s by %q", r.Number, r.Status, gate, by)
		}
	}
}

// finish heals everything and expects that every request comes to an end, and
// that the log is complete.
func (m *machine) finish() {
	m.heal()
	m.dir.set(false)
	m.start()
	for range 30 {
		time.Sleep(time.Minute)
		m.drain()
	}
	m.check()
	for _, r := range m.all() {
		var by string
		m.ci.do(r.Facts.WorkflowID, func(f *flow) { by = f.job("hold").ApprovedBy })
		if r.Status.Open() {
			m.rt.Fatalf("#%d is still %s", r.Number, r.Status)
		}
		if by == botUser && !r.Status.Passed() && !r.Status.Yields() {
			m.rt.Fatalf("#%d is %s, but we opened its gate", r.Number, r.Status)
		}
	}
	checkpoint, err := m.svc.Checkpoint(m.ctx, 0)
	m.must(err)
	var log bytes.Buffer
	_, err = audit.Log{Service: m.svc, Store: m.db}.Export(m.ctx, audit.Export{Format: audit.ExportJSONL}, &log)
	m.must(err)
	report, err := ledger.Verify(&log, ledger.VerifyOptions{Checkpoint: checkpoint, Key: m.svc.VerifierKey()})
	if err != nil || report.NotAnchored != 1 { // the event of the export itself
		m.rt.Fatalf("I7: %v, %d not anchored", err, report.NotAnchored)
	}
	differences, err := approvals.Rebuild(m.ctx, m.db, true)
	if err != nil || len(differences) > 0 {
		m.rt.Fatalf("the rows are not what the log says: %v, %v", differences, err)
	}
}
