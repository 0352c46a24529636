package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// The jobs of each workflow that run rack-gateway, and who goes past the gateway.
const (
	askingJob = "request_approval"
	deployJob = "deploy"
	outsider  = "mallory"
)

// subjects are what people commit, in turn. One looks like markup, and must not act like it.
var subjects = []string{
	"Fix the invoice rounding",
	"Show order dates in local time",
	"Escape <b>, *stars* & <!channel> in mails",
	"Raise the export limit to 10,000 rows",
}

// runner runs the jobs of the simulated CircleCI, as its machines do: each command
// in a process of its own, with the variables of a job and those of the context.
type runner struct {
	*stage.Stage
	pace    time.Duration // what a machine takes to be there, and a deploy to be done
	bell    *bell
	running sync.WaitGroup

	mu   sync.Mutex
	url  string // RACK_GATEWAY_URL of the context; "" = people run the commands themselves
	key  string // RACK_GATEWAY_API_TOKEN
	jobs []*jobRun
}

// jobRun is one job and its log.
type jobRun struct {
	Workflow string `json:"workflow"`
	Pipeline int64  `json:"pipeline"`
	Job      string `json:"job"`
	Line     string `json:"line"` // the command, as one would type it
	Output   string `json:"output"`
	Code     int    `json:"code"`
	Ended    bool   `json:"ended"`
	ByHand   bool   `json:"by_hand"` // nobody runs the command
	Receipt  string `json:"receipt"` // what a deploy left as receipt.json

	stop func()
}

// push commits something: a pipeline whose next job asks for approval.
func (r *runner) push(login string) (workflow string) {
	return r.start(circlecitest.Pipeline{ActorLogin: login})
}

// byAPI starts a pipeline through the API of CircleCI, without the migrations.
func (r *runner) byAPI(login string) (workflow string) {
	return r.start(circlecitest.Pipeline{ActorLogin: login, TriggerType: "api", Parameters: map[string]any{"run_migrations": false}})
}

func (r *runner) start(p circlecitest.Pipeline) (workflow string) {
	n := len(r.Circle.Snapshot().Pipelines)
	p.Project, p.Branch, p.Subject = stage.Project, stage.Branch, subjects[n%len(subjects)]
	p.Defaults = map[string]any{"run_migrations": true}
	if n == 0 {
		p.Number, p.Revision = stage.Number, stage.Revision
	}
	p = r.Circle.AddPipeline(p)
	id := r.Circle.AddWorkflow(circlecitest.Workflow{Pipeline: p.ID, Jobs: circlecitest.DeployJobs(stage.Gate)})
	for _, job := range []string{"test", "build"} { // nobody wants to wait for these
		if err := r.Circle.Succeed(id, job); err != nil {
			panic(err) // the workflow was made a line above
		}
	}
	return id
}

// follow runs every job that CircleCI starts, and ends those that it cancels, until
// ctx ends. It returns when all have ended.
func (r *runner) follow(ctx context.Context) {
	_ = r.Circle.Wait(ctx, func() bool { // asked at each change until the demo ends
		for _, p := range r.Circle.Snapshot().Pipelines {
			for _, wf := range p.Workflows {
				for _, j := range wf.Jobs {
					if j.Name == askingJob || j.Name == deployJob {
						r.see(ctx, p, wf.ID, j)
					}
				}
			}
		}
		r.bell.ring()
		return false
	})
	r.running.Wait()
}

// see starts or ends the run of a job as CircleCI shows it now.
func (r *runner) see(ctx context.Context, p circlecitest.PipelineView, workflow string, j circlecitest.JobView) {
	r.mu.Lock()
	defer r.mu.Unlock()
	known := r.find(workflow, j.Name)
	switch {
	case known != nil && j.Status != "running":
		known.stop()
	case known == nil && j.Status == "running":
		ctx, stop := context.WithCancel(ctx)
		run := &jobRun{Workflow: workflow, Pipeline: p.Number, Job: j.Name, stop: stop, ByHand: r.url == ""}
		r.jobs = append(r.jobs, run)
		args := r.command(p, workflow, j.Name)
		run.Line = shellLine(args)
		if run.ByHand {
			run.Output = "Nothing runs this: the context has no RACK_GATEWAY_URL. Run it in your terminal, after\n" + r.exports(p, workflow, j) + "\nand then end the job here."
			return
		}
		env := append(jobVariables(p, workflow, j), "RACK_GATEWAY_URL="+r.url, "RACK_GATEWAY_API_TOKEN="+r.key, "PATH="+os.Getenv("PATH"))
		r.running.Go(func() { r.run(ctx, run, env, args) })
	}
}

