package circlecitest

import (
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Access is what a user may do in all projects.
type Access int

// The levels of access. Without any, ids are not found.
const (
	Write Access = iota
	Read
	None
)

// User is a person or machine user. An empty ID is filled in.
type User struct {
	ID, Login, Name string
	Access          Access
	Groups          []string // contexts' groups, see Job.Group
}

// Project is a project. Slug is as the API answers it (gh/…, bb/…, circleci/…); what is empty besides is filled in.
type Project struct {
	ID, Slug, Name, VCSURL, Provider, DefaultBranch string
}

// Pipeline is one trigger of a project. What is empty is filled in, except Branch when there is a Tag.
type Pipeline struct {
	ID          string
	Number      int64
	Project     string // slug
	Revision    string
	Branch, Tag string
	Subject     string
	TriggerType string // default "webhook"
	ActorLogin  string
	OriginURL   string // the fork; default is the project's repository
	NoVCS       bool   // no vcs object, as for GitHub App projects
	CreatedAt   time.Time

	// Defaults are the parameters that the configuration declares; Parameters are what the pipeline was started with,
	// each of them declared. Values are texts, whole numbers and booleans.
	Defaults, Parameters map[string]any
	// Config is the source of the configuration; without one it only declares the parameters. With SetupConfig the
	// pipeline began with that, and its setup workflow made Config.
	Config, SetupConfig string
	// ConfigSource, ConfigRevision and ConfigRepository say where the configuration comes from. Not every pipeline does.
	ConfigSource, ConfigRevision, ConfigRepository string
	Event                                          string // such as push or custom_webhook, for GitHub App projects
	PullRequest                                    string // URL of the pull request, for GitHub App projects
	RepoURL                                        string // of the repository, for GitHub App projects
}

// Workflow is one workflow of a pipeline. StartedBy is a login; empty means the pipeline's actor.
type Workflow struct {
	ID, Pipeline, Name, StartedBy string
	Tag                           string // "setup" for a setup workflow
	CreatedAt                     time.Time
	Jobs                          []Job
}

// Job is one job of a workflow. What is empty is filled in; two jobs may have the same name.
type Job struct {
	ID, Name          string
	Type              string // default "build"
	Requires          []Require
	ApprovalRequestID string // of a gate; default its ID
	// Group restricts the job's context: it ends unauthorized unless the approver of each nearest gate before it, or
	// without a gate the starter, is in that group.
	Group string
}

// Require is one entry of a job's requires. One that names no job of the workflow is ignored, as CircleCI does when
// filters removed that job.
type Require struct {
	Job      string
	Statuses []string // default success; "terminal" means any end
}

// Requires lists jobs that must have succeeded.
func Requires(jobs ...string) []Require {
	var out []Require
	for _, j := range jobs {
		out = append(out, Require{Job: j})
	}
	return out
}

// DeployJobs is the usual workflow: test, build, request_approval, the gate, deploy, each after the one before.
func DeployJobs(gate string) []Job {
	return []Job{
		{Name: "test"},
		{Name: "build", Requires: Requires("test")},
		{Name: "request_approval", Requires: Requires("build")},
		{Name: gate, Type: "approval", Requires: Requires("request_approval")},
		{Name: "deploy", Requires: Requires(gate)},
	}
}

type pipeline struct {
	Pipeline
	project   *Project
	workflows []*workflow
}

type workflow struct {
	id, name, tag string
	pipeline      *pipeline
	startedBy     *User
	canceledBy    string
	createdAt     time.Time
	stoppedAt     *time.Time
	canceled      bool   // as a whole
	status        string // set by SetWorkflowStatus; empty = derived
	jobs          []*job
	specs         []Job
	lag           lag
}

type job struct {
	Job
	status                 string
	number                 int64
	approvedBy, canceledBy string
	startedAt, stoppedAt   *time.Time
}

// NewID makes a random UUID.
func NewID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, by its documentation
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// AddUser adds a user and returns it with its ID.
func (s *Server) AddUser(u User) User {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u.Login == "" || s.userByLogin(u.Login) != nil {
		panic("circlecitest: user without a login of its own")
	}
	setDefault(&u.ID, NewID())
	setDefault(&u.Name, u.Login)
	u.Groups = slices.Clone(u.Groups)
	s.users = append(s.users, &u)
	return u
}

// AddToken lets token act as the user.
func (s *Server) AddToken(token, login string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.userByLogin(login)
	if u == nil || token == "" {
		panic("circlecitest: token is empty or its user unknown: " + login)
	}
	s.tokens[token] = u
}

// RevokeToken makes a token unknown.
func (s *Server) RevokeToken(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.tokens, token)
}

// SetAccess changes what a user may do from now on.
func (s *Server) SetAccess(login string, a Access) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.userByLogin(login)
	if u == nil {
		panic("circlecitest: unknown user " + login)
	}
	u.Access = a
}

