package circlecitest

import (
	"slices"
	"time"
)

func terminal(status string) bool {
	switch status {
	case "success", "not_run", "failed", "retried", "infrastructure_fail", "timedout", "canceled", "unauthorized", "terminated-unknown":
		return true
	}
	return false
}

func failed(status string) bool {
	switch status {
	case "failed", "infrastructure_fail", "timedout", "terminated-unknown":
		return true
	}
	return false
}

// settle moves a workflow on until nothing changes any more, and ends it when nothing can. The lock is held.
//
// A gate whose requirements are met is put on hold, another job starts. Jobs behind one that failed or was cancelled stay
// blocked while anything else of the workflow lives, and become not_run when it ends (see Options.BlockedStays).
func (s *Server) settle(wf *workflow) {
	for s.advance(wf) {
	}
	switch {
	case wf.alive():
		wf.stoppedAt = nil
	case wf.stoppedAt == nil:
		now := time.Now()
		wf.stoppedAt = &now
	}
	s.notify()
}

// advance makes one round and tells whether anything changed.
func (s *Server) advance(wf *workflow) bool {
	changed := false
	for _, j := range wf.jobs {
		if j.status == "blocked" && !wf.canceled && wf.ready(j) {
			s.start(wf, j)
			changed = true
		}
	}
	if changed || wf.alive() || s.opts.BlockedStays {
		return changed
	}
	for _, j := range wf.jobs {
		if j.status == "blocked" {
			j.status = "not_run"
			changed = true // another job may accept that
		}
	}
	return changed
}

// alive tells whether a job runs or waits for something outside the workflow.
func (wf *workflow) alive() bool {
	return slices.ContainsFunc(wf.jobs, func(j *job) bool { return j.status != "blocked" && !terminal(j.status) })
}

func (wf *workflow) ready(j *job) bool {
	for _, r := range j.Requires {
		if dep := wf.find(r.Job); dep != nil && !r.accepts(dep.status) {
			return false
		}
	}
	return true
}

func (r Require) accepts(status string) bool {
	if !terminal(status) {
		return false
	}
	if len(r.Statuses) == 0 {
		return status == "success"
	}
	return slices.Contains(r.Statuses, "terminal") || slices.Contains(r.Statuses, status) ||
		failed(status) && slices.Contains(r.Statuses, "failed")
}

// find takes the name or the id of a job.
func (wf *workflow) find(name string) *job {
	for _, j := range wf.jobs {
		if j.Name == name || j.ID == name {
			return j
		}
	}
	return nil
}

func (s *Server) start(wf *workflow, j *job) {
	if j.Type == "approval" {
		j.status = "on_hold"
		return
	}
	if j.Group != "" && !s.mayUse(wf, j) {
		j.end("unauthorized")
		return
	}
	s.run(j)
}

func (s *Server) run(j *job) {
	now := time.Now()
	s.jobNumber++
	j.status, j.number, j.startedAt, j.stoppedAt = "running", s.jobNumber, &now, nil
}

func (j *job) end(status string) {
	now := time.Now()
	j.status, j.stoppedAt = status, &now
}

// mayUse judges a restricted context by those who let the job start.
func (s *Server) mayUse(wf *workflow, j *job) bool {
	approvers := map[string]bool{}
	wf.nearestApprovers(j, approvers, map[*job]bool{})
	if len(approvers) == 0 {
		approvers[wf.startedBy.ID] = true
	}
	for id := range approvers {
		if u := s.userByID(id); u == nil || !slices.Contains(u.Groups, j.Group) {
			return false
		}
	}
	return true
}

func (wf *workflow) nearestApprovers(j *job, found map[string]bool, seen map[*job]bool) {
	for _, r := range j.Requires {
		dep := wf.find(r.Job)
		if dep == nil || seen[dep] {
			continue
		}
		seen[dep] = true
		if dep.Type != "approval" {
			wf.nearestApprovers(dep, found, seen)
		} else if dep.approvedBy != "" {
			found[dep.approvedBy] = true
		}
	}
}

// state derives the workflow's status from its jobs.
func (wf *workflow) state() string {
	if wf.status != "" {
		return wf.status
	}
	has := func(is func(string) bool) bool {
		return slices.ContainsFunc(wf.jobs, func(j *job) bool { return is(j.status) })
	}
	one := func(want string) func(string) bool { return func(s string) bool { return s == want } }
	alive := func(s string) bool { return s != "blocked" && s != "on_hold" && !terminal(s) }
	switch {
	case wf.canceled:
		return "canceled"
	case wf.alive() && has(failed):
		return "failing"
	case has(alive):
		return "running"
	case wf.alive():
		return "on_hold"
	case has(one("unauthorized")):
		return "unauthorized"
	case has(failed):
		return "failed"
	case has(one("canceled")):
		return "canceled"
	case has(one("not_run")) && !has(one("success")):
		return "not_run"
	}
	return "success"
}
