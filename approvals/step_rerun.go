package approvals

import (
	"slices"
	"time"
)

// A workflow that ended can be run again for a long time, but whoever runs it
// again mostly does so soon.
const (
	rerunSoon = time.Hour      // look every slowLook
	rerunLong = 24 * time.Hour // then every rerunLook
	rerunLook = 30 * time.Minute
)

// rerun looks for a newer workflow of the pipeline whose gate waits although
// nobody asked for it.
func (s *step) rerun() {
	t := &s.m.Trail
	closed := s.now.Sub(s.r.ClosedAt)
	if closed > rerunLong {
		return
	}
	every := slowLook
	if closed > rerunSoon {
		every = rerunLook
	}
	if due := latest(t.SiblingsAt, s.r.ClosedAt).Add(every); s.now.Before(due) {
		s.at(due)
		return
	}
	s.in(every)
	if !s.l.Siblings {
		if s.m.Act == ActNone && len(s.m.Events) == 0 {
			s.m.Act = ActReadSiblings
		}
		return
	}
	t.SiblingsAt = s.now
	for _, id := range s.l.Unasked {
		if !slices.Contains(s.r.NewerFlows, id) {
			s.happens(EventNewerWorkflow, Actor{Kind: ActorCI}, Data{"workflow_id": id})
		}
	}
}

// mayRerun reports whether a request ended so that its workflow may be run again
// without a job that files another request: a rerun from failed repeats no job
// that succeeded.
func (r Request) mayRerun() bool {
	return r.Status == DeployFailed || !r.Status.Open() && !r.Status.Passed()
}
