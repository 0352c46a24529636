package approvals

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/totp"
)

// Prompt is what a modal shows.
type Prompt struct {
	Request   Request
	Policy    Policy
	NeedsCode bool
}

const maxReason = 500 // characters

// MayDecide judges a click. It only reads, and only the database, so that the
// modal opens within Slack's three seconds. A refusal is a *[Refusal].
func (s *Service) MayDecide(ctx context.Context, c Clicker, requestID, action string) (Prompt, error) {
	var out Prompt
	err := s.view(ctx, func(tx Tx, now time.Time) error {
		r, err := requestFor(tx, requestID)
		if err != nil {
			return err
		}
		p, _, err := s.judge(tx, now, c, r, action)
		out = Prompt{Request: r, Policy: p, NeedsCode: needsCode(p, action)}
		return err
	})
	return out, err
}

func requestFor(tx Tx, id string) (Request, error) {
	r, err := tx.Request(id)
	if errors.Is(err, ErrNotFound) {
		return r, &Refusal{Code: RefusedUnknownRequest}
	}
	return r, err
}

// Opened records that somebody opened the modal.
func (s *Service) Opened(ctx context.Context, c Clicker, requestID, action string) error {
	return s.update(ctx, func(tx Tx, now time.Time) error {
		r, err := tx.Request(requestID)
		if err != nil {
			return err
		}
		e := about(r, EventModalOpened, c.actor(), "slack")
		e.Outcome = action
		_, err = record(tx, now, e)
		return err
	})
}

// ClickRefused records that a click was refused. The thread hears of it once
// per person and reason, and only when the person had no right.
func (s *Service) ClickRefused(ctx context.Context, c Clicker, requestID, action string, why *Refusal) error {
	return s.update(ctx, func(tx Tx, now time.Time) error {
		r, err := tx.Request(requestID)
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		return s.recordRefusal(tx, now, c, r, action, why)
	})
}

func (s *Service) recordRefusal(tx Tx, now time.Time, c Clicker, r Request, action string, why *Refusal) error {
	known, err := tx.EventsOf(r.ID)
	if err != nil {
		return err
	}
	told := false
	for _, e := range known {
		told = told || e.Type == EventClickRefused && e.Actor.ID == c.User && e.Reason == string(why.Code)
	}
	e := about(r, EventClickRefused, c.actor(), "slack")
	e.Outcome, e.Reason = action, string(why.Code)
	if e, err = record(tx, now, e); err != nil || told || !why.AboutRight() {
		return err
	}
	return tx.Enqueue(reply(r, e))
}

// Approve takes a submitted approval: policy and state first, then the attempt
// is counted and committed, then the code is compared; the vote, the used step
// and, with the quorum, the decision are one transaction. Refusals are *[Refusal];
// after any other error nothing was decided unless a later look shows it.
func (s *Service) Approve(ctx context.Context, c Clicker, requestID, code string) (Request, error) {
	return s.decide(ctx, c, requestID, Decision{Action: ActionApprove, SlackUser: c.User}, code)
}

// Reject takes a submitted reject. code is looked at only if the app's settings
// ask for one.
func (s *Service) Reject(ctx context.Context, c Clicker, requestID, reason, code string) (Request, error) {
	reason = strings.TrimSpace(reason)
	if n := utf8.RuneCountInString(reason); n < 1 || n > maxReason {
		return Request{}, &Refusal{Code: RefusedReason}
	}
	return s.decide(ctx, c, requestID, Decision{Action: ActionReject, SlackUser: c.User, Reason: reason}, code)
}

func (s *Service) decide(ctx context.Context, c Clicker, requestID string, d Decision, text string) (Request, error) {
	prompt, err := s.MayDecide(ctx, c, requestID, d.Action)
	if err != nil {
		return prompt.Request, err
	}
	if !prompt.NeedsCode {
		return s.settle(ctx, c, requestID, d, nil)
	}
	code, err := totp.ParseCode(text)
	if err != nil {
		return prompt.Request, &Refusal{Code: RefusedCodeMalformed}
	}
	a := attempt{code: code}
	if a.before, a.after, err = s.countAttempt(ctx, c, requestID, d.Action); err != nil {
		return prompt.Request, err
	}
	d.MFA = "totp"
	return s.settle(ctx, c, requestID, d, &a)
}

// attempt is one code that was typed, counted as a failure before it is
// compared, so that a crash refunds nothing.
type attempt struct {
	code          totp.Code
	before, after totp.Throttle
}

