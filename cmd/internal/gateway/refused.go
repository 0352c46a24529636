package gateway

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli"
)

// explainFor is how long the look-up may take that makes a refusal clear.
const explainFor = 10 * time.Second

// settleFor is how long an open request is watched before it is called open: a deploy
// job runs only behind an open gate, and the gateway, which the question made look,
// needs a moment to see who opened it.
const settleFor = 4 * time.Second

// notDeployed is why the deploy command was not run.
type notDeployed struct{ error }

func (e notDeployed) Error() string { return "Not deploying: " + e.error.Error() }
func (e notDeployed) Unwrap() error { return e.error }

// notDeploying marks every error of the commands that let a deploy through as the
// reason why nothing was deployed: people and scripts tell by its words that an exit
// code is not the deploy command's.
func notDeploying(at *cobra.Command, err error) error {
	e := &cli.Exit{Code: cli.ExitFault, Err: err}
	errors.As(err, &e)
	if name := at.Name(); e.Err != nil && (name == "deploy" || name == "verify") {
		return &cli.Exit{Code: e.Code, Err: notDeployed{e.Err}}
	}
	return err
}

// refused says why the gateway does not let this deploy, and what to do next.
func (c *program) refused(ctx context.Context, client *webhook.Client, asked webhook.VerifyBody, err error) error {
	var p *webhook.Problem
	if !errors.As(err, &p) || p.Status != 409 {
		return failed(err)
	}
	ctx, cancel := context.WithTimeout(ctx, explainFor)
	defer cancel()
	text := []string{failed(err).Error() + "."}
	// Without this look-up the refusal is only less clear, so its own failure is
	// not told.
	environment := asked.Environment
	if environment == "" {
		environment = approvals.DefaultEnvironment
	}
	page, listErr := client.List(ctx, webhook.ListQuery{App: asked.App, Environment: environment, WorkflowID: asked.WorkflowID, Limit: 20})
	switch {
	case listErr != nil:
	case len(page.Requests) == 0:
		text = append(text, "Next: file a request before the approval job (rack-gateway deploy-approval request --app "+asked.App+"), or rerun the workflow from start.")
	default:
		r := settled(ctx, client, p.Code, deciding(page.Requests))
		if !strings.Contains(p.Detail, "opened in CircleCI by "+string(r.Gate.ApprovedBy)) {
			text = append(text, standing(r)...) // what the refusal does not say itself
		}
		if r.Slack.Permalink != "" {
			text = append(text, "Card: "+string(r.Slack.Permalink)+" .")
		}
		text = append(text, "Next: "+next(p.Code, r))
	}
	return &cli.Exit{Code: failed(err).(*cli.Exit).Code, Err: errors.New(strings.Join(text, " "))}
}

// settled waits a moment for the gateway to know more of a request than that its gate is
// still to be opened, and returns the request as it then is.
func settled(ctx context.Context, client *webhook.Client, code approvals.Code, r webhook.Request) webhook.Request {
	ctx, cancel := context.WithTimeout(ctx, settleFor)
	defer cancel()
	known := func(r webhook.Request) bool {
		return code != approvals.CodeNotApproved || !r.Status.Open() || opened(r)
	}
	r, _ = client.Wait(ctx, r, known, nil) // a failure leaves it as it was
	return r
}

// deciding is the request that the gateway judged: the newest that still counts,
// else the newest.
func deciding(requests []webhook.Request) webhook.Request {
	for _, r := range requests {
		switch r.Status {
		case approvals.Expired, approvals.Canceled, approvals.Superseded:
		default:
			return r
		}
	}
	return requests[0]
}

// standing says in sentences how a request stands that does not let a deploy
// through.
func standing(r webhook.Request) []string {
	var text []string
	switch r.Status {
	case approvals.Pending:
		if n := len(r.Decisions); n > 0 {
			text = append(text, fmt.Sprintf("Request #%d has %d of %d approvals.", r.Number, n, r.RequiredApprovals))
		} else {
			text = append(text, fmt.Sprintf("Nobody has approved request #%d here.", r.Number))
		}
	case approvals.Bypassed:
		if r.ApprovedAt == nil {
			text = append(text, fmt.Sprintf("Nobody has approved request #%d here in time.", r.Number))
		}
	case approvals.Rejected:
		text = append(text, ending(r)+".")
	}
	if r.Status.Passed() {
		return text
	}
	switch {
	case r.Gate.ApprovedBy != "":
		text = append(text, fmt.Sprintf("CircleCI's approval job %s was opened by %s.", r.Gate.JobName, r.Gate.ApprovedBy))
	case opened(r):
		text = append(text, fmt.Sprintf("CircleCI's approval job %s was opened in CircleCI.", r.Gate.JobName))
	}
	return text
}

// opened reports whether the gate of a request was approved.
func opened(r webhook.Request) bool { return r.Gate.ApprovedBy != "" || r.Gate.Status == "success" }

// next says what people can do about a refusal. No approval comes in time for this job:
// whatever repeats it is a new workflow, which needs an approval of its own.
func next(code approvals.Code, r webhook.Request) string {
	const again = "rerun the workflow from start, and have its new request approved on the card."
	switch {
	case code == approvals.CodeCommitNotApproved:
		return "deploy the commit that was approved, or " + again
	case r.Status.Open() && !opened(r):
		return "let this job require the success of the approval job. If it does already, " + again
	}
	return again
}
