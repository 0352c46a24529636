package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// The names of the job that files a request, and of who goes past the gateway.
const (
	askingJob = "request_approval"
	outsider  = "mallory"
)

// subjects are what people commit, in turn. One looks like markup, and must not act like it.
var subjects = []string{
	"Fix the invoice rounding",
	"Show order dates in local time",
	"Escape <b>, *stars* & <!channel> in mails",
	"Raise the export limit to 10,000 rows",
}

// push commits something: a pipeline whose next job asks for approval.
func (b *browser) push(login string) {
	n := len(b.Circle.Snapshot().Pipelines)
	p := circlecitest.Pipeline{Project: stage.Project, Branch: stage.Branch, Subject: subjects[n%len(subjects)], ActorLogin: login}
	if n == 0 {
		p.Number, p.Revision = stage.Number, stage.Revision
	}
	p = b.Circle.AddPipeline(p)
	id := b.Circle.AddWorkflow(circlecitest.Workflow{Pipeline: p.ID, Jobs: circlecitest.DeployJobs(stage.Gate)})
	for _, job := range []string{"test", "build"} { // nobody wants to wait for these
		if err := b.Circle.Succeed(id, job); err != nil {
			panic(err) // the workflow was made a line above
		}
	}
}

// followCircle does what the job request_approval has in its script, in each
// workflow that reaches it.
func (b *browser) followCircle(ctx context.Context) {
	asked := map[string]bool{}
	_ = b.Circle.Wait(ctx, func() bool { // asked at each change until the demo ends
		for _, p := range b.Circle.Snapshot().Pipelines {
			for _, wf := range p.Workflows {
				if !asked[wf.ID] && b.Circle.JobStatus(wf.ID, askingJob) == "running" {
					asked[wf.ID] = true
					b.asking.Go(func() { b.ask(ctx, p, wf.ID) })
				}
			}
		}
		b.bell.ring()
		return false
	})
}

// command is one run of rack-gateway.
type command struct {
	Workflow string `json:"workflow"`
	Pipeline int64  `json:"pipeline"`
	Line     string `json:"line"`
	Output   string `json:"output"`
	Code     int    `json:"code"`
}

// ask files a request; the job fails with the command, as in CircleCI.
func (b *browser) ask(ctx context.Context, p circlecitest.PipelineView, workflowID string) {
	args := []string{
		"deploy-approval", "request", "--app", stage.App, "--git-commit", p.Revision, "--branch", p.Branch,
		"--ci-metadata", fmt.Sprintf(`{"workflow_id":"%s","pipeline_number":%d}`, workflowID, p.Number),
		"--message", p.Subject,
	}
	r := b.Client(ctx, workflowID, args...)
	b.mu.Lock()
	b.commands = append(b.commands, command{workflowID, p.Number, shellLine(args), r.Stderr + r.Stdout, r.Code})
	b.mu.Unlock()
	if r.Code != 0 {
		_ = b.Circle.Fail(workflowID, askingJob) // known since it ran
	}
	b.bell.ring()
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

// end ends a running job by hand. Any other job is left alone.
func (b *browser) end(workflowID, job string, well bool) error {
	if status := b.Circle.JobStatus(workflowID, job); status != "running" {
		return fmt.Errorf("the job %q does not run (%s)", job, status)
	}
	if well {
		return b.Circle.Succeed(workflowID, job)
	}
	return b.Circle.Fail(workflowID, job)
}
