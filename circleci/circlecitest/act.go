package circlecitest

import (
	"fmt"
	"net/http"
	"time"
)

// Run starts a job whatever it waits for, for instance one that SetJobStatus had put into a queue. A job of a workflow
// is named by its name or its id, here and below.
func (s *Server) Run(workflowID, name string) error {
	return s.change(workflowID, name, func(_ *workflow, j *job) { s.run(j) })
}

// Succeed ends a job well. A gate succeeds by ApproveAs only.
func (s *Server) Succeed(workflowID, name string) error {
	return s.SetJobStatus(workflowID, name, "success")
}

// Fail ends a job badly.
func (s *Server) Fail(workflowID, name string) error {
	return s.SetJobStatus(workflowID, name, "failed")
}

// SetJobStatus gives a job any status, known to CircleCI or not, and lets the workflow go on from there. Who gives a gate
// the status success so makes a gate that nobody approved.
func (s *Server) SetJobStatus(workflowID, name, status string) error {
	return s.change(workflowID, name, func(_ *workflow, j *job) {
		if terminal(status) {
			j.end(status)
		} else {
			j.status, j.stoppedAt = status, nil
		}
	})
}

func (s *Server) change(workflowID, name string, apply func(*workflow, *job)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	wf, j, err := s.findJob(workflowID, name)
	if err != nil {
		return err
	}
	apply(wf, j)
	s.settle(wf)
	return nil
}

// SetWorkflowStatus makes a workflow say any status, such as queued or error; empty derives it from the jobs again.
func (s *Server) SetWorkflowStatus(workflowID, status string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	wf := s.workflows[workflowID]
	if wf == nil {
		return fmt.Errorf("no workflow %s", workflowID)
	}
	wf.status = status
	s.notify()
	return nil
}

// EditPipeline lets CircleCI say something else of the pipeline of a workflow from now on.
func (s *Server) EditPipeline(workflowID string, edit func(*Pipeline)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	wf := s.workflows[workflowID]
	if wf == nil {
		return fmt.Errorf("no workflow %s", workflowID)
	}
	edit(&wf.pipeline.Pipeline)
	s.notify()
	return nil
}

// ApproveAs is a person who approves a gate in CircleCI's own pages.
func (s *Server) ApproveAs(login, workflowID, gate string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, err := s.actor(login)
	if err != nil {
		return err
	}
	wf, j, err := s.findJob(workflowID, gate)
	if err != nil {
		return err
	}
	return s.approve(u, wf, j, false).err()
}

// CancelJobAs is a person who cancels one job.
func (s *Server) CancelJobAs(login, workflowID, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, err := s.actor(login)
	if err != nil {
		return err
	}
	wf, j, err := s.findJob(workflowID, name)
	if err != nil {
		return err
	}
	return s.cancelJob(u, wf, j).err()
}

// CancelWorkflowAs is a person who cancels a workflow.
func (s *Server) CancelWorkflowAs(login, workflowID string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, err := s.actor(login)
	if err != nil {
		return err
	}
	wf := s.workflows[workflowID]
	if wf == nil {
		return fmt.Errorf("no workflow %s", workflowID)
	}
	return s.cancelWorkflow(u, wf).err()
}

// Rerun starts an ended workflow again as a new workflow of the same pipeline and returns its id. From failed, jobs that
// succeeded count as done, approved gates included; otherwise every job and gate begins anew.
func (s *Server) Rerun(workflowID string, fromFailed bool) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.workflows[workflowID]
	if old == nil {
		return "", fmt.Errorf("no workflow %s", workflowID)
	}
	if old.alive() {
		return "", fmt.Errorf("workflow %s has not ended: %s", workflowID, old.state())
	}
	wf := &workflow{
		id: NewID(), name: old.name, tag: old.tag, pipeline: old.pipeline, startedBy: old.startedBy,
		createdAt: time.Now(), specs: old.specs,
	}
	for i, spec := range old.specs {
		spec.ID, spec.ApprovalRequestID = "", ""
		j := newJob(spec)
		if was := old.jobs[i]; fromFailed && was.status == "success" {
			j.status, j.number, j.approvedBy = was.status, was.number, was.approvedBy
			j.startedAt, j.stoppedAt = was.startedAt, was.stoppedAt
		}
		wf.jobs = append(wf.jobs, j)
	}
	s.insert(wf)
	return wf.id, nil
}

func (s *Server) actor(login string) (*User, error) {
	u := s.userByLogin(login)
	if u == nil {
		return nil, fmt.Errorf("no user %s", login)
	}
	if u.Access != Write {
		return nil, fmt.Errorf("user %s may not do that", login)
	}
	return u, nil
}

func (s *Server) findJob(workflowID, name string) (*workflow, *job, error) {
	wf := s.workflows[workflowID]
	if wf == nil {
		return nil, nil, fmt.Errorf("no workflow %s", workflowID)
	}
	j := wf.find(name)
	if j == nil {
		return nil, nil, fmt.Errorf("no job %q in workflow %s", name, workflowID)
	}
	return wf, j, nil
}

// approve is the effect of an approval, by API or by hand. The lock is held.
func (s *Server) approve(u *User, wf *workflow, j *job, byAPI bool) answer {
	took := j.Type == "approval" && j.status == "on_hold" && !(byAPI && s.opts.PendingApprove)
	s.approvals = append(s.approvals, approvalRecord{wf.id, Approval{
		ApprovalRequestID: j.ApprovalRequestID, UserID: u.ID, At: time.Now(), Took: took,
	}})
	if j.Type != "approval" || j.status != "on_hold" {
		s.notify()
		return refuse(http.StatusBadRequest, "Invalid approval job state")
	}
	if took {
		s.beginLag(wf)
		j.approvedBy = u.ID
		j.end("success")
	}
	s.settle(wf)
	return answer{status: http.StatusAccepted, body: message{"Accepted."}}
}

func (s *Server) cancelJob(u *User, wf *workflow, j *job) answer {
	if terminal(j.status) || j.status == "blocked" && !s.opts.CancelBlocked {
		return refuse(http.StatusBadRequest, "Job is not in a state that can be canceled")
	}
	s.beginLag(wf)
	j.canceledBy = u.ID
	j.end("canceled")
	s.settle(wf)
	return answer{status: http.StatusOK, body: message{"Job canceled successfully."}}
}

// cancelWorkflow of an ended workflow changes nothing and is accepted.
func (s *Server) cancelWorkflow(u *User, wf *workflow) answer {
	accepted := answer{status: http.StatusAccepted, body: message{"Accepted."}}
	if !wf.alive() {
		return accepted
	}
	s.beginLag(wf)
	wf.canceled, wf.canceledBy = true, u.ID
	for _, j := range wf.jobs {
		if !terminal(j.status) && j.status != "blocked" {
			j.canceledBy = u.ID
			j.end("canceled")
		}
	}
	s.settle(wf)
	return accepted
}
