package approvals

import (
	"fmt"
	"slices"
	"time"
)

// longDeploy is after how long a running deploy is looked at slowly.
const longDeploy = 6 * time.Hour

// released are the rules until the deploy has ended. It is judged on the jobs
// behind the gate alone, in a list that lacks none.
func (s *step) released() {
	if s.l.Err != nil {
		s.lookAgain(s.k.Poll, slowLook)
		return
	}
	pause := s.k.Poll
	if s.now.Sub(s.r.ReleasedAt) > longDeploy {
		pause = slowLook
	}
	if s.state == gateOdd || s.first || s.short() {
		s.in(pause)
		return
	}
	var filed []string
	for _, o := range s.k.Others {
		if o.JobID != "" {
			filed = append(filed, o.JobID)
		}
	}
	behind := dependents(s.l.Jobs, s.gate.ID, filed)
	jobs := list(slices.Sorted(slices.Values(jobNames(behind))))
	is, job := outcome(s.l.Jobs, behind, s.r.DeployJobs, false)
	if is == resultOpen && s.ended() {
		is, job = outcome(s.l.Jobs, behind, s.r.DeployJobs, true)
	}
	switch is {
	case resultNothing:
	case resultOpen:
		s.in(pause)
		if s.factsDue(false) {
			s.m.Act = ActReadFacts
		}
	case resultDone:
		s.happens(EventDeployed, Actor{Kind: ActorCI}, Data{"jobs": jobs}).Outcome = string(PhaseSucceeded)
	default:
		s.deployFailed(is, job, jobs)
	}
}

// deployFailed ends a request whose deploy failed or was skipped; job, one of jobs, decided that.
func (s *step) deployFailed(is result, job Job, jobs string) {
	outcome := string(job.Status)
	detail := fmt.Sprintf("job %s: %s", job.Name, job.Status)
	switch {
	case is == resultSkipped:
		outcome, detail = "skipped", fmt.Sprintf("job %s never ran: CircleCI skipped it", job.Name)
	case job.Status == JobUnauthorized:
		// https://circleci.com/docs/contexts/#restrict-a-context
		detail += "; its context is restricted to a group that the approver in CircleCI is not in"
	}
	s.ends(EventDeployFailed, Actor{Kind: ActorCI}, Failure{FailDeploy, detail}, Data{"jobs": jobs, "job": job.Name}).Outcome = outcome
}

// dependents lists the jobs behind a gate: those that need it, directly or
// through others, up to the next gate. A job behind it that filed another
// request does not count, nor does what needs it.
func dependents(jobs []Job, gateID string, filedRequests []string) []Job {
	everything := func(Job) bool { return true }
	behind := closure(jobs, []string{gateID}, everything)
	filed := only(filedRequests, func(id string) bool { return slices.Contains(behind, id) })
	excluded := closure(jobs, filed, everything)
	seen := closure(jobs, []string{gateID}, func(j Job) bool { return !j.IsGate() && !slices.Contains(excluded, j.ID) })
	return only(jobs, func(j Job) bool { return j.ID != gateID && slices.Contains(seen, j.ID) })
}

// closure returns the ids in roots and those of all jobs that need one of them,
// directly or through other jobs. A job for which let is false is left out, and
// does not connect others.
func closure(jobs []Job, roots []string, let func(Job) bool) []string {
	in := slices.Clone(roots)
	for grown := true; grown; {
		grown = false
		for _, j := range jobs {
			needs := func(id string) bool { _, ok := j.Needs[id]; return ok }
			if !slices.Contains(in, j.ID) && let(j) && slices.ContainsFunc(in, needs) {
				in, grown = append(in, j.ID), true
			}
		}
	}
	return in
}

// result is what a job behind a gate, or all of them, say of the deploy.
type result int

// The results. Of several jobs the last in this order counts: a job that still
// runs may fail, which says more than that another one was skipped.
const (
	resultNothing result = iota // nothing says anything: the release stays without an outcome
	resultDone
	resultSkipped
	resultOpen // it goes on
	resultFailed
)

// outcome judges the deploy on the jobs behind its gate, on those with the given
// names alone if there are such. jobs are all of the workflow. over: the workflow
// does not go on, so that every job is as it will stay. job is the one that decides.
func outcome(jobs, behind []Job, names []string, over bool) (is result, job Job) {
	if named := only(behind, func(j Job) bool { return slices.Contains(names, j.Name) }); len(named) > 0 {
		behind = named
	}
	spare := unneeded(jobs, over)
	for _, j := range behind {
		if _, ok := spare[j.ID]; !ok && j.result(over) > is {
			is, job = j.result(over), j
		}
	}
	return is, job
}

// result is what the job alone says of the deploy.
func (j Job) result(over bool) result {
	switch {
	case j.Status.Failed():
		return resultFailed
	case j.Status == JobSuccess:
		return resultDone
	case j.Status != JobNotRun && !over:
		return resultOpen
	}
	return resultSkipped
}

// unneeded are the jobs that did not run and did not have to, with their status: they
// run only after something else than success, or only after such a job.
func unneeded(jobs []Job, over bool) map[string]JobStatus {
	found := map[string]JobStatus{}
	for before := -1; len(found) > before; {
		before = len(found)
		for _, j := range jobs {
			if j.result(over) != resultSkipped {
				continue
			}
			for need, accepted := range j.Needs {
				if is, ok := found[need]; !accepts(accepted, JobSuccess) || ok && !accepts(accepted, is) {
					found[j.ID] = j.Status
				}
			}
		}
	}
	return found
}
