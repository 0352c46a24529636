package approvals

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
)

// Verified is the answer of [Service.Verify] that a deploy may go on: the receipt proves
// offline that the decision is in the log.
type Verified struct {
	Request Request
	Receipt ledger.Receipt
}

// Verify is the deploy job's question whether exactly this app, environment, commit and
// workflow may be deployed now; the other fields of n do not matter. Log and thread tell
// the answer: a yes once for each round, and a no, which is one of not_approved,
// approval_expired and commit_not_approved.
func (s *Service) Verify(ctx context.Context, t Token, n NewRequest) (Verified, error) {
	out, err := s.verify(ctx, t, &n)
	if err == nil {
		s.verifyPassed(ctx, t, out.Request)
	}
	if why, ok := errors.AsType[*Error](err); ok && slices.Contains([]Code{CodeNotApproved, CodeApprovalExpired, CodeCommitNotApproved}, why.Code) {
		s.verifyRefused(ctx, t, n, why)
	}
	return out, err
}

func (s *Service) verify(ctx context.Context, t Token, n *NewRequest) (Verified, error) {
	var out Verified
	policy, err := s.admit(t, "verify", n)
	if err != nil {
		return out, err
	}
	if err := s.maySign(); err != nil {
		return out, err
	}
	// Most questions that are refused need no proof.
	if _, err := query(ctx, s.store, func(tx Tx) (Request, error) { return approvedFor(tx, *n) }); err != nil {
		return out, err
	}
	err = s.journal.proven(ctx, func(p *proof) error {
		r, err := approvedFor(p, *n)
		if err != nil {
			return err
		}
		if r, err = p.request(r); err != nil {
			return err
		}
		if err := cmp.Or(approvedNow(p.Now(), *n, r), countsNow(p, policy, r)); err != nil {
			return err
		}
		if out.Receipt, err = p.receipt(r); err != nil {
			return err
		}
		out.Request = r
		return named(p, &out.Request)
	})
	return out, err
}

// verifyPassed records the first yes of a round. The receipt proves it as well, so
// that a deploy is not stopped when the record cannot be made.
func (s *Service) verifyPassed(ctx context.Context, t Token, r Request) {
	if !r.Deploy.Asked.IsZero() {
		return
	}
	err := s.update(Background(ctx), func(c *Change) error {
		r, err := c.Request(r.ID)
		if err != nil || !r.Deploy.Asked.IsZero() {
			return err
		}
		e := about(r, EventVerified, t.actor(), "api")
		e.Data = Data{"commit": r.Facts.Revision, "workflow_id": r.Facts.WorkflowID}
		return c.happen(&r, e)
	})
	if err != nil {
		s.log.Error("record that a deploy may go on", "err", err)
	}
}

// verifyRefused records that a deploy job was told not to deploy: once for each caller,
// request and reason, and later now and then how often it happened again. Where there is
// no request, the workflow stands in its place. Somebody may just have opened the gate,
// so the workflow is looked at.
func (s *Service) verifyRefused(ctx context.Context, t Token, n NewRequest, why *Error) {
	had, err := query(ctx, s.store, func(tx Tx) (Request, error) { return standing(tx, n.App, n.Environment, n.WorkflowID) })
	if err != nil && !errors.Is(err, ErrNotFound) {
		s.log.Error("record a refused verify", "err", err)
		return
	}
	k := click{t.ID, cmp.Or(had.ID, n.App+"/"+n.Environment+"/"+n.WorkflowID), RefusalCode(why.Code)}
	err = s.refuseOnce(ctx, k, func(c *Change) (r Request, e Event, err error) {
		if had.ID != "" {
			r, err = c.Request(had.ID)
		}
		if err == nil && r.Status.Open() {
			err = c.ask(followWork(r.Facts.WorkflowID, c.Now(), rankDue))
		}
		e = Event{Type: EventVerifyRefused, Request: r.ID, App: n.App, Environment: n.Environment, Actor: t.actor(), Source: "api", Outcome: string(r.Status)}
		e.Reason, e.Data = string(why.Code), Data{"commit": n.GitCommit, "workflow_id": n.WorkflowID, "detail": why.Message}
		return r, e, err
	})
	if err != nil {
		s.log.Error("record a refused verify", "err", err)
	}
}

// approvedFor finds the request behind a verification, or says why it fails.
func approvedFor(tx Tx, n NewRequest) (Request, error) {
	r, err := standing(tx, n.App, n.Environment, n.WorkflowID)
	if errors.Is(err, ErrNotFound) {
		return r, refuse(CodeNotApproved, "no request was made for this workflow: a rerun needs an approval of its own")
	}
	return r, cmp.Or(err, approvedNow(tx.Now(), n, r))
}

