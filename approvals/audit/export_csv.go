package audit

import (
	"bytes"
	"context"
	"fmt"
	"io"
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
	"number", "request_id", "app", "environment", "repository", "commit", "branch", "tag", "pipeline_url", "workflow_id",
	"requester", "started_by", "requested_at", "status", "decision", "decided_at", "approvers", "rejected_by", "mfa", "reason",
	"self_approval", "circleci_approver", "confirmed_at", "permalink", "seqs", "checkpoint_size",
}

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
	for more := true; more; {
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
		if err == nil {
			err = out.Flush()
		}
		if err != nil {
			return 0, err
		}
		if _, err := w.Write(page.Bytes()); err != nil {
			return 0, fmt.Errorf("write export: %w", err)
		}
		page.Reset()
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
	d := decided{reason: r.Failure.Detail}
	seqs := make([]string, len(events))
	var size int64
	for i, e := range events {
		seqs[i] = strconv.FormatInt(e.Seq, 10)
		size = e.Seq + 1
		d.take(e)
	}
	approvers, err := namesOf(tx, d.approvers)
	if err != nil {
		return nil, err
	}
	rejecter, err := namesOf(tx, d.rejecter)
	if err != nil {
		return nil, err
	}
	repository := r.Facts.Target
	if repository == "" {
		repository = r.Project
	}
	pipeline := ""
	if x.PipelineURL != nil {
		pipeline = x.PipelineURL(r.Facts.Project, r.Facts.PipelineNumber)
	}
	return []string{
		strconv.FormatInt(r.Number, 10), r.ID, r.App, r.Environment, repository, r.Facts.Revision, r.Facts.Branch, r.Facts.Tag, pipeline, r.Facts.WorkflowID,
		r.Requester.TokenName, strings.Join(r.Facts.Starters(), ", "), moment(r.CreatedAt), string(r.Status), d.decision, moment(d.at), approvers, rejecter, d.mfa, d.reason,
		d.self, r.Gate.ApprovedBy, moment(r.ReleasedAt), r.Slack.Permalink, strings.Join(seqs, " "), strconv.FormatInt(size, 10),
	}, nil
}

// decided is what the log says of the decision.
type decided struct {
	decision, mfa, self, reason string
	at                          time.Time
	approvers, rejecter         []string
}

// take follows the history; the newest decision counts.
func (d *decided) take(e approvals.Event) {
	switch e.Type {
	case approvals.EventApproved:
		d.decision, d.mfa, d.self, d.at = "approved", e.MFA, "no", e.At()
		d.approvers = e.People
		if e.Data["self_approval"] == "true" {
			d.self = "yes"
		}
	case approvals.EventRejected:
		d.decision, d.mfa, d.reason, d.at = "rejected", e.MFA, e.Reason, e.At()
		d.rejecter = []string{e.Actor.ID}
		if d.mfa == "" {
			d.mfa = "none"
		}
	}
}

// namesOf lists people for people.
func namesOf(tx approvals.Tx, ids []string) (string, error) {
	names := make([]string, len(ids))
	for i, id := range ids {
		name, err := approvals.NameOf(tx, id)
		if err != nil {
			return "", err
		}
		if names[i] = id; name != "" {
			names[i] = name + " (" + id + ")"
		}
	}
	return strings.Join(names, ", "), nil
}

// moment renders a time; nothing for the zero time.
func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Format(timeFormat)
}
