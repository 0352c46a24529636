package approvals

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// followDeploy judges the jobs behind an open gate.
func (s *Service) followDeploy(ctx context.Context, r Request, jobs []Job) (time.Duration, error) {
	gate, why := findGate(jobs, r.GateName)
	if why != nil {
		return slowWatch, nil
	}
	var again time.Duration
	err := s.update(ctx, func(tx Tx, now time.Time) error {
		again = 0
		r, err := tx.Request(r.ID)
		if err != nil || r.Status != Released {
			return err
		}
		siblings, err := tx.Requests(Filter{WorkflowID: r.Facts.WorkflowID})
		if err != nil {
			return err
		}
		var filed []string
		for _, o := range siblings {
			if o.ID != r.ID && o.JobID != "" {
				filed = append(filed, o.JobID)
			}
		}
		behind := dependents(jobs, gate.ID, filed)
		ended, failed := outcome(behind)
		if !ended {
			if !allFinal(behind) {
				again = s.deployPoll(r, now)
			}
			return nil
		}
		return s.deployEnded(tx, now, &r, behind, failed)
	})
	return again, err
}

// deployPoll slows down for a deploy that does not come to an end.
func (s *Service) deployPoll(r Request, now time.Time) time.Duration {
	if now.Sub(r.ReleasedAt) > 6*time.Hour {
		return slowWatch
	}
	return s.poll
}

func (s *Service) deployEnded(tx Tx, now time.Time, r *Request, behind []Job, failed *Job) error {
	r.Deploy.FinishedAt = now
	if r.Deploy.StartedAt.IsZero() {
		r.Deploy.StartedAt = r.ReleasedAt
	}
	r.ClosedAt = now
	e := about(*r, EventDeployed, Actor{Kind: ActorCI}, "circleci")
	if failed == nil {
		r.Status = Deployed
		r.Deploy.Phase = "succeeded"
		r.Deploy.Detail = jobNames(behind)
		e.Outcome = "succeeded"
	} else {
		r.Status = DeployFailed
		r.Deploy.Phase = "failed"
		r.Deploy.Detail = fmt.Sprintf("job %s: %s", failed.Name, failed.Status)
		if failed.Status == "unauthorized" {
			// https://circleci.com/docs/contexts/#restrict-a-context
			r.Deploy.Detail += "; its context is restricted to a group that the approver in CircleCI is not in"
		}
		r.Failure = Failure{FailDeploy, r.Deploy.Detail}
		e.Type, e.Outcome = EventDeployFailed, string(failed.Status)
	}
	e.Data = map[string]string{"jobs": jobNames(behind)}
	if failed != nil {
		e.Data["job"] = failed.Name
	}
	if err := tx.SaveRequest(r); err != nil {
		return err
	}
	e, err := record(tx, now, e)
	if err != nil {
		return err
	}
	effects := []Effect{reply(*r, e), cardUpdate(*r)}
	if mayRerun(*r) {
		effects = append(effects, rerunWatch(*r, now))
	}
	return enqueue(tx, effects...)
}

func jobNames(jobs []Job) string {
	names := make([]string, len(jobs))
	for i, j := range jobs {
		names[i] = j.Name
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}
