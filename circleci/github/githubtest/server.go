// Package githubtest is a GitHub with state for tests and demonstrations: repositories with commits, pull requests and
// their reviews behind the calls that package github makes, and faults on demand.
//
// It refuses what the real service refuses: calls without a token or a User-Agent, unknown versions of the API,
// repositories that the token may not see, pages beyond its limits, and calls beyond the rate limit.
//
// All methods are safe for concurrent use. Add… methods panic on a mistake of the test.
package githubtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Token is the token that may see the repositories.
const Token = "github_pat_0123456789"

// Commit is one commit. Files are those that it changes; all others stay as they were. Without a Login the author's
// address belongs to no account.
type Commit struct {
	SHA, Parent string
	Message     string
	Author      string // name
	Login       string
	Files       map[string]string
}

// Review is one review of a pull request, such as APPROVED, CHANGES_REQUESTED, COMMENTED or DISMISSED.
type Review struct{ Login, State string }

// Pull is a pull request, with the commits that it brought.
type Pull struct {
	Number  int
	Title   string
	Merged  bool
	Commits []string
	Reviews []Review
}

// Fault makes calls go wrong.
type Fault struct {
	Path   string        // what the path has in it; empty = any call
	Count  int           // how many calls it hits; 0 = one, negative = all
	Delay  time.Duration // ends early when the caller goes away
	Drop   bool          // closes the connection without an answer
	Status int           // the answer to give; 0 = the right one
	Header map[string]string
	Body   string
}

type repo struct {
	commits map[string]*Commit
	pulls   []Pull
}

// Server is a simulated GitHub. Make it with New, and mount it as an http.Handler or call Start.
type Server struct {
	mu     sync.Mutex
	repos  map[string]*repo
	faults []*Fault
	calls  []string
	left   int // calls until the rate limit; negative = no limit
	reset  time.Time
}

// New makes a GitHub without repositories.
func New() *Server { return &Server{repos: map[string]*repo{}, left: -1} }

// Start serves on a free port of the loopback interface until stop.
func (s *Server) Start() (url string, stop func()) {
	srv := httptest.NewServer(s)
	return srv.URL, srv.Close
}

// AddCommit adds a commit to a repository (org/name), which is made if need be.
func (s *Server) AddCommit(name string, c Commit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.repos[name]
	if r == nil {
		r = &repo{commits: map[string]*Commit{}}
		s.repos[name] = r
	}
	if len(c.SHA) != 40 || r.commits[c.SHA] != nil || c.Parent != "" && r.commits[c.Parent] == nil {
		panic("githubtest: the commit has no hash of its own, or an unknown parent")
	}
	r.commits[c.SHA] = &c
}

// AddHistory adds n commits on top of one, and returns the newest.
func (s *Server) AddHistory(name, parent string, n int) string {
	for i := range n {
		sha := fmt.Sprintf("%040x", 0xabc0000+i)
		s.AddCommit(name, Commit{SHA: sha, Parent: parent, Message: fmt.Sprintf("Change %d", i+1), Author: "Bob", Login: "bob"})
		parent = sha
	}
	return parent
}

// AddPull adds a pull request.
func (s *Server) AddPull(name string, p Pull) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.repos[name]
	if r == nil || p.Number < 1 {
		panic("githubtest: a pull request without a repository or a number")
	}
	r.pulls = append(r.pulls, p)
}

// Inject adds a fault. A call takes the oldest that matches.
func (s *Server) Inject(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.Count == 0 {
		f.Count = 1
	}
	s.faults = append(s.faults, &f)
}

// ClearFaults ends all faults and the rate limit.
func (s *Server) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults, s.left = nil, -1
}

// Limit lets left more calls through, and no more before reset.
func (s *Server) Limit(left int, reset time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left, s.reset = left, reset
}

// Calls lists the paths and queries that were asked for.
func (s *Server) Calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

func (s *Server) takeFault(path string) (f Fault) {
	for i, f := range s.faults {
		if !strings.Contains(path, f.Path) {
			continue
		}
		if f.Count > 0 {
			if f.Count--; f.Count == 0 {
				s.faults = slices.Delete(s.faults, i, i+1)
			}
		}
		return *f
	}
	return f
}

// ServeHTTP answers the API.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.calls = append(s.calls, r.URL.RequestURI())
	f := s.takeFault(r.URL.RequestURI())
	s.mu.Unlock()
	select {
	case <-time.After(f.Delay):
	case <-r.Context().Done():
		return
	}
	if f.Drop {
		panic(http.ErrAbortHandler) // closes the connection, silently
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	if f.Status != 0 {
		for name, value := range f.Header {
			w.Header().Set(name, value)
		}
		w.WriteHeader(f.Status)
		_, _ = w.Write([]byte(f.Body)) // the caller may have gone
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer(w, r)
}

// answer is the service itself. The lock is held.
func (s *Server) answer(w http.ResponseWriter, r *http.Request) {
	refuse := func(status int, message string) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]string{"message": message})
	}
	switch {
	case r.Header.Get("User-Agent") == "":
		refuse(http.StatusForbidden, "Request forbidden by administrative rules. Please make sure your request has a User-Agent header")
		return
	case r.Header.Get("Authorization") != "Bearer "+Token:
		refuse(http.StatusUnauthorized, "Bad credentials")
		return
	case r.Header.Get("X-GitHub-Api-Version") != "2022-11-28":
		refuse(http.StatusBadRequest, "Unsupported API version")
		return
	}
	if s.left >= 0 && time.Now().Before(s.reset) {
		w.Header().Set("X-RateLimit-Reset", strconv.FormatInt(s.reset.Unix(), 10))
		w.Header().Set("X-RateLimit-Remaining", strconv.Itoa(max(s.left-1, 0)))
		if s.left == 0 {
			refuse(http.StatusForbidden, "API rate limit exceeded")
			return
		}
		s.left--
	}
	parts := strings.SplitN(strings.TrimPrefix(r.URL.Path, "/repos/"), "/", 4)
	if r.Method != http.MethodGet || !strings.HasPrefix(r.URL.Path, "/repos/") || len(parts) < 3 || s.repos[parts[0]+"/"+parts[1]] == nil {
		refuse(http.StatusNotFound, "Not Found")
		return
	}
	if len(parts) == 3 {
		parts = append(parts, "")
	}
	body, raw, err := s.repos[parts[0]+"/"+parts[1]].read(parts[2], parts[3], r)
	switch {
	case err != nil:
		refuse(http.StatusNotFound, "Not Found")
	case raw != nil:
		w.Header().Set("Content-Type", "application/vnd.github.raw+json; charset=utf-8")
		_, _ = w.Write(raw)
	default:
		_ = json.NewEncoder(w).Encode(body)
	}
}
