package circlecitest

import "time"

// Snapshot is everything a page needs to show the pipelines, oldest first. People are logins here.
type Snapshot struct {
	Pipelines []PipelineView `json:"pipelines"`
}

// PipelineView is one pipeline of a Snapshot.
type PipelineView struct {
	ID        string         `json:"id"`
	Number    int64          `json:"number"`
	Project   string         `json:"project"`
	Revision  string         `json:"revision"`
	Branch    string         `json:"branch"`
	Tag       string         `json:"tag"`
	Subject   string         `json:"subject"`
	Actor     string         `json:"actor"`
	Workflows []WorkflowView `json:"workflows"`
}

// WorkflowView is one workflow of a Snapshot.
type WorkflowView struct {
	ID         string     `json:"id"`
	Name       string     `json:"name"`
	Status     string     `json:"status"`
	StartedBy  string     `json:"started_by"`
	CanceledBy string     `json:"canceled_by"`
	CreatedAt  time.Time  `json:"created_at"`
	StoppedAt  *time.Time `json:"stopped_at"`
	Jobs       []JobView  `json:"jobs"`
}

// JobView is one job of a Snapshot.
type JobView struct {
	ID                string     `json:"id"`
	Name              string     `json:"name"`
	Type              string     `json:"type"`
	Status            string     `json:"status"`
	Requires          []string   `json:"requires"`
	ApprovalRequestID string     `json:"approval_request_id"`
	ApprovedBy        string     `json:"approved_by"`
	CanceledBy        string     `json:"canceled_by"`
	StartedAt         *time.Time `json:"started_at"`
	StoppedAt         *time.Time `json:"stopped_at"`
}

// Snapshot is the true state now; it does not lag.
func (s *Server) Snapshot() Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := Snapshot{Pipelines: []PipelineView{}}
	for _, p := range s.pipelines {
		v := PipelineView{
			ID: p.ID, Number: p.Number, Project: p.project.Slug, Revision: p.Revision, Branch: p.Branch, Tag: p.Tag,
			Subject: p.Subject, Actor: p.ActorLogin, Workflows: []WorkflowView{},
		}
		for _, wf := range p.workflows {
			v.Workflows = append(v.Workflows, s.view(wf))
		}
		out.Pipelines = append(out.Pipelines, v)
	}
	return out
}

// WorkflowStatus is the true status of a workflow; empty when there is none.
func (s *Server) WorkflowStatus(workflowID string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if wf := s.workflows[workflowID]; wf != nil {
		return wf.state()
	}
	return ""
}

// Job is the true state of a job, by name or id; false when there is none.
func (s *Server) Job(workflowID, job string) (JobView, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, j, err := s.findJob(workflowID, job)
	if err != nil {
		return JobView{}, false
	}
	return s.viewJob(j), true
}

// JobStatus is the true status of a job, by name or id; empty when there is none.
func (s *Server) JobStatus(workflowID, job string) string {
	v, _ := s.Job(workflowID, job)
	return v.Status
}

func (s *Server) view(wf *workflow) WorkflowView {
	v := WorkflowView{
		ID: wf.id, Name: wf.name, Status: wf.state(), StartedBy: wf.startedBy.Login, CanceledBy: s.login(wf.canceledBy),
		CreatedAt: seconds(wf.createdAt), StoppedAt: secondsOf(wf.stoppedAt), Jobs: []JobView{},
	}
	for _, j := range wf.jobs {
		v.Jobs = append(v.Jobs, s.viewJob(j))
	}
	return v
}

func (s *Server) viewJob(j *job) JobView {
	v := JobView{
		ID: j.ID, Name: j.Name, Type: j.Type, Status: j.status, Requires: []string{}, ApprovalRequestID: j.ApprovalRequestID,
		ApprovedBy: s.login(j.approvedBy), CanceledBy: s.login(j.canceledBy),
		StartedAt: secondsOf(j.startedAt), StoppedAt: secondsOf(j.stoppedAt),
	}
	for _, r := range j.Requires {
		v.Requires = append(v.Requires, r.Job)
	}
	return v
}

func (s *Server) login(id string) string {
	if u := s.userByID(id); u != nil {
		return u.Login
	}
	return id
}
