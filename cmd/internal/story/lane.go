package story

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/totp"
	"github.com/rack-gateway/rack-gateway-approvals/bot"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/proof"
)

const (
	// Gate is the approval job of every workflow.
	Gate = "approve_deploy"
	// Admins is how many approvers each lane has. The first may release in an
	// emergency.
	Admins = 3
	// sendTime is how long a code may take from the phone to the gateway.
	sendTime = 5 * time.Second
)

// World is what all lanes have in common. Fill in all of it but Blind and Orderly.
type World struct {
	Slack   *slacktest.Server
	Circle  *circlecitest.Server
	Gateway Gateway
	Codes   *proof.Codes
	Secret  func(user string) totp.Secret
	Self    string // our user id at CircleCI

	Blind   bool // see [proof.Case]
	Orderly bool // the cards of a channel stand in the order of their requests
	// Violation takes a promise that was broken.
	Violation func(what string)
}

// Lane is one app with what CI, people and CircleCI do about its requests, one
// story after the other.
type Lane struct {
	*World
	Script   Script
	Number   int
	Channel  string
	Project  string
	Stories  []*Story
	Trace    []string
	pipeline int64
	lastStep map[string]int64
	spent    string // a code that was accepted
	spentBy  string // whose it was
}

// Story is one workflow and its request.
type Story struct {
	Workflow, Revision string
	ID                 string // once acknowledged
	Number             int64
	Want               approvals.Status // its end; "" = any
	Status             approvals.Status // when it was judged last
}

// NewLane furnishes both services for a lane.
func NewLane(w *World, number int, s Script) *Lane {
	l := &Lane{
		World: w, Number: number, Script: s, lastStep: map[string]int64{},
		Channel: fmt.Sprintf("C0LANE%d", number), Project: fmt.Sprintf("gh/MyOrg/app%d", number),
	}
	members := []string{w.Slack.Config().BotUserID}
	for n := range Admins {
		w.Slack.SetUser(slacktest.User{ID: Admin(number, n)})
		members = append(members, Admin(number, n))
	}
	w.Slack.SetChannel(slacktest.Channel{ID: l.Channel, Members: members})
	w.Circle.AddProject(circlecitest.Project{Slug: l.Project})
	return l
}

// Admin is the Slack id of a lane's approver.
func Admin(lane, n int) string { return fmt.Sprintf("U0L%dA%d", lane, n) }

// App is the lane's app.
func (l *Lane) App() string { return fmt.Sprintf("app%d", l.Number) }

// Settings are the variables of the lane's app.
func (l *Lane) Settings() []string {
	prefix := "RGW_APP_" + strings.ToUpper(l.App()) + "_SETTING_"
	return []string{
		prefix + "VCS_REPO=" + strings.TrimPrefix(l.Project, "gh/"), prefix + "CIRCLECI_APPROVAL_JOB_NAME=" + Gate,
		prefix + "SLACK_CHANNEL=" + l.Channel, prefix + "ON_CLOSE=" + string(l.Script.OnClose),
		prefix + fmt.Sprintf("REQUIRED_APPROVALS=%d", l.Script.Required),
		prefix + fmt.Sprintf("CIRCLECI_AUTO_APPROVE_ON_APPROVAL=%t", l.Script.Auto), prefix + fmt.Sprintf("MFA_ON_REJECT=%t", l.Script.CodeOnReject),
		prefix + "BREAK_GLASS=" + Admin(l.Number, 0),
	}
}

