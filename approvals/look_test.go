package approvals_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

func gateJob(status approvals.JobStatus) approvals.Job {
	return approvals.Job{ID: "g", Name: "hold", Type: "approval", Status: status}
}

func TestGateOfALook(t *testing.T) {
	build := approvals.Job{ID: "b", Name: "hold", Type: "build", Status: "success"}
	project := func(slug string) approvals.Job { j := gateJob("success"); j.Project = slug; return j }
	other := approvals.Job{ID: "o", Name: "Hold", Type: "approval", Status: "success"}
	for name, c := range map[string]struct {
		jobs []approvals.Job
		want string
	}{
		"no jobs":           {nil, "odd"},
		"only a build job":  {[]approvals.Job{build}, "odd"},
		"another spelling":  {[]approvals.Job{other}, "odd"},
		"two gates":         {[]approvals.Job{gateJob("success"), gateJob("on_hold")}, "odd"},
		"another project":   {[]approvals.Job{project("gh/x/y")}, "odd"},
		"project in caps":   {[]approvals.Job{project("gh/Acme/Shop")}, "opened"},
		"beside a build":    {[]approvals.Job{build, other, gateJob("on_hold")}, "on hold"},
		"success":           {[]approvals.Job{gateJob("success")}, "opened"},
		"blocked":           {[]approvals.Job{gateJob("blocked")}, "waits"},
		"not_running":       {[]approvals.Job{gateJob("not_running")}, "waits"},
		"queued":            {[]approvals.Job{gateJob("queued")}, "waits"},
		"running":           {[]approvals.Job{gateJob("running")}, "waits"},
		"unheard of":        {[]approvals.Job{gateJob("on-hold")}, "waits"},
		"empty":             {[]approvals.Job{gateJob("")}, "waits"},
		"canceled":          {[]approvals.Job{gateJob("canceled")}, "ended"},
		"not_run":           {[]approvals.Job{gateJob("not_run")}, "ended"},
		"failed":            {[]approvals.Job{gateJob("failed")}, "ended"},
		"unauthorized":      {[]approvals.Job{gateJob("unauthorized")}, "ended"},
		"timed out":         {[]approvals.Job{gateJob("timedout")}, "ended"},
		"infrastructure":    {[]approvals.Job{gateJob("infrastructure_fail")}, "ended"},
		"terminated":        {[]approvals.Job{gateJob("terminated-unknown")}, "ended"},
		"retried, not over": {[]approvals.Job{gateJob("retried")}, "waits"},
	} {
		r := approvals.Request{Asked: approvals.Asked{GateName: "hold", Facts: approvals.Facts{Project: "gh/acme/shop"}}}
		if got := approvals.GateOf(r, c.jobs); got != c.want {
			t.Errorf("%s: got %s; want %s", name, got, c.want)
		}
	}
}

func TestOurs(t *testing.T) {
	type in struct {
		r    approvals.Request
		gate approvals.Job
		self string
	}
	for name, c := range map[string]struct {
		change func(*in)
		want   bool
	}{
		"all fits":              {func(*in) {}, true},
		"no attempt":            {func(i *in) { i.r.Attempt.IDs = nil }, false},
		"attempt for another":   {func(i *in) { i.r.Attempt.IDs = []string{"x"} }, false},
		"in an earlier round":   {func(i *in) { i.r.Attempt.IDs = []string{"g", "x"} }, true},
		"job id is another":     {func(i *in) { i.gate.ApprovalRequestID = "x" }, false},
		"approval id fits":      {func(i *in) { i.gate.ID, i.gate.ApprovalRequestID = "x", "g" }, true},
		"by somebody else":      {func(i *in) { i.gate.ApprovedBy = "human" }, false},
		"by nobody known":       {func(i *in) { i.gate.ApprovedBy = "" }, false},
		"we do not know us":     {func(i *in) { i.self = "" }, false},
		"nobody knows anything": {func(i *in) { i.self, i.gate.ApprovedBy = "", "" }, false},
	} {
		i := in{approvals.Request{Status: approvals.Approved, Attempt: approvals.Attempt{Count: 1, IDs: []string{"g"}}}, gateJob("success"), "bot"}
		i.gate.ApprovedBy = "bot"
		c.change(&i)
		if got := i.r.Ours(i.gate, i.self); got != c.want {
			t.Errorf("%s: got %v; want %v", name, got, c.want)
		}
	}
}