// approvedNow says why a request does not let its deploy go on now; nil when it
// does.
func approvedNow(now time.Time, n NewRequest, r Request) error {
	switch {
	case !strings.HasPrefix(strings.ToLower(r.Facts.Revision), strings.ToLower(n.GitCommit)):
		return refuse(CodeCommitNotApproved, "request #%d is for commit %s, not %s", r.Number, r.Facts.Revision, n.GitCommit)
	case r.Status == Expired && !r.ApprovedAt.IsZero():
		return refuse(CodeApprovalExpired, "the approval of request #%d was not used in time", r.Number)
	case r.Status == Bypassed && r.ApprovedAt.IsZero():
		return refuse(CodeNotApproved, "nobody approved request #%d here; its gate was opened in CircleCI by %s", r.Number, cmp.Or(r.Gate.ApprovedBy, "an unknown user"))
	case r.Status == Bypassed && r.Failure.Detail != "":
		return refuse(CodeNotApproved, "the gate of request #%d was opened in CircleCI by %s, although %s", r.Number, cmp.Or(r.Gate.ApprovedBy, "an unknown user"), r.Failure.Detail)
	case r.Status == Bypassed:
		return refuse(CodeNotApproved, "request #%d was approved here, but its gate was opened in CircleCI by %s", r.Number, cmp.Or(r.Gate.ApprovedBy, "an unknown user"))
	case !r.Status.Passed():
		return refuse(CodeNotApproved, "request #%d is %s", r.Number, r.Status)
	case r.Status == Approved && r.AutoApprove && r.Attempt.Count == 0:
		return refuse(CodeNotApproved, "request #%d is approved, but its gate was not approved by us yet", r.Number)
	case !now.After(r.ApprovalExpiresAt()):
		return nil
	case r.Status == Approved && r.Gate.Waiting:
		// Its window has not begun, as far as is known: the next look tells.
		return later(5*time.Second, "CircleCI has not shown the gate of request #%d on hold yet: ask again in a moment", r.Number)
	}
	return refuse(CodeApprovalExpired, "the approval of request #%d was usable until %s", r.Number, r.ApprovalExpiresAt().Format(time.RFC3339))
}

// countsNow says why the votes of an approved request do not let its deploy go on,
// although the follower has not seen that yet; nil when they do. Votes for which a
// call was made that may have opened the gate were judged before it.
func countsNow(p *proof, policy Policy, r Request) error {
	if r.Status != Approved || r.unresolved() {
		return nil
	}
	votes, err := tally(p, policy, r)
	if err != nil {
		return err
	}
	lost, sure := Knowledge{Policy: &policy, Tally: votes}.lost(r)
	switch {
	case !sure:
		return later(heldLook, "whether the approval of request #%d still counts cannot be told: Slack has not confirmed for too long who may approve", r.Number)
	case lost.Code != "":
		return refuse(CodeNotApproved, "request #%d was approved, but %s", r.Number, lost.Detail)
	}
	return nil
}

// receipt proves the decision of the current round.
func (p *proof) receipt(r Request) (ledger.Receipt, error) {
	lines, err := historyOf(p.Tx, r.ID, -1)
	if err != nil {
		return ledger.Receipt{}, err
	}
	for _, line := range slices.Backward(lines) {
		if kind, _ := peek(line); !kind.Approves() {
			continue
		}
		e, err := ParseEvent(line)
		if err != nil {
			return ledger.Receipt{}, err
		}
		checkpoint, err := p.sign(0)
		if err != nil {
			return ledger.Receipt{}, err
		}
		return ledger.NewReceipt(p.Ledger(), e.Seq, line, checkpoint, p.j.signer.VerifierKey())
	}
	return ledger.Receipt{}, refuse(CodeNotApproved, "request #%d has no decision in the log", r.Number)
}

// ReportDeploy takes what the deploy job says of itself: a line in the thread.
// It never decides the outcome, which only the job list does.
func (s *Service) ReportDeploy(ctx context.Context, t Token, idOrNumber string, phase Phase, detail, jobID string) (Request, error) {
	var r Request
	if err := t.mayAct("report deploys"); err != nil {
		return r, err
	}
	var f faults
	f.unless(phase == PhaseStarted || phase == PhaseSucceeded || phase == PhaseFailed, "phase", "must be started, succeeded or failed")
	f.unless(utf8.RuneCountInString(detail) <= maxReason, "detail", "must be at most 500 characters")
	f.unless(jobID == "" || uuidPattern.MatchString(jobID), "job_id", "must be the id (UUID) of a CircleCI job")
	if err := f.refusal("the report is not valid"); err != nil {
		return r, err
	}
	if t.Job != nil {
		jobID = t.Job.JobID
	}
	err := s.update(ctx, func(c *Change) error {
		var err error
		if r, err = covered(c.Tx, t, idOrNumber); err != nil {
			return err
		}
		if !r.Status.Passed() {
			return refuse(CodeNotApproved, "request #%d is %s: there is nothing to deploy", r.Number, r.Status)
		}
		e := about(r, EventDeployReport, t.actor(), "api")
		e.Outcome, e.Reason = string(phase), detail
		e.Data = Data{"round": itoa(r.Round)}
		if phase == PhaseStarted && detail == "" && !r.Deploy.Asked.IsZero() {
			e.Data["verified"] = "true"
		}
		if jobID != "" {
			e.Data["job_id"] = strings.ToLower(jobID)
		}
		if r.Deploy.Reported == e.said() {
			return nil // it said so already
		}
		return c.happen(&r, e)
	})
	return r, err
}