func (s *Service) countAttempt(ctx context.Context, c Clicker, requestID, action string) (before, after totp.Throttle, err error) {
	err = s.update(ctx, func(tx Tx, now time.Time) error {
		r, err := requestFor(tx, requestID)
		if err != nil {
			return err
		}
		if _, _, err := s.judge(tx, now, c, r, action); err != nil {
			return err
		}
		auth, err := tx.Authenticator(c.User)
		if err != nil {
			return unreadable(err)
		}
		if auth.Throttle.Disabled {
			return &Refusal{Code: RefusedDisabled, App: r.App, By: c.User}
		}
		if auth.Throttle.Waiting(now) {
			return &Refusal{Code: RefusedCodeWaiting, App: r.App, Until: auth.Throttle.WaitUntil}
		}
		before, after = auth.Throttle, auth.Throttle.Counted(now)
		auth.Throttle = after
		return tx.SaveAuthenticator(c.User, &auth)
	})
	var why *Refusal
	if errors.As(err, &why) && why.Code == RefusedUnreadable {
		s.sealBroken(ctx, c.User)
	}
	return before, after, err
}

// unreadable turns a seal that does not open into a refusal.
func unreadable(err error) error {
	if errors.Is(err, ErrNotFound) {
		return &Refusal{Code: RefusedNoAuthenticator}
	}
	if errors.Is(err, ErrSeal) {
		return &Refusal{Code: RefusedUnreadable}
	}
	return err
}

// sealBroken records that a sealed authenticator did not open: the row was
// swapped or the keys are wrong.
func (s *Service) sealBroken(ctx context.Context, user string) {
	s.log.Error("an authenticator does not open: the row was altered or its key is missing", "user", user)
	err := s.update(ctx, func(tx Tx, now time.Time) error {
		e, err := record(tx, now, Event{Type: EventSealBroken, Actor: Actor{Kind: ActorSystem}, Source: "slack", Data: map[string]string{"user": user}})
		if err != nil {
			return err
		}
		return announce(tx, e, "")
	})
	if err != nil {
		s.log.Error("record an authenticator that does not open", "err", err)
	}
}

// settle compares the code, if one is asked for, and takes the decision.
func (s *Service) settle(ctx context.Context, c Clicker, requestID string, d Decision, a *attempt) (Request, error) {
	var r Request
	var refused error // committed, then answered
	err := s.update(ctx, func(tx Tx, now time.Time) error {
		var err error
		if r, err = requestFor(tx, requestID); err != nil {
			return err
		}
		p, person, late := s.judge(tx, now, c, r, d.Action)
		var why *Refusal
		if late != nil && !errors.As(late, &why) {
			return late
		}
		d.At, d.Name = now, person.Name
		if a != nil {
			wrong, first, err := s.check(tx, now, c, r, *a)
			if err != nil {
				return err
			}
			if wrong != nil {
				refused = wrong
				return nil
			}
			if first && d.Action == ActionApprove {
				auth, err := tx.Authenticator(c.User)
				if err != nil {
					return err
				}
				d.NewAuth = auth.EnrolledAt
			}
		}
		if why != nil {
			refused = why
			return s.recordRefusal(tx, now, c, r, d.Action, why)
		}
		if d.Action == ActionReject {
			return s.reject(tx, now, c, &r, d)
		}
		return s.vote(tx, now, c, p, &r, d)
	})
	if err == nil {
		err = refused
	}
	return r, err
}

// check compares a code. A right one uses its step and clears the count; a used
// one is not counted; a wrong one stays counted. first: it is the first code of
// this authenticator.
func (s *Service) check(tx Tx, now time.Time, c Clicker, r Request, a attempt) (wrong *Refusal, first bool, err error) {
	auth, err := tx.Authenticator(c.User)
	if err != nil {
		return nil, false, unreadable(err)
	}
	step, ok := auth.Secret.Match(a.code, now)
	failed := about(r, EventCodeFailed, c.actor(), "slack")
	switch {
	case ok && step > auth.LastStep:
		first = auth.FirstUsed.IsZero()
		if first {
			auth.FirstUsed = now
		}
		auth.LastStep = step
		auth.Throttle = totp.Throttle{}
		return nil, first, tx.SaveAuthenticator(c.User, &auth)
	case ok:
		failed.Outcome = "used"
		wrong = &Refusal{Code: RefusedCodeUsed, Until: totp.StepEnd(max(auth.LastStep, totp.Step(now)))}
		auth.Throttle = auth.Throttle.Uncounted(a.before)
		if err := tx.SaveAuthenticator(c.User, &auth); err != nil {
			return nil, false, err
		}
	default:
		failed.Outcome = "wrong"
		failed.Data = map[string]string{"failures": strconv.Itoa(a.after.Failures)}
		wrong = &Refusal{Code: RefusedCodeWrong, App: r.App, Left: a.after.Left()}
		switch {
		case a.after.Disabled:
			wrong = &Refusal{Code: RefusedDisabled, App: r.App, By: c.User}
		case a.after.Waiting(now):
			wrong = &Refusal{Code: RefusedCodeWaiting, App: r.App, Until: a.after.WaitUntil}
		}
	}
	failed, err = record(tx, now, failed)
	if err != nil {
		return nil, false, err
	}
	if err := tx.Enqueue(reply(r, failed)); err != nil {
		return nil, false, err
	}
	if wrong.Code == RefusedCodeWaiting || wrong.Code == RefusedDisabled {
		return wrong, false, s.locked(tx, now, c, r, wrong)
	}
	return wrong, false, nil
}