func TestWindow(t *testing.T) {
	start := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	at := func(minutes int) time.Time { return start.Add(time.Duration(minutes) * time.Minute) }
	// Created at 0, approved at 10, usable for 15 minutes, at most until 120.
	for name, c := range map[string]struct {
		since int // minute from which on the gate could be approved; 0 = from the decision on
		now   int
		want  bool
	}{
		"at once": {0, 10, false}, "last moment": {0, 25, false}, "over": {0, 26, true},
		"reached before it ended": {20, 35, false}, "then over": {20, 36, true}, "reached long after": {90, 105, false},
		"reached before the decision": {5, 26, true}, "until retry ends": {119, 120, false}, "not beyond": {119, 121, true},
	} {
		r := approvals.Request{CreatedAt: start, ApprovedAt: at(10), Window: 15 * time.Minute}
		r.PendingTTL = 2 * time.Hour
		if c.since != 0 {
			r.Gate.Since = at(c.since)
		}
		if got := r.WindowOver(at(c.now)); got != c.want {
			t.Errorf("%s: got %v; want %v", name, got, c.want)
		}
	}
}

// graph makes jobs of "name:status<needs" with "@" before the names of gates.
func graph(specs ...string) []approvals.Job {
	var jobs []approvals.Job
	for _, s := range specs {
		s, needs, _ := strings.Cut(s, "<")
		name, status, _ := strings.Cut(s, ":")
		j := approvals.Job{Type: "build", Status: approvals.JobStatus(status), Needs: map[string][]string{}}
		if n, ok := strings.CutPrefix(name, "@"); ok {
			name, j.Type = n, "approval"
		}
		j.ID, j.Name = name, name
		for _, n := range strings.Fields(needs) {
			id, accepts, ok := strings.Cut(n, "=")
			j.Needs[id] = nil
			if ok {
				j.Needs[id] = strings.Split(accepts, ",")
			}
		}
		jobs = append(jobs, j)
	}
	return jobs
}

