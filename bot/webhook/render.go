package webhook

import (
	"encoding/json"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// Links builds links to the CI provider's pages, "" where a part cannot be right.
type Links interface {
	PipelineURL(project string, number int64) string
	WorkflowURL(project string, number int64, workflowID string) string
}

// render turns a request into what the API shows of it.
func render(r approvals.Request, links Links) Request {
	// CircleCI's own slug, so that the link works whatever the settings spell.
	slug := r.Facts.Project
	if slug == "" {
		slug = r.Project
	}
	out := Request{
		ID: r.ID, Number: r.Number, App: r.App, Environment: r.Environment, Status: r.Status,
		GitCommit: r.Facts.Revision, Branch: Text(r.Facts.Branch), Tag: Text(r.Facts.Tag), Message: Text(r.Message),
		Metadata:  r.Metadata,
		Requester: Requester{Token: r.Requester.TokenName, Actor: Text(r.Requester.Actor)},
		Pipeline: Pipeline{
			Number: r.Facts.PipelineNumber, URL: Text(links.PipelineURL(slug, r.Facts.PipelineNumber)),
			WorkflowID: r.Facts.WorkflowID, WorkflowURL: Text(links.WorkflowURL(slug, r.Facts.PipelineNumber, r.Facts.WorkflowID)),
		},
		Gate:              Gate{JobName: r.GateName, Status: Text(gateStatus(r)), ApprovedBy: Text(r.Gate.ApprovedBy)},
		Slack:             Slack{Channel: Text(r.Slack.Channel), TS: Text(r.Slack.TS), Permalink: Text(r.Slack.Permalink)},
		RequiredApprovals: r.Required,
		Decisions:         []Decision{},
		CreatedAt:         at(r.CreatedAt), ExpiresAt: at(r.ExpiresAt()), ApprovedAt: at(r.ApprovedAt),
		ApprovalExpiresAt: at(r.ApprovalExpiresAt()), ReleasedAt: at(r.ReleasedAt), ClosedAt: at(r.ClosedAt),
		Deploy: Deploy{
			Phase: Text(r.Deploy.Phase), StartedAt: at(r.Deploy.StartedAt),
			FinishedAt: at(r.Deploy.FinishedAt), Detail: Text(r.Deploy.Detail),
		},
		Failure: Failure{Code: Text(r.Failure.Code), Detail: Text(r.Failure.Detail)},
	}
	if len(out.Metadata) == 0 {
		out.Metadata = json.RawMessage("{}")
	}
	for _, d := range r.Decisions {
		out.Decisions = append(out.Decisions, Decision{
			Action: string(d.Action), SlackUser: d.SlackUser, Name: Text(d.Name), At: at(d.At), MFA: Text(d.MFA), Reason: Text(d.Reason),
		})
	}
	return out
}

// gateStatus is how the gate ended, or what the newest look showed.
func gateStatus(r approvals.Request) approvals.JobStatus {
	if r.Gate.Status != "" {
		return r.Gate.Status
	}
	return r.GateStatus
}

func at(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
