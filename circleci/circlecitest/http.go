package circlecitest

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

type answer struct {
	status int
	body   any    // JSON
	raw    string // instead of body
	header http.Header
	drop   bool
}

type message struct {
	Message string `json:"message"`
}

func refuse(status int, text string) answer { return answer{status: status, body: message{text}} }

func (a answer) err() error {
	if m, ok := a.body.(message); ok && a.status >= 400 {
		return errors.New(m.Message)
	}
	return nil
}

// ServeHTTP answers the API below /api/v2.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	op, ids := route(r)
	c := s.arrived(op, ids, r)
	a := s.serve(r, op, ids)
	if a.drop {
		s.answered(c, 0)
		panic(http.ErrAbortHandler) // closes the connection, silently
	}
	s.mu.Lock()
	skew := s.opts.DateSkew
	s.mu.Unlock()

	h := w.Header()
	h.Set("Date", time.Now().Add(skew).UTC().Format(http.TimeFormat))
	h.Set("Content-Type", "application/json;charset=utf-8")
	for name, values := range a.header {
		h[name] = values
	}
	body := []byte(a.raw)
	if a.body != nil {
		var err error
		if body, err = json.Marshal(a.body); err != nil {
			panic(err) // our own types always marshal
		}
	}
	s.answered(c, a.status)
	w.WriteHeader(a.status)
	_, _ = w.Write(body) // a caller that went away is its own affair
}

func (s *Server) serve(r *http.Request, op string, ids []string) answer {
	s.mu.Lock()
	hook := s.hook
	s.mu.Unlock()
	if hook == nil {
		hook = func(string, Phase) {}
	}

	hook(op, Before)
	if a := s.takeFault(op, ids, Before).apply(r); a != nil {
		return *a
	}
	a := s.handle(r, op, ids)
	hook(op, After)
	if lost := s.takeFault(op, ids, After).apply(r); lost != nil {
		return *lost
	}
	return a
}

// route finds the operation and the ids in its path; the operation is empty when there is none.
func route(r *http.Request) (op string, ids []string) {
	path, ok := strings.CutPrefix(r.URL.EscapedPath(), "/api/v2/")
	if !ok {
		return "", nil
	}
	if slug, ok := strings.CutPrefix(path, "project/"); ok && r.Method == http.MethodGet {
		slug, err := url.PathUnescape(slug)
		project, pipelines := strings.CutSuffix(slug, "/pipeline")
		switch parts := strings.Count(slug, "/"); {
		case err == nil && parts == 2:
			return "project", []string{slug}
		case err == nil && parts == 3 && pipelines:
			return "project-pipelines", []string{project}
		}
		return "", nil
	}
	parts := strings.Split(path, "/")
	for i, p := range parts {
		var err error
		if parts[i], err = url.PathUnescape(p); err != nil {
			return "", nil
		}
	}
	for _, known := range routes {
		if ids, ok := known.match(r.Method, parts); ok {
			return known.op, ids
		}
	}
	return "", nil
}

type routeOf struct{ op, method, pattern string }

var routes = []routeOf{
	{"me", http.MethodGet, "me"},
	{"user", http.MethodGet, "user/*"},
	{"workflow", http.MethodGet, "workflow/*"},
	{"jobs", http.MethodGet, "workflow/*/job"},
	{"pipeline", http.MethodGet, "pipeline/*"},
	{"values", http.MethodGet, "pipeline/*/values"},
	{"config", http.MethodGet, "pipeline/*/config"},
	{"pipeline-workflows", http.MethodGet, "pipeline/*/workflow"},
	{"approve", http.MethodPost, "workflow/*/approve/*"},
	{"cancel-job", http.MethodPost, "jobs/*/cancel"},
	{"cancel-workflow", http.MethodPost, "workflow/*/cancel"},
}

func (k routeOf) match(method string, parts []string) (ids []string, ok bool) {
	want := strings.Split(k.pattern, "/")
	if method != k.method || len(parts) != len(want) {
		return nil, false
	}
	for i, w := range want {
		switch {
		case w == "*":
			ids = append(ids, parts[i])
		case w != parts[i]:
			return nil, false
		}
	}
	return ids, true
}

