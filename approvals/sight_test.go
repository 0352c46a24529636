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

func TestSight(t *testing.T) {
	build := approvals.Job{ID: "b", Name: "hold", Type: "build", Status: "success"}
	project := func(slug string) approvals.Job { j := gateJob("success"); j.Project = slug; return j }
	other := approvals.Job{ID: "o", Name: "Hold", Type: "approval", Status: "success"}
	for name, c := range map[string]struct {
		jobs []approvals.Job
		want string
	}{
		"no jobs":           {nil, "changed"},
		"only a build job":  {[]approvals.Job{build}, "changed"},
		"another spelling":  {[]approvals.Job{other}, "changed"},
		"two gates":         {[]approvals.Job{gateJob("success"), gateJob("on_hold")}, "changed"},
		"another project":   {[]approvals.Job{project("gh/x/y")}, "changed"},
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
		r := approvals.Request{GateName: "hold", Facts: approvals.Facts{Project: "gh/acme/shop"}}
		if got := approvals.SightOf(r, c.jobs); got != c.want {
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
		"pending":               {func(i *in) { i.r.Status = approvals.Pending }, false},
		"closed":                {func(i *in) { i.r.Status = approvals.Expired }, false},
		"not automatic":         {func(i *in) { i.r.AutoApprove = false }, false},
		"no attempt":            {func(i *in) { i.r.Attempt.Count = 0 }, false},
		"attempt for another":   {func(i *in) { i.r.Attempt.ApprovalID = "x" }, false},
		"job id is another":     {func(i *in) { i.gate.ApprovalRequestID = "x" }, false},
		"approval id fits":      {func(i *in) { i.gate.ID, i.gate.ApprovalRequestID = "x", "g" }, true},
		"by somebody else":      {func(i *in) { i.gate.ApprovedBy = "human" }, false},
		"by nobody known":       {func(i *in) { i.gate.ApprovedBy = "" }, false},
		"we do not know us":     {func(i *in) { i.self = "" }, false},
		"nobody knows anything": {func(i *in) { i.self, i.gate.ApprovedBy = "", "" }, false},
	} {
		i := in{approvals.Request{Status: approvals.Approved, AutoApprove: true, Attempt: approvals.Attempt{Count: 1, ApprovalID: "g"}}, gateJob("success"), "bot"}
		i.gate.ApprovedBy = "bot"
		c.change(&i)
		if got := approvals.Ours(i.r, i.gate, i.self); got != c.want {
			t.Errorf("%s: got %v; want %v", name, got, c.want)
		}
	}
}

func TestWindow(t *testing.T) {
	start := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	at := func(minutes int) time.Time { return start.Add(time.Duration(minutes) * time.Minute) }
	// Created at 0, approved at 10, usable for 15 minutes, at most until 120.
	for name, c := range map[string]struct {
		blocked int // minute of the last block; 0 = never
		now     int
		want    bool
	}{
		"at once": {0, 10, false}, "last moment": {0, 25, false}, "over": {0, 26, true},
		"blocked before it ended": {20, 35, false}, "then over": {20, 36, true}, "blocked long after": {90, 105, false},
		"blocked before the decision": {5, 26, true}, "until retry ends": {119, 120, false}, "not beyond": {119, 121, true},
	} {
		r := approvals.Request{CreatedAt: start, PendingTTL: 2 * time.Hour, ApprovedAt: at(10), ApprovalExpiresAt: at(25)}
		if c.blocked != 0 {
			r.Attempt.LastBlocked = at(c.blocked)
		}
		if got := approvals.WindowOver(r, at(c.now)); got != c.want {
			t.Errorf("%s: got %v; want %v", name, got, c.want)
		}
		if c.blocked != 0 {
			continue
		}
		job := gateJob("success")
		if approvals.OpenedInWindow(r, job, at(c.now)) {
			t.Errorf("%s: nobody saw it wait since the decision: opened in the window", name)
		}
		r.Gate.WaitedAt = at(10).Add(time.Second)
		if got := approvals.OpenedInWindow(r, job, at(c.now)); got == c.want {
			t.Errorf("%s: opened in the window: got %v", name, got)
		}
		job.StoppedAt = at(c.now)
		if got := approvals.OpenedInWindow(r, job, at(500)); got == c.want {
			t.Errorf("%s: opened in the window, seen late: got %v", name, got)
		}
	}
}

// A gate that became success before the decision was opened without it.
func TestOpenedBeforeTheDecision(t *testing.T) {
	decided := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	r := approvals.Request{CreatedAt: decided.Add(-time.Hour), PendingTTL: 24 * time.Hour, ApprovedAt: decided, ApprovalExpiresAt: decided.Add(15 * time.Minute)}
	job := gateJob("success")
	job.StoppedAt = decided.Add(-10 * time.Minute)
	if approvals.OpenedInWindow(r, job, decided.Add(time.Second)) {
		t.Error("got in the window; want not: it was opened ten minutes before anybody approved")
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
		ended  bool
		failed string
	}{
		"no job":                       {graph("build:success", "@g:success<build"), nil, "", false, ""},
		"success":                      {graph("@g:success", "d:success<g"), nil, "d", true, ""},
		"through others, any order":    {graph("e:success<d", "d:success<g", "@g:success", "x:failed"), nil, "e d", true, ""},
		"one runs":                     {graph("@g:success", "d:success<g", "e:running<d"), nil, "d e", false, ""},
		"one failed, one runs":         {graph("@g:success", "d:running<g", "e:failed<g"), nil, "d e", true, "e"},
		"blocked behind a failure":     {graph("@g:success", "d:failed<g", "e:blocked<d"), nil, "d e", true, "d"},
		"canceled":                     {graph("@g:success", "d:canceled<g"), nil, "d", true, "d"},
		"timed out":                    {graph("@g:success", "d:timedout<g"), nil, "d", true, "d"},
		"infrastructure":               {graph("@g:success", "d:infrastructure_fail<g"), nil, "d", true, "d"},
		"unauthorized":                 {graph("@g:success", "d:unauthorized<g"), nil, "d", true, "d"},
		"not_run is no failure":        {graph("@g:success", "d:not_run<g"), nil, "d", false, ""},
		"unknown status":               {graph("@g:success", "d:success<g", "e:hibernating<g"), nil, "d e", false, ""},
		"terminated-unknown":           {graph("@g:success", "d:terminated-unknown<g"), nil, "d", true, "d"},
		"no status":                    {graph("@g:success", "d:<g"), nil, "d", false, ""},
		"up to the next gate":          {graph("@g:success", "d:success<g", "@h:on_hold<d", "p:blocked<h"), nil, "d", true, ""},
		"two ways round a gate":        {graph("@g:success", "d:success<g", "@h:on_hold<d", "p:running<h d"), nil, "d p", false, ""},
		"a job that filed a request":   {graph("@g:success", "d:success<g", "ask:running<d", "@h:blocked<ask", "p:blocked<h"), []string{"ask"}, "d", true, ""},
		"and what needs it":            {graph("@g:success", "d:success<g", "ask:failed<d", "q:failed<ask"), []string{"ask"}, "d", true, ""},
		"only the job that asked":      {graph("@g:success", "ask:success<g"), []string{"ask"}, "", false, ""},
		"a filed job before this gate": {graph("ask:success", "@g:success<ask", "d:success<g"), []string{}, "d", true, ""},
		"a diamond":                    {graph("@g:success", "a:success<g", "b:success<g", "c:success<a b"), nil, "a b c", true, ""},
		"a circle":                     {graph("@g:success", "a:success<g b", "b:success<a"), nil, "a b", true, ""},
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
		ended, failed := approvals.JudgeJobs(behind)
		got := ""
		if failed != nil {
			got = failed.Name
		}
		if ended != c.ended || got != c.failed {
			t.Errorf("%s: got ended %v, failed %q; want %v, %q", name, ended, got, c.ended, c.failed)
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
		for _, mode := range []string{approvals.CloseCancelJob, approvals.CloseCancelWorkflow, approvals.CloseNothing} {
			want := mode != approvals.CloseNothing && slices.Contains([]approvals.Status{"rejected", "expired", "superseded", "canceled"}, s)
			if got := approvals.ClosesGate(approvals.Request{Status: s, OnClose: mode}); got != want {
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
