package circlecitest

import (
	"slices"
	"time"
)

// seldomRead is after how long a job list has caught up that was not read often enough before.
const seldomRead = 10 * time.Second

// lag is a job list that has not caught up yet.
type lag struct {
	items []wireJob
	reads int
	began time.Time
	until time.Time
}

// beginLag keeps the job list as it is now, just before an effect. While a list lags already, the older one stays.
func (s *Server) beginLag(wf *workflow) {
	if s.opts.ListLagReads <= 0 && s.opts.ListLag <= 0 {
		return
	}
	if !wf.lag.over() {
		return
	}
	now := time.Now()
	wf.lag = lag{items: s.currentJobs(wf), reads: s.opts.ListLagReads, began: now, until: now.Add(s.opts.ListLag)}
}

func (l *lag) over() bool {
	now := time.Now()
	return (l.reads <= 0 || now.Sub(l.began) >= seldomRead) && !now.Before(l.until)
}

// listJobs is one reading of the job list.
func (s *Server) listJobs(wf *workflow) []wireJob {
	if wf.lag.over() {
		return s.currentJobs(wf)
	}
	wf.lag.reads--
	return wf.lag.items
}

// pageStore remembers the rest of lists that were cut, oldest first; a page can be read again.
type pageStore struct {
	tokens []string
	rest   map[string][]any
}

const maxPagesKept = 1000

func (p *pageStore) put(rest []any) string {
	if p.rest == nil {
		p.rest = map[string][]any{}
	}
	if len(p.tokens) >= maxPagesKept {
		delete(p.rest, p.tokens[0])
		p.tokens = slices.Delete(p.tokens, 0, 1)
	}
	token := NewID()
	p.tokens = append(p.tokens, token)
	p.rest[token] = rest
	return token
}

// page cuts a list. The lock is held.
func (s *Server) page(items []any) answer {
	out := wirePage{Items: items}
	if n := s.opts.PageSize; n > 0 && len(items) > n {
		token := s.pages.put(items[n:])
		out.Items, out.NextPageToken = items[:n], &token
	}
	return answer{status: 200, body: out}
}
