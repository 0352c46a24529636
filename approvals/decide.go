package approvals

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/totp"
)

// Prompt is what a modal shows.
type Prompt struct {
	Request   Request
	NeedsCode bool
	Frozen    string // until when nobody may approve, see [Freeze.Says]
	Stranger  bool   // nobody on record set the workflow off
}

// MayDecide judges a click. It only reads, and only the database, so that the
// modal opens within Slack's three seconds. A refusal is a *[Refusal].
func (s *Service) MayDecide(ctx context.Context, who Clicker, requestID string, action Action) (Prompt, error) {
	var out Prompt
	err := s.view(ctx, func(tx Tx) error {
		r, err := requestFor(tx, requestID)
		if err != nil {
			return err
		}
		started := findStarter(rows{tx}, r)
		p, _, err := s.judge(rows{tx}, who, r, action, started)
		by, failed := started()
		out = Prompt{Request: r, NeedsCode: needsCode(p, action), Stranger: !by.known, Frozen: p.Freeze.Says(tx.Now())}
		return cmp.Or(err, failed)
	})
	if why, ok := errors.AsType[*Refusal](err); ok && why.Code == RefusedStalePerson && s.askAbout(ctx, who.User) {
		return s.MayDecide(ctx, who, requestID, action)
	}
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
func (s *Service) Opened(ctx context.Context, who Clicker, requestID string, action Action) error {
	return s.update(Background(ctx), func(c *Change) error {
		r, err := c.Request(requestID)
		if err != nil {
			return err
		}
		e := about(r, EventModalOpened, who.actor(), "slack")
		e.Outcome = string(action)
		return c.happen(&r, e)
	})
}

// shortestEmergency is the least that has to be said of an emergency, in characters.
const shortestEmergency = 10

// Decide takes a submitted decision: policy and state first, then the attempt is counted
// and committed, then the code is compared; the vote, the used step and, with the quorum,
// the decision are one transaction. An emergency release is one person's decision alone,
// and a reject needs a code only if the app's settings ask for one; both need a reason.
// Refusals are *[Refusal]; after any other error nothing was decided unless a later look
// shows it.
func (s *Service) Decide(ctx context.Context, who Clicker, requestID string, action Action, reason, code string) error {
	d := Decision{Action: action, SlackUser: who.User, Reason: strings.TrimSpace(reason)}
	least, known := map[Action]int{ActionApprove: 0, ActionReject: 1, ActionBreakGlass: shortestEmergency}[action]
	if !known {
		return fmt.Errorf("nobody can decide to %q", action)
	}
	if n := utf8.RuneCountInString(d.Reason); n < least || n > maxReason {
		return &Refusal{Code: RefusedReason}
	}
	prompt, err := s.MayDecide(ctx, who, requestID, action)
	if err != nil {
		return err
	}
	if !prompt.NeedsCode {
		return s.settle(ctx, who, requestID, d, nil)
	}
	a := attempt{}
	if a.code, err = totp.ParseCode(code); err != nil {
		return &Refusal{Code: RefusedCodeMalformed}
	}
	if a.before, a.after, err = s.countAttempt(ctx, who, requestID, action); err != nil {
		return err
	}
	d.MFA = "totp"
	return s.settle(ctx, who, requestID, d, &a)
}

// attempt is one code that was typed, counted as a failure before it is
// compared, so that a crash refunds nothing.
type attempt struct {
	code          totp.Code
	before, after totp.Throttle
}

func (s *Service) countAttempt(ctx context.Context, who Clicker, requestID string, action Action) (before, after totp.Throttle, err error) {
	var refused error // committed, then answered
	err = s.update(ctx, func(c *Change) error {
		r, err := requestFor(c.Tx, requestID)
		if err != nil {
			return err
		}
		if _, _, err := s.judge(rows{c.Tx}, who, r, action, findStarter(rows{c.Tx}, r)); err != nil {
			return err
		}
		auth, err := c.authenticator(who.User)
		switch {
		case errors.Is(err, ErrSeal):
			refused = unreadable(err)
			s.log.Error("an authenticator does not open: the row was altered or its key is missing", "user", who.User)
			return c.warn(Event{Type: EventSealBroken, Actor: Actor{Kind: ActorSystem}, Source: "slack", Data: Data{"user": who.User}})
		case err != nil:
			return unreadable(err)
		case auth.Throttle.Disabled:
			return &Refusal{Code: RefusedDisabled, App: r.App, By: who.User}
		case auth.Throttle.Waiting(c.Now()):
			return &Refusal{Code: RefusedCodeWaiting, App: r.App, Until: auth.Throttle.WaitUntil}
		}
		before, after = auth.Throttle, auth.Throttle.Counted(c.Now())
		auth.Throttle = after
		return c.saveAuthenticator(who.User, &auth)
	})
	return before, after, cmp.Or(err, refused)
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

// settle compares the code, if one is asked for, and takes the decision.
func (s *Service) settle(ctx context.Context, who Clicker, requestID string, d Decision, a *attempt) error {
	var refused error // committed, then answered
	err := s.update(ctx, func(c *Change) error {
		r, err := requestFor(c.Tx, requestID)
		if err != nil {
			return err
		}
		var proven *proof
		var known records = rows{c.Tx}
		// What cannot be approved any more is refused without a proof.
		if d.Action != ActionReject && (r.Status == Pending || r.CanRetry(c.Now())) {
			if proven, err = s.journal.prove(c.Tx); err != nil {
				return err
			}
			defer proven.release()
			if r, err = proven.request(r); err != nil {
				return err
			}
			known = proven
		}
		p, person, late := s.judge(known, who, r, d.Action, findStarter(known, r))
		var why *Refusal
		if late != nil && !errors.As(late, &why) {
			return late
		}
		if a != nil {
			if d.NewAuth, refused, err = check(c, who, &r, *a); err != nil || refused != nil {
				return err
			}
		}
		if why != nil {
			refused = why
			return c.happen(&r, clickRefused(r, who, d.Action, why))
		}
		switch {
		case d.Action == ActionReject:
			e := about(r, EventRejected, who.actor(), "slack")
			e.Outcome, e.MFA, e.Reason = "rejected", d.MFA, d.Reason
			return s.end(c, &r, e)
		case proven == nil:
			return errors.New("a vote needs a proof")
		}
		return accept(c, proven, who, p, person, &r, d)
	})
	return cmp.Or(err, refused)
}

// check compares a code. A right one uses its step and clears the count; a used
// one is not counted; a wrong one stays counted. newAuth is when the authenticator
// was set up, if this is its first code.
func check(c *Change, who Clicker, r *Request, a attempt) (newAuth time.Time, refused, err error) {
	auth, err := c.authenticator(who.User)
	if err != nil {
		return newAuth, nil, unreadable(err)
	}
	now := c.Now()
	step, ok := auth.Secret.Match(a.code, now)
	failed, locked := about(*r, EventCodeFailed, who.actor(), "slack"), about(*r, EventCodeLocked, who.actor(), "slack")
	switch {
	case ok && step > auth.LastStep:
		if auth.FirstUsed.IsZero() {
			auth.FirstUsed, newAuth = now, auth.EnrolledAt
		}
		auth.LastStep, auth.Throttle = step, totp.Throttle{}
		return newAuth, nil, c.saveAuthenticator(who.User, &auth)
	case ok:
		failed.Outcome = "used"
		refused = &Refusal{Code: RefusedCodeUsed, Until: totp.StepEnd(max(auth.LastStep, totp.Step(now)))}
		auth.Throttle = auth.Throttle.Uncounted(a.before)
		if err := c.saveAuthenticator(who.User, &auth); err != nil {
			return newAuth, nil, err
		}
		return newAuth, refused, c.happen(r, failed)
	}
	failed.Outcome, failed.Data = "wrong", Data{"failures": itoa(a.after.Failures)}
	switch {
	case a.after.Disabled:
		refused = &Refusal{Code: RefusedDisabled, App: r.App, By: who.User}
		locked.Outcome = "disabled"
	case a.after.Waiting(now):
		refused = &Refusal{Code: RefusedCodeWaiting, App: r.App, Until: a.after.WaitUntil}
		locked.Outcome, locked.Data = "paused", Data{"until": a.after.WaitUntil.Format(timeFormat)}
	default:
		return newAuth, &Refusal{Code: RefusedCodeWrong, App: r.App, Left: a.after.Left()}, c.happen(r, failed)
	}
	return newAuth, refused, c.happen(r, failed, locked) // its owner and the channel are told
}

// accept counts an approval, which decides with the quorum, or an emergency release,
// which decides alone. The first of them after a failure opens a fresh round.
func accept(c *Change, proven *proof, who Clicker, p Policy, person Person, r *Request, d Decision) error {
	if r.Status != Pending {
		if err := c.happen(r, about(*r, EventReopened, who.actor(), "slack")); err != nil {
			return err
		}
	}
	var e Event
	if d.Action == ActionApprove {
		before, err := tally(proven, p, *r)
		if err != nil {
			return err
		}
		e = about(*r, EventVoted, who.actor(), "slack")
		e.Outcome, e.MFA, e.Facts = "accepted", d.MFA, r.Facts.Hash()
		e.Data = Data{"votes": itoa(before.Valid + 1), "needed": itoa(needed(*r, p)), "round": itoa(r.Round)}
	} else {
		started, err := starterOf(proven, *r)
		if err != nil {
			return err
		}
		e = approvedEvent(*r, p, Tally{Self: started.approves(person)}, c.Now())
		e.Type, e.Actor, e.Outcome, e.MFA, e.Reason, e.People = EventBreakGlass, who.actor(), string(ActionBreakGlass), d.MFA, d.Reason, []string{who.User}
		if until := p.Freeze.Says(c.Now()); until != "" {
			e.Data["frozen"] = until
		}
	}
	if !d.NewAuth.IsZero() {
		e.Data["new_authenticator"] = d.NewAuth.Format(timeFormat)
	}
	if err := c.happen(r, e); err != nil {
		return err
	}
	if d.Action == ActionApprove {
		votes, err := tally(proven, p, *r)
		if err != nil || votes.Valid < needed(*r, p) {
			return err
		}
		if err := c.happen(r, approvedEvent(*r, p, votes, c.Now())); err != nil {
			return err
		}
	}
	return c.ask(followWork(r.Facts.WorkflowID, c.Now(), rankUrgent))
}

// judge says whether the clicker may do action with the request now: its state
// first, then the person's right. A refusal is a *[Refusal].
func (s *Service) judge(tx records, who Clicker, r Request, action Action, started func() (starter, error)) (p Policy, person Person, err error) {
	team, err := tx.Secret(secretTeam)
	if err == nil && (team == "" || who.Team != team) {
		err = &Refusal{Code: RefusedWorkspace, App: r.App}
	}
	if err == nil {
		err = stateRefusal(tx, r, action)
	}
	if err != nil {
		return p, person, err
	}
	hold := s.Held()
	p, err = s.settings.Lookup(r.App, r.Environment)
	switch {
	case err != nil && hold != "": // another node may know it
		return p, person, &Refusal{Code: RefusedOnHold, App: r.App, Detail: hold}
	case err != nil:
		return p, person, &Refusal{Code: RefusedAppGone, App: r.App}
	}
	if person, err = right(tx, p, who.User, action, started); err != nil {
		return p, person, err
	}
	until := p.Freeze.Says(tx.Now())
	switch {
	case action == ActionApprove && until != "":
		err = &Refusal{Code: RefusedFrozen, App: r.App, Who: p.BreakGlass, Detail: until}
	case action == ActionApprove && r.Status == Pending && r.voted(person):
		err = &Refusal{Code: RefusedVoted, App: r.App}
	case action != ActionReject && hold != "":
		err = &Refusal{Code: RefusedOnHold, App: r.App, Detail: hold}
	case needsCode(p, action) && !person.Enrolled:
		err = &Refusal{Code: RefusedNoAuthenticator, App: r.App, By: who.User}
	}
	return p, person, err
}
