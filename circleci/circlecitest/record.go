package circlecitest

import (
	"net/http"
	"slices"
	"time"
)

// maxCalls bounds the log of calls; the oldest go first.
const maxCalls = 100_000

// Call is one HTTP call as it arrived.
type Call struct {
	At           time.Time
	Op           string // as in Fault.Op; empty for an unknown route
	Method, Path string
	IDs          []string // ids and slugs of the path, in order
	Status       int      // 0 = no answer yet, or dropped
}

// Approval is one try to approve that reached a gate, by API or by hand.
type Approval struct {
	ApprovalRequestID string
	UserID            string
	At                time.Time
	Took              bool // false: refused, or accepted and forgotten
}

type approvalRecord struct {
	workflowID string
	Approval
}

// Calls lists the calls so far, oldest first.
func (s *Server) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Call, len(s.calls))
	for i, c := range s.calls {
		out[i] = *c
		out[i].IDs = slices.Clone(c.IDs)
	}
	return out
}

// Count tells how many calls of an operation arrived.
func (s *Server) Count(op string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[op]
}

// Approvals lists the tries to approve a gate of the workflow, oldest first.
func (s *Server) Approvals(workflowID string) []Approval {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Approval
	for _, a := range s.approvals {
		if a.workflowID == workflowID {
			out = append(out, a.Approval)
		}
	}
	return out
}

func (s *Server) arrived(op string, ids []string, r *http.Request) *Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &Call{At: time.Now(), Op: op, Method: r.Method, Path: r.URL.EscapedPath(), IDs: ids}
	if len(s.calls) >= maxCalls {
		s.calls = slices.Delete(s.calls, 0, maxCalls/10)
	}
	s.calls = append(s.calls, c)
	s.counts[op]++
	s.notify()
	return c
}

func (s *Server) answered(c *Call, status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.Status = status
	s.notify()
}