// locked records a pause or the end of an authenticator; its owner and the
// channel are told.
func (s *Service) locked(tx Tx, now time.Time, c Clicker, r Request, why *Refusal) error {
	e := about(r, EventCodeLocked, c.actor(), "slack")
	e.Outcome = "disabled"
	if !why.Until.IsZero() {
		e.Outcome = "paused"
		e.Data = map[string]string{"until": why.Until.Format(timeFormat)}
	}
	e, err := record(tx, now, e)
	if err != nil {
		return err
	}
	if err := tx.Enqueue(noticeChannel(r.Channel, e)); err != nil {
		return err
	}
	return tx.Enqueue(noticePerson(c.User, e))
}

// vote counts an approval, and with the quorum decides.
func (s *Service) vote(tx Tx, now time.Time, c Clicker, p Policy, r *Request, d Decision) error {
	if r.Status != Pending && !r.Retrying {
		r.Round++
		r.Retrying = true
		r.Decisions = nil
	}
	r.Decisions = append(r.Decisions, d)
	valid, _, _, err := tally(tx, now, p, *r)
	if err != nil {
		return err
	}
	need := needed(*r, p)
	voted := about(*r, EventVoted, c.actor(), "slack")
	voted.Outcome, voted.MFA, voted.Facts = "accepted", d.MFA, r.Facts.Hash()
	voted.Data = map[string]string{"votes": strconv.Itoa(valid), "needed": strconv.Itoa(need), "round": strconv.Itoa(r.Round)}
	if voted, err = record(tx, now, voted); err != nil {
		return err
	}
	effects := []Effect{reply(*r, voted), cardUpdate(*r)}
	if valid >= need {
		more, err := s.approve(tx, now, p, r)
		if err != nil {
			return err
		}
		effects = append(effects, more...)
	}
	if err := tx.SaveRequest(r); err != nil {
		return err
	}
	return enqueue(tx, effects...)
}

// approve is the decision. The caller saves the request.
func (s *Service) approve(tx Tx, now time.Time, p Policy, r *Request) ([]Effect, error) {
	if !r.Status.CanBecome(Approved) {
		return nil, fmt.Errorf("approve a request that is %s", r.Status)
	}
	r.Status = Approved
	r.Retrying = false
	r.ApprovedAt, r.ApprovalExpiresAt = now, now.Add(p.Window)
	r.ClosedAt = time.Time{}
	r.Failure = Failure{}
	earlier := r.Attempt.ApprovalID
	if earlier == "" {
		earlier = r.Attempt.Earlier
	}
	r.Attempt = Attempt{Earlier: earlier}
	r.Restored = false
	var who []string
	self := false
	for _, v := range r.Approvals() {
		who = append(who, v.SlackUser)
		person, err := tx.Person(v.SlackUser)
		if err != nil {
			return nil, err
		}
		self = self || person.VCSLogin != "" && r.Facts.StartedByLogin(person.VCSLogin)
	}
	e := about(*r, EventApproved, Actor{Kind: ActorSystem}, "slack")
	e.Outcome, e.MFA, e.Facts = "approved", "totp", r.Facts.Hash()
	e.Data = map[string]string{
		"by": strings.Join(who, " "), "round": strconv.Itoa(r.Round), "self_approval": strconv.FormatBool(self),
		"commit": r.Facts.Revision, "workflow_id": r.Facts.WorkflowID, "gate": r.GateName,
		"until": r.ApprovalExpiresAt.Format(timeFormat), "auto": strconv.FormatBool(r.AutoApprove),
	}
	e, err := record(tx, now, e)
	if err != nil {
		return nil, err
	}
	if r.AutoApprove {
		return []Effect{reply(*r, e), gateRelease(*r), watch(r.Facts.WorkflowID, now.Add(s.poll)), deadline(*r)}, nil
	}
	return []Effect{reply(*r, e), watch(r.Facts.WorkflowID, now), deadline(*r)}, nil
}

func (s *Service) reject(tx Tx, now time.Time, c Clicker, r *Request, d Decision) error {
	r.Decisions = append(r.Decisions, d)
	r.DecidedBy = c.User
	e := about(*r, EventRejected, c.actor(), "slack")
	e.Outcome, e.MFA, e.Reason = "rejected", d.MFA, d.Reason
	return s.end(tx, now, r, Rejected, e)
}

func enqueue(tx Tx, effects ...Effect) error {
	for _, e := range effects {
		if err := tx.Enqueue(e); err != nil {
			return fmt.Errorf("enqueue %s: %w", e.Kind, err)
		}
	}
	return nil
}