var uuid = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// handle is the service itself: who, what, may they, do it.
func (s *Server) handle(r *http.Request, op string, ids []string) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if op == "" {
		return refuse(http.StatusNotFound, "Not found.")
	}
	u := s.authenticate(r)
	if u == nil {
		return refuse(http.StatusUnauthorized, "You must log in first.")
	}
	if op != "project" && op != "project-pipelines" {
		for _, id := range ids {
			if !uuid.MatchString(id) {
				return refuse(http.StatusBadRequest, "Invalid UUID.")
			}
		}
	}
	switch op {
	case "me":
		return answer{status: http.StatusOK, body: userBody(u)}
	case "user":
		if other := s.userByID(ids[0]); other != nil {
			return answer{status: http.StatusOK, body: userBody(other)}
		}
		return refuse(http.StatusNotFound, "User not found")
	case "project":
		if p := s.projectBySlug(ids[0]); p != nil && u.Access != None {
			return answer{status: http.StatusOK, body: projectBody(p)}
		}
		return refuse(http.StatusNotFound, "Project not found")
	case "project-pipelines":
		return s.handleProjectPipelines(r, u, ids[0])
	case "pipeline", "values", "config", "pipeline-workflows":
		return s.handlePipeline(r, u, op, ids[0])
	case "cancel-job":
		return s.handleCancelJob(u, ids[0])
	}
	return s.handleWorkflow(r, u, op, ids)
}

// authenticate takes the token from the header only, as the documentation asks.
func (s *Server) authenticate(r *http.Request) *User {
	token := r.Header.Get("Circle-Token")
	if token == "" {
		token, _ = strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	}
	return s.tokens[token]
}

func (s *Server) handlePipeline(r *http.Request, u *User, op, id string) answer {
	p := s.pipelineByID(id)
	if p == nil || u.Access == None {
		return refuse(http.StatusNotFound, "Pipeline not found")
	}
	switch op {
	case "pipeline":
		return answer{status: http.StatusOK, body: pipelineBody(p)}
	case "values":
		return answer{status: http.StatusOK, body: s.valuesBody(p)}
	case "config":
		return answer{status: http.StatusOK, body: configBody(p)}
	}
	if token := r.URL.Query().Get("page-token"); token != "" {
		return s.nextPage(token)
	}
	items := []any{}
	for _, wf := range p.workflows {
		items = append(items, workflowBody(wf))
	}
	return s.page(items)
}

// handleProjectPipelines lists the newest first.
func (s *Server) handleProjectPipelines(r *http.Request, u *User, slug string) answer {
	project := s.projectBySlug(slug)
	if project == nil || u.Access == None {
		return refuse(http.StatusNotFound, "Project not found")
	}
	if token := r.URL.Query().Get("page-token"); token != "" {
		return s.nextPage(token)
	}
	var own []*pipeline
	for _, p := range s.pipelines {
		if p.project == project {
			own = append(own, p)
		}
	}
	slices.SortStableFunc(own, func(a, b *pipeline) int { return b.CreatedAt.Compare(a.CreatedAt) })
	items := []any{}
	for _, p := range own {
		items = append(items, pipelineBody(p))
	}
	return s.page(items)
}

func (s *Server) handleCancelJob(u *User, id string) answer {
	for _, wf := range s.workflows {
		for _, j := range wf.jobs {
			switch {
			case j.ID != id || u.Access == None:
			case u.Access != Write:
				return refuse(http.StatusForbidden, "Permission denied.")
			default:
				return s.cancelJob(u, wf, j)
			}
		}
	}
	return refuse(http.StatusNotFound, "Job not found")
}

func (s *Server) handleWorkflow(r *http.Request, u *User, op string, ids []string) answer {
	wf := s.workflows[ids[0]]
	if wf == nil || u.Access == None {
		return refuse(http.StatusNotFound, "Workflow not found")
	}
	switch op {
	case "workflow":
		return answer{status: http.StatusOK, body: workflowBody(wf)}
	case "jobs":
		if token := r.URL.Query().Get("page-token"); token != "" {
			return s.nextPage(token)
		}
		items := []any{}
		for _, j := range s.listJobs(wf) {
			items = append(items, j)
		}
		return s.page(items)
	}
	if u.Access != Write {
		return refuse(http.StatusForbidden, "Permission denied.")
	}
	if op == "cancel-workflow" {
		return s.cancelWorkflow(u, wf)
	}
	for _, j := range wf.jobs {
		if j.ApprovalRequestID == ids[1] {
			return s.approve(u, wf, j, true)
		}
	}
	return refuse(http.StatusNotFound, "Job not found")
}

func (s *Server) nextPage(token string) answer {
	rest, ok := s.pages.rest[token]
	if !ok {
		return refuse(http.StatusBadRequest, "Invalid page token")
	}
	return s.page(rest)
}