func (l *Lane) note(format string, args ...any) {
	l.Trace = append(l.Trace, time.Now().UTC().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

// Newest is the story that acts are about.
func (l *Lane) Newest() *Story {
	if len(l.Stories) == 0 {
		return nil
	}
	return l.Stories[len(l.Stories)-1]
}

// Push starts a pipeline.
func (l *Lane) Push() *Story {
	l.pipeline++
	s := &Story{Revision: fmt.Sprintf("%034x%06d", l.Number, l.pipeline)}
	p := l.Circle.AddPipeline(circlecitest.Pipeline{Number: l.pipeline, Project: l.Project, Revision: s.Revision, Branch: Branch, ActorLogin: "alice"})
	s.Workflow = l.Circle.AddWorkflow(circlecitest.Workflow{Pipeline: p.ID, Name: "deploy", Jobs: circlecitest.DeployJobs(Gate)})
	l.End(s, "test", "build")
	if l.Script.OnHold {
		l.End(s, "request_approval")
	}
	l.Stories = append(l.Stories, s)
	return s
}

// End lets running jobs succeed.
func (l *Lane) End(s *Story, jobs ...string) {
	for _, job := range jobs {
		if l.Circle.JobStatus(s.Workflow, job) == "running" {
			_ = l.Circle.Succeed(s.Workflow, job) // it exists
		}
	}
}

// Ask is what CI asks for in a story.
func (l *Lane) Ask(s *Story) Ask {
	return Ask{App: l.App(), Revision: s.Revision, Workflow: s.Workflow}
}

// File files the request, as often as it takes.
func (l *Lane) File(ctx context.Context, s *Story) {
	for range 60 {
		own, cancel := context.WithTimeout(ctx, 30*time.Second)
		id, number, err := l.Gateway.File(own, l.Ask(s))
		cancel()
		if err == nil {
			s.ID, s.Number = id, number
			l.note("request %s #%d is acknowledged", id, number)
			return
		}
		var refused *Refusal
		if errors.As(err, &refused) {
			l.note("the request is refused: %v", err)
			return
		}
		if !approvals.Pause(ctx, time.Second) {
			return
		}
	}
	l.Violation("the request could not be filed within a minute of trouble")
}

// Withdraw withdraws the request, as often as it takes; its answer says how it ends.
func (l *Lane) Withdraw(ctx context.Context, s *Story) {
	for range 60 {
		err := l.Gateway.Withdraw(ctx, s.ID)
		var refused *Refusal
		if err == nil {
			s.Want = approvals.Canceled
			l.note("withdrawn")
		}
		if err == nil || errors.As(err, &refused) || !approvals.Pause(ctx, time.Second) {
			return
		}
	}
}

// again files a request for a workflow that has one already. A new one may be made
// only after some ends.
func (l *Lane) again(ctx context.Context, s *Story) {
	next := &Story{Workflow: s.Workflow, Revision: s.Revision}
	l.File(ctx, next)
	if next.ID == "" || next.ID == s.ID {
		return
	}
	l.Stories = append(l.Stories, next)
	cases, _, err := l.Gateway.Cases(ctx, s.ID)
	if err == nil && !slices.Contains([]approvals.Status{approvals.Expired, approvals.Canceled, approvals.Superseded}, cases[0].Status) {
		l.Violation(fmt.Sprintf("I1: a second create made request %s although %s is %s", next.ID, s.ID, cases[0].Status))
	}
}

// card is the newest card of the request.
func (l *Lane) card(s *Story) (slacktest.Message, bool) {
	var found slacktest.Message
	for _, m := range l.Slack.Messages(l.Channel) {
		if proof.IsCard(m, s.ID) {
			found = m
		}
	}
	return found, found.TS != ""
}

// offers reports whether the card of a request has a button.
func (l *Lane) offers(s *Story, button string) bool {
	card, ok := l.card(s)
	return ok && slices.Contains(slacktest.Buttons(card), button)
}

// press opens the modal behind a button; nil when none opens.
func (l *Lane) press(ctx context.Context, s *Story, user, button string) *slacktest.View {
	for l.Slack.View(user) != nil {
		_ = l.Slack.CloseView(user)
	}
	card, _ := l.card(s)
	if !l.offers(s, button) {
		return nil
	}
	told := len(l.Slack.Ephemerals(user))
	if err := l.Gateway.Click(ctx, slacktest.ButtonClick{User: user, Channel: l.Channel, TS: card.TS, ActionID: button}); err != nil {
		return nil
	}
	for range 50 {
		if l.Slack.View(user) != nil || len(l.Slack.Ephemerals(user)) > told || !approvals.Pause(ctx, 50*time.Millisecond) {
			break
		}
	}
	if said := l.Slack.Ephemerals(user); len(said) > told {
		l.note("%s is told: %s", user, said[len(said)-1].Text)
	}
	return l.Slack.View(user)
}

// submit sends what was typed and says what became of it.
func (l *Lane) submit(ctx context.Context, user string, view *slacktest.View, values slacktest.Values) proof.Answer {
	got, err := l.Gateway.Submit(ctx, user, view.ID, values)
	switch {
	case err != nil:
		l.note("%s gets no answer: %v", user, err)
		return proof.Unknown
	case got.Closed:
		l.note("%s is accepted", user)
		return proof.Accepted
	case got.Updated != nil:
		text := slacktest.Text(got.Updated.Blocks)
		l.note("%s sees: %s", user, text)
		if strings.Contains(text, "could not record") {
			return proof.Unknown
		}
		return proof.Refused
	}
	l.note("%s is refused: %v", user, got.Errors)
	return proof.Refused
}

// Decide is one person who presses, and presses again while nothing happens. It
// returns the last answer that they got, which is unknown when no modal opened.
func (l *Lane) Decide(ctx context.Context, s *Story, n int, how string) (a proof.Answer) {
	user := Admin(l.Number, n)
	if how == Replay && l.spentBy != "" {
		user = l.spentBy
	}
	button := bot.ActionApprove
	switch how {
	case Reject:
		button = bot.ActionReject
	case Emergency:
		button = bot.ActionBreakGlass
	}
	for range 12 {
		if button == bot.ActionApprove && l.offers(s, bot.ActionRetry) {
			button = bot.ActionRetry
		}
		view := l.press(ctx, s, user, button)
		if view == nil {
			if _, ok := l.card(s); ok && !l.offers(s, button) || !approvals.Pause(ctx, time.Second) {
				return a
			}
			continue
		}
		if a = l.answer(ctx, s, user, view, how); a != proof.Unknown || how == WrongCode {
			return a
		}
	}
	return a
}

// answer fills in a modal and sends it.
func (l *Lane) answer(ctx context.Context, s *Story, user string, view *slacktest.View, how string) proof.Answer {
	values := slacktest.Values{}
	answered := func(proof.Answer) {}
	code := ""
	if how == Reject || how == Emergency {
		values[bot.BlockReason] = map[string]string{bot.InputReason: "not today, but tomorrow"}
	}
	if how != Reject || l.Script.CodeOnReject {
		var step int64
		code, step = l.code(ctx, user, how)
		values[bot.BlockCode] = map[string]string{bot.InputCode: code}
		answered = l.Codes.Send(proof.Submission{User: user, Request: s.ID, Step: step, Sent: time.Now()})
	}
	a := l.submit(ctx, user, view, values)
	answered(a)
	if a == proof.Accepted {
		if how == Reject {
			s.Want = approvals.Rejected
		}
		if code != "" {
			l.spent, l.spentBy = code, user
		}
	}
	return a
}

// code is what the person's phone shows, once each; for a wrong one the step is 0.
func (l *Lane) code(ctx context.Context, user, how string) (code string, step int64) {
	if how == Replay && l.spent != "" {
		return l.spent, 0
	}
	for {
		// The code of the step before holds for long enough to be sent.
		step = max(l.lastStep[user]+1, totp.Step(time.Now().Add(sendTime))-1)
		if step <= totp.Step(time.Now())+1 || !approvals.Pause(ctx, time.Second) {
			break
		}
	}
	at := time.Unix(step*30, 0)
	secret := l.Secret(user)
	if how == WrongCode {
		return wrong(secret, at), 0
	}
	l.lastStep[user] = step
	return secret.At(at), step
}

// wrong is a code of no step near a time.
func wrong(s totp.Secret, at time.Time) string {
	for n := 0; ; n++ {
		code, right := fmt.Sprintf("%06d", n), false
		for d := -4; d <= 4; d++ {
			right = right || s.At(at.Add(time.Duration(d)*30*time.Second)) == code
		}
		if !right {
			return code
		}
	}
}

// perform does one act.
func (l *Lane) perform(ctx context.Context, a Act) {
	if !approvals.Pause(ctx, a.Pause) {
		return
	}
	s := l.Newest()
	if a.What == Request || a.What == Push {
		s = l.Push()
		l.note("%s: workflow %s", a.What, s.Workflow)
		l.File(ctx, s)
		return
	}
	if s == nil || s.ID == "" {
		return
	}
	l.note("%s by %d", a.What, a.Who)
	switch a.What {
	case Approve, WrongCode, Replay, Reject, Emergency:
		l.Decide(ctx, s, a.Who, a.What)
	case Guess:
		for range guesses {
			l.Decide(ctx, s, a.Who, WrongCode)
		}
	case Again:
		l.again(ctx, s)
	case Withdraw:
		l.Withdraw(ctx, s)
	default:
		l.inCircle(s, a.What)
	}
}

// inCircle does what somebody does in CircleCI, or CircleCI itself.
func (l *Lane) inCircle(s *Story, what string) {
	switch what {
	case Hold:
		l.End(s, "request_approval")
	case Bypass:
		_ = l.Circle.ApproveAs("mallory", s.Workflow, Gate) // refused unless it is on hold
	case Hand:
		_ = l.Circle.ApproveAs("alice", s.Workflow, Gate) // refused unless it is on hold
		l.End(s, "deploy")
	case Cancel:
		_ = l.Circle.CancelWorkflowAs("mallory", s.Workflow)
	case Deploy:
		l.End(s, "deploy")
	case Fail:
		if l.Circle.JobStatus(s.Workflow, "deploy") == "running" {
			_ = l.Circle.Fail(s.Workflow, "deploy")
		}
	case Deny:
		l.Circle.Inject(circlecitest.Fault{Op: "approve", ID: s.Workflow, Status: http.StatusForbidden, Body: `{"message":"Permission denied."}`})
	case Lose:
		l.Circle.Inject(circlecitest.Fault{Op: "approve", ID: s.Workflow, When: circlecitest.After, Drop: true})
	}
}
