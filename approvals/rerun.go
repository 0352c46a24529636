package approvals

import (
	"context"
	"slices"
	"time"
)

// A workflow that ended can be run again for a long time, but who runs it again
// mostly does so soon.
const (
	rerunSoon = time.Hour      // look every slowWatch
	rerunLong = 24 * time.Hour // then every rerunLater
	rerunLook = 30 * time.Minute
)

// mayRerun reports whether a request ended so that its workflow may be run
// again without a job that files another request: a rerun from failed repeats
// no job that succeeded.
func mayRerun(r Request) bool {
	return r.Status == DeployFailed || !r.Status.Open() && !r.Status.Passed()
}

func rerunWatch(r Request, now time.Time) Effect {
	return Effect{Kind: RerunWatch, Lane: watch(r.ID, now).Lane, Request: r.ID, Dedupe: "rerun:" + r.ID, Due: now.Add(slowWatch)}
}

// lookForRerun tells the thread when the request's pipeline has a newer workflow
// whose gate waits although nobody asked for it.
func (s *Service) lookForRerun(ctx context.Context, e Effect) Outcome {
	r, err := s.get(ctx, e.Request)
	if err != nil {
		return Again(slowWatch, err)
	}
	closed := now().Sub(r.ClosedAt)
	if !mayRerun(r) || closed > rerunLong {
		return Done()
	}
	next := Again(slowWatch, nil)
	if closed > rerunSoon {
		next.After = rerunLook
	}
	workflow, err := s.unasked(ctx, r)
	if err != nil || workflow == "" {
		next.Err = err
		return next
	}
	next.Record = func(tx Tx, now time.Time) error {
		r, err := tx.Request(e.Request)
		if err != nil {
			return err
		}
		found := about(r, EventNewerWorkflow, Actor{Kind: ActorCI}, "circleci")
		found.Data = map[string]string{"workflow_id": workflow}
		if found, err = record(tx, now, found); err != nil {
			return err
		}
		return tx.Enqueue(reply(r, found))
	}
	return next
}

// unasked finds the id of a newer workflow of the pipeline whose gate is on hold
// without a request, and of which the thread does not know; "" when there is none.
func (s *Service) unasked(ctx context.Context, r Request) (string, error) {
	if err := s.pace.wait(ctx, 1); err != nil {
		return "", err
	}
	workflows, err := s.ci.Workflows(ctx, r.Facts.PipelineID)
	if err != nil {
		return "", err
	}
	own := slices.IndexFunc(workflows, func(w WorkflowRef) bool { return w.ID == r.Facts.WorkflowID })
	for _, newer := range workflows[own+1:] {
		id := newer.ID
		asked := false
		err := s.view(ctx, func(tx Tx, _ time.Time) error {
			found, err := tx.Requests(Filter{Apps: []string{r.App}, Environment: r.Environment, WorkflowID: id, Limit: 1})
			if err != nil || len(found) > 0 {
				asked = true
				return err
			}
			told, err := tx.EventsOf(r.ID)
			asked = slices.ContainsFunc(told, func(e Event) bool { return e.Type == EventNewerWorkflow && e.Data["workflow_id"] == id })
			return err
		})
		if err != nil {
			return "", err
		}
		if asked {
			continue
		}
		if err := s.pace.wait(ctx, 1); err != nil {
			return "", err
		}
		jobs, err := s.ci.Jobs(ctx, id)
		if err != nil {
			return "", err
		}
		if gate, why := findGate(jobs, r.GateName); why == nil && gate.Status == "on_hold" {
			return id, nil
		}
	}
	return "", nil
}