// AddProject adds a project and returns it filled in.
func (s *Server) AddProject(p Project) Project {
	s.mu.Lock()
	defer s.mu.Unlock()
	parts := strings.Split(p.Slug, "/")
	if len(parts) != 3 || s.projectBySlug(p.Slug) != nil {
		panic("circlecitest: project without a slug of its own: " + p.Slug)
	}
	setDefault(&p.ID, NewID())
	setDefault(&p.Name, parts[2])
	setDefault(&p.DefaultBranch, "main")
	provider, host := "CircleCI", "circleci.com"
	switch parts[0] {
	case "gh":
		provider, host = "GitHub", "github.com"
	case "bb":
		provider, host = "Bitbucket", "bitbucket.org"
	}
	setDefault(&p.Provider, provider)
	setDefault(&p.VCSURL, "https://"+host+"/"+parts[1]+"/"+parts[2])
	s.projects = append(s.projects, &p)
	return p
}

// AddPipeline adds a pipeline of a known project and returns it filled in.
func (s *Server) AddPipeline(p Pipeline) Pipeline {
	s.mu.Lock()
	defer s.mu.Unlock()
	project := s.projectBySlug(p.Project)
	if project == nil {
		panic("circlecitest: unknown project " + p.Project)
	}
	setDefault(&p.ID, NewID())
	setDefault(&p.Revision, strings.ReplaceAll(NewID()+NewID(), "-", "")[:40])
	setDefault(&p.TriggerType, "webhook")
	for name := range p.Parameters {
		if _, ok := p.Defaults[name]; !ok {
			panic("circlecitest: the configuration does not declare the parameter " + name)
		}
	}
	setDefault(&p.Config, declaring(p.Defaults))
	setDefault(&p.OriginURL, project.VCSURL)
	if p.Tag == "" {
		setDefault(&p.Branch, project.DefaultBranch)
	}
	if p.Number == 0 {
		for _, other := range s.pipelines {
			if other.project == project {
				p.Number = max(p.Number, other.Number)
			}
		}
		p.Number++
	}
	if p.CreatedAt.IsZero() {
		p.CreatedAt = time.Now()
	}
	s.pipelines = append(s.pipelines, &pipeline{Pipeline: p, project: project})
	s.notify()
	return p
}

// declaring is a configuration that declares parameters.
func declaring(defaults map[string]any) string {
	var b strings.Builder
	b.WriteString("version: 2.1\n")
	if len(defaults) > 0 {
		b.WriteString("parameters:\n")
	}
	for _, name := range slices.Sorted(maps.Keys(defaults)) {
		kind := map[string]string{"bool": "boolean", "int": "integer"}[fmt.Sprintf("%T", defaults[name])]
		setDefault(&kind, "string")
		fmt.Fprintf(&b, "  %s:\n    type: %s\n    default: %v\n", name, kind, defaults[name])
	}
	return b.String()
}

// AddWorkflow adds a workflow to a pipeline, starts what can start, and returns the workflow's id.
func (s *Server) AddWorkflow(w Workflow) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pipelineByID(w.Pipeline)
	if p == nil {
		panic("circlecitest: unknown pipeline " + w.Pipeline)
	}
	setDefault(&w.StartedBy, p.ActorLogin)
	starter := s.userByLogin(w.StartedBy)
	if starter == nil {
		panic("circlecitest: workflow started by an unknown user: " + w.StartedBy)
	}
	setDefault(&w.ID, NewID())
	setDefault(&w.Name, "deploy")
	if w.CreatedAt.IsZero() {
		w.CreatedAt = time.Now()
	}
	wf := &workflow{
		id: w.ID, name: w.Name, tag: w.Tag, pipeline: p, startedBy: starter, createdAt: w.CreatedAt, specs: slices.Clone(w.Jobs),
	}
	for _, spec := range w.Jobs {
		wf.jobs = append(wf.jobs, newJob(spec))
	}
	s.insert(wf)
	return wf.id
}

func (s *Server) insert(wf *workflow) {
	s.workflows[wf.id] = wf
	wf.pipeline.workflows = append(wf.pipeline.workflows, wf)
	s.settle(wf)
}

func newJob(spec Job) *job {
	setDefault(&spec.ID, NewID())
	setDefault(&spec.Type, "build")
	if spec.Type == "approval" {
		setDefault(&spec.ApprovalRequestID, spec.ID)
	}
	return &job{Job: spec, status: "blocked"}
}

func setDefault(field *string, value string) {
	if *field == "" {
		*field = value
	}
}

func (s *Server) userByLogin(login string) *User {
	for _, u := range s.users {
		if strings.EqualFold(u.Login, login) {
			return u
		}
	}
	return nil
}

func (s *Server) userByID(id string) *User {
	for _, u := range s.users {
		if u.ID == id {
			return u
		}
	}
	return nil
}

// projectBySlug takes both spellings of the provider.
func (s *Server) projectBySlug(slug string) *Project {
	if rest, ok := strings.CutPrefix(slug, "github/"); ok {
		slug = "gh/" + rest
	} else if rest, ok := strings.CutPrefix(slug, "bitbucket/"); ok {
		slug = "bb/" + rest
	}
	for _, p := range s.projects {
		if p.Slug == slug {
			return p
		}
	}
	return nil
}

func (s *Server) pipelineByID(id string) *pipeline {
	for _, p := range s.pipelines {
		if p.ID == id {
			return p
		}
	}
	return nil
}
