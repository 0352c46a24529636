package bot

import (
	"maps"
	"slices"
	"strings"
	"sync"
)

// health keeps what the operator should know, one line a subject.
type health struct {
	mu       sync.Mutex
	problems map[string]string
}

func (h *health) bad(subject, detail string) (news bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.problems == nil {
		h.problems = map[string]string{}
	}
	news = h.problems[subject] != detail
	h.problems[subject] = detail
	return news
}

// doubt notes a problem unless something more exact is known of the subject.
func (h *health) doubt(subject, detail string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.problems == nil {
		h.problems = map[string]string{}
	}
	if h.problems[subject] == "" {
		h.problems[subject] = detail
	}
}

// settled takes a problem back, unless something else was noted of the subject
// meanwhile.
func (h *health) settled(subject, detail string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.problems[subject] == detail {
		delete(h.problems, subject)
	}
}

func (h *health) good(subject string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.problems, subject)
}

func (h *health) report() (ok bool, detail string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.problems) == 0 {
		return true, ""
	}
	var lines []string
	for _, subject := range slices.Sorted(maps.Keys(h.problems)) {
		lines = append(lines, subject+": "+h.problems[subject])
	}
	return false, strings.Join(lines, "; ")
}
