package circlecitest

import (
	"net/http"
	"slices"
	"time"
)

// Fault makes calls go wrong. With neither Status nor Drop the call is only delayed.
type Fault struct {
	Op   string // me, user, workflow, jobs, pipeline, values, config, pipeline-workflows, project, project-pipelines, approve, cancel-job, cancel-workflow; empty = any
	ID   string // only calls with this id in their path; empty = any
	When Phase  // default Before: nothing happens. After: the effect happens, but its answer is lost
	// Count is how many calls it hits; 0 = one, negative = all until ClearFaults.
	Count int

	Delay time.Duration // ends early when the caller goes away
	// Drop closes the connection without an answer. net/http repeats a GET by itself when that was a used connection.
	Drop bool

	Status     int // the answer to give
	Body       string
	Header     http.Header // default Content-Type: application/json
	RetryAfter string      // header of that name: seconds or an HTTP date
}

// Inject adds faults. A call takes at most one fault on each side of its effect: the oldest that matches.
func (s *Server) Inject(faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range faults {
		f.Header = f.Header.Clone()
		if f.When == "" {
			f.When = Before
		}
		if f.Count == 0 {
			f.Count = 1
		}
		s.faults = append(s.faults, &f)
	}
}

// ClearFaults takes back all faults that are left.
func (s *Server) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

func (s *Server) takeFault(op string, ids []string, when Phase) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, f := range s.faults {
		if f.When != when || f.Op != "" && f.Op != op || f.ID != "" && !slices.Contains(ids, f.ID) {
			continue
		}
		if f.Count > 0 {
			f.Count--
			if f.Count == 0 {
				s.faults = slices.Delete(s.faults, i, i+1)
			}
		}
		return f
	}
	return nil
}

// apply lets a fault happen to a call; with nil the call goes on.
func (f *Fault) apply(r *http.Request) *answer {
	if f == nil {
		return nil
	}
	if f.Delay > 0 {
		t := time.NewTimer(f.Delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-r.Context().Done():
		}
	}
	switch {
	case f.Drop:
		return &answer{drop: true}
	case f.Status == 0:
		return nil
	}
	h := f.Header.Clone()
	if h == nil {
		h = http.Header{"Content-Type": {"application/json"}}
	}
	if f.RetryAfter != "" {
		h.Set("Retry-After", f.RetryAfter)
	}
	return &answer{status: f.Status, raw: f.Body, header: h}
}