// find is the run of a job; the lock is held.
func (r *runner) find(workflow, job string) *jobRun {
	i := slices.IndexFunc(r.jobs, func(j *jobRun) bool { return j.Workflow == workflow && j.Job == job })
	if i < 0 {
		return nil
	}
	return r.jobs[i]
}

// jobVariables are what CircleCI tells every job.
func jobVariables(p circlecitest.PipelineView, workflow string, j circlecitest.JobView) []string {
	return []string{
		"CIRCLE_WORKFLOW_ID=" + workflow, "CIRCLE_WORKFLOW_JOB_ID=" + j.ID, "CIRCLE_JOB=" + j.Name, "CIRCLE_SHA1=" + p.Revision, "CIRCLE_BRANCH=" + p.Branch,
	}
}

func (r *runner) exports(p circlecitest.PipelineView, workflow string, j circlecitest.JobView) string {
	return "export " + strings.Join(jobVariables(p, workflow, j), " ")
}

// command is the line that a job has in .circleci/config.yml, without the program.
func (r *runner) command(p circlecitest.PipelineView, workflow, job string) []string {
	if job == deployJob {
		script := fmt.Sprintf(`echo "Deploying %s…"; sleep %.1f; echo "%s is up."`, stage.App, r.pace.Seconds(), stage.App)
		return []string{"deploy", "--app", stage.App, "--receipt", "receipt.json", "--", "sh", "-c", script}
	}
	return []string{
		"deploy-approval", "request", "--app", stage.App, "--git-commit", p.Revision, "--branch", p.Branch,
		"--ci-metadata", fmt.Sprintf(`{"workflow_id":"%s","pipeline_number":%d}`, workflow, p.Number),
		"--message", p.Subject,
	}
}

// run runs the command of a job; the job ends as the command does.
func (r *runner) run(ctx context.Context, run *jobRun, env, args []string) {
	defer run.stop()
	dir, err := os.MkdirTemp(r.Dir, run.Job+"-")
	code := 1
	if err == nil && approvals.Pause(ctx, r.pace/2) {
		code, err = stage.RunClient(ctx, dir, env, &jobLog{r, run}, args...)
	}
	if err != nil {
		fmt.Fprintf(&jobLog{r, run}, "demo: %v\n", err)
	}
	receipt, _ := os.ReadFile(filepath.Join(dir, "receipt.json")) // only a deploy that may run has one
	approvals.Pause(ctx, r.pace/4)
	r.mu.Lock()
	run.Code, run.Ended, run.Receipt = code, true, string(receipt)
	r.mu.Unlock()
	_ = r.end(run.Workflow, run.Job, code == 0) // cancelled meanwhile
	r.bell.ring()
}

// jobLog is where a job prints to.
type jobLog struct {
	runner *runner
	run    *jobRun
}

func (l *jobLog) Write(text []byte) (int, error) {
	l.runner.mu.Lock()
	l.run.Output += string(text)
	l.runner.mu.Unlock()
	l.runner.bell.ring()
	return len(text), nil
}

// log is a job as it is now.
func (r *runner) log(workflow, job string) (jobRun, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if run := r.find(workflow, job); run != nil {
		return *run, true
	}
	return jobRun{}, false
}

// hand ends a running job by hand: one that runs a command can only be interrupted.
func (r *runner) hand(workflow, job string, well bool) error {
	r.mu.Lock()
	run := r.find(workflow, job)
	r.mu.Unlock()
	if run != nil && !run.ByHand && !well {
		run.stop()
		return nil
	}
	return r.end(workflow, job, well)
}

// end ends a running job. Any other job is left alone.
func (r *runner) end(workflow, job string, well bool) error {
	if status := r.Circle.JobStatus(workflow, job); status != "running" {
		return fmt.Errorf("the job %q does not run (%s)", job, status)
	}
	if well {
		return r.Circle.Succeed(workflow, job)
	}
	return r.Circle.Fail(workflow, job)
}

// shellLine writes a command as one would type it.
func shellLine(args []string) string {
	line := "rack-gateway"
	for _, a := range args {
		if strings.ContainsAny(a, " \t\n\"'`$&|;<>(){}[]*?!#~\\") {
			a = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		line += " " + a
	}
	return line
}
