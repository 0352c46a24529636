package approvals

import (
	"context"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
)

// Verification asks whether exactly this workflow and commit may be deployed now.
type Verification struct {
	App         string
	Environment string
	GitCommit   string
	WorkflowID  string
}

// Verified is the answer to a [Verification] that passed: the receipt proves
// offline that the decision is in the log.
type Verified struct {
	Request Request
	Receipt ledger.Receipt
}

// Verify is the deploy job's question. It fails with not_approved,
// approval_expired or commit_not_approved.
func (s *Service) Verify(ctx context.Context, t Token, v Verification) (Verified, error) {
	var out Verified
	if t.Role != RoleCICD {
		return out, refuse(CodeForbidden, "a token with the role %s cannot verify: use one with the role %s", t.Role, RoleCICD)
	}
	n := NewRequest{App: v.App, Environment: v.Environment, GitCommit: v.GitCommit, WorkflowID: v.WorkflowID}
	if err := n.check(); err != nil {
		return out, err
	}
	if !t.Covers(v.App) {
		return out, refuse(CodeForbidden, "this token is not for app %q", v.App)
	}
	if _, err := s.settings.Lookup(n.App, n.Environment); err != nil {
		return out, err
	}
	err := s.view(ctx, func(tx Tx, now time.Time) error {
		r, err := approvedFor(tx, now, n)
		if err != nil {
			return err
		}
		out.Request = r
		out.Receipt, err = s.receipt(tx, r)
		return err
	})
	return out, err
}

// approvedFor finds the request behind a verification, or says why it fails.
func approvedFor(tx Tx, now time.Time, n NewRequest) (Request, error) {
	found, err := tx.Requests(Filter{Apps: []string{n.App}, Environment: n.Environment, WorkflowID: n.WorkflowID})
	if err != nil {
		return Request{}, err
	}
	if len(found) == 0 {
		return Request{}, refuse(CodeNotApproved, "no request was made for this workflow: a rerun needs an approval of its own")
	}
	r := found[0]
	for _, o := range found {
		if !o.Status.yields() {
			r = o
		}
	}
	switch {
	case !strings.HasPrefix(strings.ToLower(r.Facts.Revision), strings.ToLower(n.GitCommit)):
		return r, refuse(CodeCommitNotApproved, "request #%d is for commit %s, not %s", r.Number, r.Facts.Revision, n.GitCommit)
	case r.Status == Expired && !r.ApprovedAt.IsZero():
		return r, refuse(CodeApprovalExpired, "the approval of request #%d was not used in time", r.Number)
	case !r.Status.Passed():
		return r, refuse(CodeNotApproved, "request #%d is %s", r.Number, r.Status)
	case r.Status == Approved && r.AutoApprove && r.Attempt.Count == 0:
		return r, refuse(CodeNotApproved, "request #%d is approved, but its gate was not approved by us yet", r.Number)
	case now.After(r.ApprovalExpiresAt) && !(r.Status == Approved && r.Attempt.Open):
		return r, refuse(CodeApprovalExpired, "the approval of request #%d was usable until %s", r.Number, r.ApprovalExpiresAt.Format(time.RFC3339))
	}
	return r, nil
}

// receipt proves the decision of the current round.
func (s *Service) receipt(tx Tx, r Request) (ledger.Receipt, error) {
	if err := s.maySign(); err != nil {
		return ledger.Receipt{}, err
	}
	events, err := tx.EventsOf(r.ID)
	if err != nil {
		return ledger.Receipt{}, err
	}
	seq := int64(-1)
	for _, e := range events {
		if e.Type == EventApproved {
			seq = e.Seq
		}
	}
	if seq < 0 {
		return ledger.Receipt{}, refuse(CodeNotApproved, "request #%d has no decision in the log", r.Number)
	}
	size, err := tx.Ledger().Size()
	if err != nil {
		return ledger.Receipt{}, err
	}
	root, err := ledger.Root(tx.Ledger(), size)
	if err != nil {
		return ledger.Receipt{}, err
	}
	checkpoint, err := s.signer.Checkpoint(size, root)
	if err != nil {
		return ledger.Receipt{}, err
	}
	for line, err := range tx.Leaves(seq) {
		if err != nil {
			return ledger.Receipt{}, err
		}
		return ledger.NewReceipt(tx.Ledger(), seq, line, checkpoint, s.signer.VerifierKey())
	}
	return ledger.Receipt{}, ErrNotFound
}

// ReportDeploy takes what the deploy job says of itself: a line in the thread.
// It never decides the outcome, which only the job list does.
func (s *Service) ReportDeploy(ctx context.Context, t Token, idOrNumber, phase, detail, jobID string) (Request, error) {
	var r Request
	if t.Role != RoleCICD {
		return r, refuse(CodeForbidden, "a token with the role %s cannot report deploys: use one with the role %s", t.Role, RoleCICD)
	}
	var faults []FieldError
	if phase != "started" && phase != "succeeded" && phase != "failed" {
		faults = append(faults, FieldError{"phase", "must be started, succeeded or failed"})
	}
	if utf8.RuneCountInString(detail) > maxReason {
		faults = append(faults, FieldError{"detail", "must be at most 500 characters"})
	}
	if jobID != "" && !uuidPattern.MatchString(jobID) {
		faults = append(faults, FieldError{"job_id", "must be the id (UUID) of a CircleCI job"})
	}
	if len(faults) > 0 {
		e := refuse(CodeInvalid, "the report is not valid")
		e.Fields = faults
		return r, e
	}
	err := s.update(ctx, func(tx Tx, now time.Time) error {
		var err error
		if r, err = covered(tx, t, idOrNumber); err != nil {
			return err
		}
		if !r.Status.Passed() {
			return refuse(CodeNotApproved, "request #%d is %s: there is nothing to deploy", r.Number, r.Status)
		}
		if r.Deploy.FinishedAt.IsZero() && r.Deploy.Phase != phase {
			r.Deploy.Phase, r.Deploy.Detail = phase, detail
			if phase == "started" && r.Deploy.StartedAt.IsZero() {
				r.Deploy.StartedAt = now
			}
			if err := tx.SaveRequest(&r); err != nil {
				return err
			}
		}
		e := about(r, EventDeployReport, Actor{Kind: ActorToken, ID: t.ID}, "api")
		e.Outcome, e.Reason = phase, detail
		e.Data = map[string]string{"round": strconv.Itoa(r.Round)}
		if jobID != "" {
			e.Data["job_id"] = strings.ToLower(jobID)
		}
		if e, err = record(tx, now, e); err != nil {
			return err
		}
		return enqueue(tx, reply(r, e), cardUpdate(r))
	})
	return r, err
}