func TestDependentsAndOutcome(t *testing.T) {
	for name, c := range map[string]struct {
		jobs   []approvals.Job
		filed  []string
		behind string
		result string
		job    string
	}{
		"no job":                       {graph("build:success", "@g:success<build"), nil, "", "nothing", ""},
		"success":                      {graph("@g:success", "d:success<g"), nil, "d", "done", ""},
		"through others, any order":    {graph("e:success<d", "d:success<g", "@g:success", "x:failed"), nil, "e d", "done", ""},
		"one runs":                     {graph("@g:success", "d:success<g", "e:running<d"), nil, "d e", "open", ""},
		"one failed, one runs":         {graph("@g:success", "d:running<g", "e:failed<g"), nil, "d e", "failed", "e"},
		"blocked behind a failure":     {graph("@g:success", "d:failed<g", "e:blocked<d"), nil, "d e", "failed", "d"},
		"canceled":                     {graph("@g:success", "d:canceled<g"), nil, "d", "failed", "d"},
		"timed out":                    {graph("@g:success", "d:timedout<g"), nil, "d", "failed", "d"},
		"infrastructure":               {graph("@g:success", "d:infrastructure_fail<g"), nil, "d", "failed", "d"},
		"unauthorized":                 {graph("@g:success", "d:unauthorized<g"), nil, "d", "failed", "d"},
		"skipped":                      {graph("@g:success", "d:not_run<g"), nil, "d", "skipped", "d"},
		"skipped, another succeeded":   {graph("@g:success", "d:not_run<g", "unlock:success<g"), nil, "d unlock", "skipped", "d"},
		"skipped, another runs":        {graph("@g:success", "d:not_run<g", "unlock:running<g"), nil, "d unlock", "open", ""},
		"only after a failure":         {graph("@g:success", "d:success<g", "undo:not_run<d=failed"), nil, "d undo", "done", ""},
		"only after what needs one":    {graph("@g:success", "d:success<g", "tell:not_run<undo", "undo:not_run<d=failed", "log:not_run<tell d"), nil, "d undo tell log", "done", ""},
		"it might have run without":    {graph("@g:success", "d:success<g", "undo:not_run<d=failed", "e:not_run<d undo=success,not_run"), nil, "d undo e", "skipped", "e"},
		"after any end of it":          {graph("@g:success", "d:success<g", "undo:not_run<d=failed", "e:not_run<d undo=terminal"), nil, "d undo e", "skipped", "e"},
		"only after a failed check":    {graph("lint:success", "warn:not_run<lint=failed", "@g:success", "d:success<g", "tell:not_run<g warn"), nil, "d tell", "done", ""},
		"behind a gate to undo it":     {graph("@g:success", "d:success<g", "@h:not_run<d=failed", "undo:not_run<h d"), nil, "d undo", "done", ""},
		"it did run":                   {graph("@g:success", "d:failed<g", "undo:success<d=failed", "tell:success<undo"), nil, "d undo tell", "failed", "d"},
		"skipped in a circle":          {graph("@g:success", "a:not_run<g b", "b:not_run<a"), nil, "a b", "skipped", "a"},
		"after any end":                {graph("@g:success", "d:not_run<g", "tell:success<d=terminal"), nil, "d tell", "skipped", "d"},
		"unknown status":               {graph("@g:success", "d:success<g", "e:hibernating<g"), nil, "d e", "open", ""},
		"terminated-unknown":           {graph("@g:success", "d:terminated-unknown<g"), nil, "d", "failed", "d"},
		"no status":                    {graph("@g:success", "d:<g"), nil, "d", "open", ""},
		"up to the next gate":          {graph("@g:success", "d:success<g", "@h:on_hold<d", "p:blocked<h"), nil, "d", "done", ""},
		"two ways round a gate":        {graph("@g:success", "d:success<g", "@h:on_hold<d", "p:running<h d"), nil, "d p", "open", ""},
		"a job that filed a request":   {graph("@g:success", "d:success<g", "ask:running<d", "@h:blocked<ask", "p:blocked<h"), []string{"ask"}, "d", "done", ""},
		"and what needs it":            {graph("@g:success", "d:success<g", "ask:failed<d", "q:failed<ask"), []string{"ask"}, "d", "done", ""},
		"only the job that asked":      {graph("@g:success", "ask:success<g"), []string{"ask"}, "", "nothing", ""},
		"a filed job before this gate": {graph("ask:success", "@g:success<ask", "d:success<g"), []string{}, "d", "done", ""},
		"a diamond":                    {graph("@g:success", "a:success<g", "b:success<g", "c:success<a b"), nil, "a b c", "done", ""},
		"a circle":                     {graph("@g:success", "a:success<g b", "b:success<a"), nil, "a b", "done", ""},
	} {
		behind := approvals.Dependents(c.jobs, "g", c.filed)
		var names []string
		for _, j := range behind {
			names = append(names, j.Name)
		}
		want := strings.Fields(c.behind)
		slices.Sort(names)
		slices.Sort(want)
		if !slices.Equal(names, want) {
			t.Errorf("%s: behind the gate: got %q; want %q", name, names, want)
		}
		if result, job := approvals.JudgeJobs(c.jobs, behind, nil, false); result != c.result || job != c.job {
			t.Errorf("%s: got %s, job %q; want %s, %q", name, result, job, c.result, c.job)
		}
	}
}

func TestOutcomeOfNamedJobs(t *testing.T) {
	jobs := graph("@g:success", "deploy:success<g", "notify:failed<deploy", "wait:blocked<g", "undo:blocked<deploy=failed", "tell:blocked<undo")
	behind := approvals.Dependents(jobs, "g", nil)
	for name, c := range map[string]struct {
		names       []string
		over        bool
		result, job string
	}{
		"all":                  {nil, false, "failed", "notify"},
		"the deploy alone":     {[]string{"deploy"}, false, "done", ""},
		"one that waits":       {[]string{"deploy", "wait"}, false, "open", ""},
		"and never comes":      {[]string{"deploy", "wait"}, true, "skipped", "wait"},
		"what nobody needed":   {[]string{"tell"}, true, "nothing", ""},
		"none of these is one": {[]string{"release"}, false, "failed", "notify"},
	} {
		if result, job := approvals.JudgeJobs(jobs, behind, c.names, c.over); result != c.result || job != c.job {
			t.Errorf("%s: got %s, job %q; want %s, %q", name, result, job, c.result, c.job)
		}
	}
}

