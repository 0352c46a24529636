package proof

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// Answer is what a person saw after sending a code.
type Answer int

// The answers. Unknown: none came, so that the code may or may not count.
const (
	Unknown Answer = iota
	Accepted
	Refused
)

// Submission is one code that was sent.
type Submission struct {
	User, Request string
	Step          int64 // of the code; 0 = a wrong code
	Sent          time.Time
	Answer        Answer
}

// Codes remembers every code that people sent. The zero value is ready, and safe
// for concurrent use.
type Codes struct {
	mu   sync.Mutex
	sent []*Submission
}

// Send remembers a code before it is sent; done records the answer.
func (c *Codes) Send(s Submission) (done func(Answer)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	kept := &s
	c.sent = append(c.sent, kept)
	return func(a Answer) {
		c.mu.Lock()
		defer c.mu.Unlock()
		kept.Answer = a
	}
}

// Broken compares all decisions in the log that took a code with the codes that
// were sent: each needs a right code of its own step (I2, I6), and every
// accepted code must have its event (I1).
func (c *Codes) Broken(log []approvals.Event) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []string
	left := slices.Clone(c.sent)
	type step struct {
		user string
		n    int64
	}
	used := map[step]bool{}
	for _, e := range log {
		if e.MFA != "totp" || e.Type != approvals.EventVoted && e.Type != approvals.EventBreakGlass && e.Type != approvals.EventRejected {
			continue
		}
		i := bestMatch(left, e)
		if i < 0 {
			found = append(found, fmt.Sprintf("I2: event %d %s of %s has no right code behind it", e.Seq, e.Type, e.Actor.ID))
			continue
		}
		s := step{left[i].User, left[i].Step}
		if used[s] {
			found = append(found, fmt.Sprintf("I6: event %d %s of %s took a step that was used before", e.Seq, e.Type, e.Actor.ID))
		}
		used[s] = true
		left = slices.Delete(left, i, i+1)
	}
	for _, s := range left {
		if s.Answer == Accepted && s.Step != 0 {
			found = append(found, fmt.Sprintf("I1: a code of %s was accepted at %s for %s and no event says so", s.User, s.Sent.UTC().Format("15:04:05.000"), s.Request))
		}
		if s.Answer == Accepted && s.Step == 0 {
			found = append(found, fmt.Sprintf("I2: a wrong code of %s was accepted", s.User))
		}
	}
	return found
}

// bestMatch finds the code behind an event: accepted rather than unknown, sent
// before it, the newest such.
func bestMatch(sent []*Submission, e approvals.Event) int {
	best := -1
	for i, s := range sent {
		if s.User != e.Actor.ID || s.Request != e.Request || s.Step == 0 || s.Answer == Refused || s.Sent.After(e.At().Add(tick)) {
			continue
		}
		if best < 0 || s.Answer == Accepted || sent[best].Answer != Accepted {
			best = i
		}
	}
	return best
}
