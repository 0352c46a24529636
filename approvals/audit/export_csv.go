package audit

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/audit/sheet"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// exportColumns heads the rows. checkpoint_size is the size of the smallest tree
// that holds all events of the row: "audit checkpoint --size" signs it, and it
// does not depend on when the export was made.
var exportColumns = []string{
	"number", "request_id", "app", "environment", "repository", "commit", "branch", "tag", "message", "pipeline_url", "workflow_id", "gate",
	"requester", "started_by", "trigger", "parameters", "config_sha256", "config_changed", "pull_request", "requested_at_utc", "status", "required", "decision", "decided_at_utc", "approvers", "rejected_by",
	"mfa", "reason", "self_approval", "break_glass", "retries", "circleci_approver", "released_at_utc",
	"deploy_started_at_utc", "deploy_ended_at_utc", "deploy_result", "verified_at_utc", "refused_verifies", "permalink", "seqs", "checkpoint_size",
}

// selfApprovals are the words for whether a starter approved their own deploy.
var selfApprovals = map[approvals.SelfApproval]string{approvals.SelfYes: "yes", approvals.SelfNo: "no", approvals.SelfUnknown: "unknown"}

// requestPage is how many requests, with their events, are held in memory.
const requestPage = 100

// exportRequests writes one row per request, newest first, each as it is when
// its page is read. A request that is made meanwhile is not among them.
func (l Log) exportRequests(ctx context.Context, x Export, w io.Writer) (size int64, err error) {
	var page bytes.Buffer
	out := sheet.NewWriter(&page)
	if err := out.Row(exportColumns...); err != nil {
		return 0, err
	}
	f := approvals.Filter{Apps: x.apps(), CreatedFrom: x.From, CreatedTo: x.To, Limit: requestPage}
	for more := true; more; page.Reset() {
		err := l.Store.View(ctx, func(tx approvals.Tx) error {
			found, err := tx.Requests(f)
			if err != nil {
				return err
			}
			for _, r := range found {
				row, err := exportRow(tx, x, r)
				if err != nil {
					return fmt.Errorf("request %d: %w", r.Number, err)
				}
				if err := out.Row(row...); err != nil {
					return err
				}
				f.Before = r.Number
			}
			more = len(found) == requestPage
			size, err = tx.Ledger().Size()
			return err
		})
		if err := cmp.Or(err, out.Flush()); err != nil {
			return 0, err
		}
		if _, err := w.Write(page.Bytes()); err != nil {
			return 0, fmt.Errorf("write export: %w", err)
		}
	}
	return size, nil
}

// exportRow takes the decision from the log, which is what proves it, and what
// describes the request from its row.
func exportRow(tx approvals.Tx, x Export, r approvals.Request) ([]string, error) {
	events, err := approvals.EventsOf(tx, r.ID)
	if err != nil {
		return nil, err
	}
	s := storyOf(events)
	seqs := make([]string, len(events))
	var size int64
	for i, e := range events {
		seqs[i] = itoa(e.Seq)
		size = e.Seq + 1
	}
	names := map[string]string{"approved": "", "rejected": ""}
	if names[s.decision], err = namesOf(tx, s.people); err != nil {
		return nil, err
	}
	ended, result := r.Deploy.FinishedAt, r.Deploy.Phase
	if r.Status != approvals.Deployed && r.Status != approvals.DeployFailed && result != "" {
		// That the deploy job says how it ended is no evidence: CircleCI has to say it.
		ended, result = time.Time{}, approvals.PhaseStarted
	}
	pipeline := ""
	if x.PipelineURL != nil {
		pipeline = x.PipelineURL(r.Facts.Project, r.Facts.PipelineNumber)
	}
	return []string{
		itoa(r.Number), r.ID, r.App, r.Environment, cmp.Or(r.Facts.Target, r.Project), r.Facts.Revision, r.Facts.Branch, r.Facts.Tag, r.Message, pipeline, r.Facts.WorkflowID, r.GateName,
		r.Requester.TokenName, strings.Join(r.Facts.Starters(), ", "), r.Facts.Trigger, parametersOf(r.Facts.Parameters), string(r.Facts.Config), configChange(r), r.Facts.PullRequest, sheet.Time(r.CreatedAt), string(r.Status), itoa(r.Required),
		s.decision, sheet.Time(s.at), names["approved"], names["rejected"],
		s.mfa, cmp.Or(s.reason, r.Failure.Detail), selfApprovals[s.self], yesNo(s.breakGlass), itoa(s.retries), r.Gate.ApprovedBy, sheet.Time(r.ReleasedAt),
		sheet.Time(r.Deploy.StartedAt), sheet.Time(ended), string(result), sheet.Time(s.verified), itoa(s.refusals()),
		r.Slack.Permalink, strings.Join(seqs, " "), itoa(size),
	}, nil
}

// parametersOf lists what a pipeline was given other than the defaults.
func parametersOf(p *approvals.Parameters) string {
	if p == nil {
		return ""
	}
	list := p.List
	if p.More > 0 {
		list = append(slices.Clone(list), fmt.Sprintf("and %d more", p.More))
	}
	return strings.Join(list, ", ")
}

// configChange says whether the CI configuration was another one than that of the
// deploy before.
func configChange(r approvals.Request) string {
	changed, known := r.ConfigChanged()
	if !known {
		return "unknown"
	}
	return yesNo(changed)
}

func itoa[T ~int | ~int64](n T) string { return strconv.FormatInt(int64(n), 10) }

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// namesOf lists people for people.
func namesOf(tx approvals.Tx, ids []string) (string, error) {
	names := make([]string, len(ids))
	for i, id := range ids {
		name, err := approvals.NameOf(tx, id)
		if err != nil {
			return "", err
		}
		names[i] = called(name, id)
	}
	return strings.Join(names, ", "), nil
}

// called shows a name with the Slack id, because names are not part of the log.
func called(name, id string) string {
	if name == "" {
		return id
	}
	return name + " (" + id + ")"
}