func TestStuck(t *testing.T) {
	for name, c := range map[string]struct {
		jobs []approvals.Job
		want bool
	}{
		"needs nothing":     {graph("@g:blocked"), false},
		"need runs":         {graph("b:running", "@g:blocked<b"), false},
		"need done":         {graph("b:success", "@g:blocked<b"), false},
		"need failed":       {graph("b:failed", "@g:blocked<b"), true},
		"need canceled":     {graph("b:canceled", "@g:blocked<b"), true},
		"need not run":      {graph("b:not_run", "@g:blocked<b"), true},
		"failed is wanted":  {graph("b:failed", "@g:blocked<b=success,failed"), false},
		"any end is wanted": {graph("b:failed", "@g:blocked<b=terminal"), false},
		"success unwanted":  {graph("b:success", "@g:blocked<b=failed"), true},
		"need unknown":      {graph("b:odd", "@g:blocked<b"), false},
		"need not listed":   {graph("@g:blocked<b"), false},
		"one of two failed": {graph("a:success", "b:failed", "@g:blocked<a b"), true},
	} {
		if got := approvals.Stuck(c.jobs, c.jobs[len(c.jobs)-1]); got != c.want {
			t.Errorf("%s: got %v; want %v", name, got, c.want)
		}
	}
}

func TestClosesGate(t *testing.T) {
	for _, s := range approvals.Statuses() {
		for _, mode := range []approvals.OnClose{approvals.CloseCancelJob, approvals.CloseCancelWorkflow, approvals.CloseNothing} {
			want := mode != approvals.CloseNothing && slices.Contains([]approvals.Status{"rejected", "expired", "superseded", "canceled"}, s)
			if got := (approvals.Request{Status: s, Asked: approvals.Asked{OnClose: mode}}).ClosesGate(); got != want {
				t.Errorf("%s with %s: got %v; want %v", s, mode, got, want)
			}
		}
	}
	for name, c := range map[string]struct {
		jobs []approvals.Job
		want bool
	}{
		"plain": {graph("@g:on_hold", "d:blocked<g=success"), false}, "no list": {graph("@g:on_hold", "d:blocked<g"), false}, "accepts": {graph("@g:on_hold", "d:blocked<g=success,canceled"), true},
		"terminal": {graph("@g:on_hold", "d:blocked<g=terminal"), true}, "of another": {graph("@g:on_hold", "d:blocked<g=success x=canceled"), false}, "failed only": {graph("@g:on_hold", "d:blocked<g=failed"), false},
	} {
		if got := approvals.AcceptsCanceled(c.jobs, "g"); got != c.want {
			t.Errorf("%s: got %v; want %v", name, got, c.want)
		}
	}
}

// One odd look is counted once, though it is judged again after something else was read
// that took long.
func TestOddLookIsCountedOnce(t *testing.T) {
	start := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	r := approvals.Request{ID: "R", Status: approvals.Pending, Asked: approvals.Asked{GateName: "hold", PendingTTL: time.Hour}, CreatedAt: start}
	k := approvals.Knowledge{Policy: &approvals.Policy{Required: 1}, Poll: 15 * time.Second}
	var trail approvals.Trail
	for _, c := range []struct {
		look, now time.Duration
		ends      bool
	}{{0, time.Second, false}, {0, 12 * time.Second, false}, {9 * time.Second, 30 * time.Second, false}, {10 * time.Second, 31 * time.Second, true}} {
		now := start.Add(c.now)
		m := approvals.Step(r, trail, approvals.Look{At: start.Add(c.look)}, k, now)
		trail = m.Trail
		if ends := len(m.Events) == 1; ends != c.ends || !ends && !m.Next.After(now) {
			t.Errorf("a look after %v, judged after %v: got %d events, and the next look %v later; want an end: %v", c.look, c.now, len(m.Events), m.Next.Sub(now), c.ends)
		}
	}
}
