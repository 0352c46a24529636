package proof_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

// lane is one app with one story: what CI, people and CircleCI do about its
// requests.
type lane struct {
	*world
	number   int
	script   laneScript
	channel  string
	project  string
	pipeline int64
	lastStep map[string]int64
	spent    string // a code that was accepted
	spentBy  string // whose it was
	stories  []*story
	trace    []string
}

// story is one workflow and its request.
type story struct {
	workflow, revision string
	id                 string // once acknowledged
	want               approvals.Status
}

func newLane(w *world, i int, s laneScript) *lane {
	l := &lane{world: w, number: i, script: s, channel: fmt.Sprintf("C0LANE%d", i), project: fmt.Sprintf("gh/MyOrg/app%d", i), lastStep: map[string]int64{}}
	members := []string{w.slack.Config().BotUserID}
	for n := range admins {
		w.slack.SetUser(slacktest.User{ID: adminID(i, n)})
		members = append(members, adminID(i, n))
	}
	w.slack.SetChannel(slacktest.Channel{ID: l.channel, Members: members})
	w.circle.AddProject(circlecitest.Project{Slug: l.project})
	return l
}

func (l *lane) app() string { return fmt.Sprintf("app%d", l.number) }

func (l *lane) settings() []string {
	prefix := "RGW_APP_" + strings.ToUpper(l.app()) + "_SETTING_"
	return []string{
		prefix + "VCS_REPO=" + strings.TrimPrefix(l.project, "gh/"), prefix + "CIRCLECI_APPROVAL_JOB_NAME=" + gateName,
		prefix + "SLACK_CHANNEL=" + l.channel, prefix + "ON_CLOSE=" + string(l.script.OnClose), prefix + "PENDING_TTL=2m",
		prefix + "DEPLOY_APPROVAL_WINDOW_MINUTES=1",
		prefix + fmt.Sprintf("REQUIRED_APPROVALS=%d", l.script.Required),
		prefix + fmt.Sprintf("CIRCLECI_AUTO_APPROVE_ON_APPROVAL=%t", l.script.Auto), prefix + fmt.Sprintf("MFA_ON_REJECT=%t", l.script.CodeOnReject),
		prefix + "BREAK_GLASS=" + adminID(l.number, 0),
	}
}

func (l *lane) note(format string, args ...any) {
	l.trace = append(l.trace, time.Now().UTC().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

// newest is the story that acts are about.
func (l *lane) newest() *story {
	if len(l.stories) == 0 {
		return nil
	}
	return l.stories[len(l.stories)-1]
}

// push starts a pipeline.
func (l *lane) push() *story {
	l.pipeline++
	s := &story{revision: fmt.Sprintf("%034x%06d", l.number, l.pipeline)}
	p := l.circle.AddPipeline(circlecitest.Pipeline{Number: l.pipeline, Project: l.project, Revision: s.revision, Branch: "main", ActorLogin: "alice"})
	s.workflow = l.circle.AddWorkflow(circlecitest.Workflow{Pipeline: p.ID, Name: "deploy", Jobs: circlecitest.DeployJobs(gateName)})
	l.end(s, "test", "build")
	if l.script.OnHold {
		l.end(s, "request_approval")
	}
	l.stories = append(l.stories, s)
	return s
}

// end lets running jobs succeed.
func (l *lane) end(s *story, jobs ...string) {
	for _, job := range jobs {
		if l.circle.JobStatus(s.workflow, job) == "running" {
			_ = l.circle.Succeed(s.workflow, job) // it exists
		}
	}
}

// ask calls the service as the API does; an answer of a dead process is none.
func (l *lane) ask(call func(*approvals.Service) error) error {
	life := l.now()
	if life == nil {
		return errDead
	}
	err := call(life.service)
	if life.dead.Load() {
		return errDead
	}
	return err
}

func (l *lane) token() approvals.Token {
	return approvals.Token{ID: "token", Name: "ci", Role: approvals.RoleCICD}
}

// file files the request, as often as it takes.
func (l *lane) file(ctx context.Context, s *story) {
	metadata, err := json.Marshal(map[string]string{"workflow_id": s.workflow})
	if err != nil {
		l.violation(err.Error())
	}
	for range 60 {
		var r approvals.Request
		err := l.ask(func(service *approvals.Service) error {
			ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
			defer cancel()
			var err error
			r, _, err = service.Request(ctx, l.token(), approvals.NewRequest{App: l.app(), GitCommit: s.revision, Branch: "main", WorkflowID: s.workflow, Metadata: metadata})
			return err
		})
		if err == nil {
			s.id = r.ID
			l.note("request %s #%d is acknowledged", r.ID, r.Number)
			return
		}
		var refused *approvals.Error
		if errors.As(err, &refused) && refused.Code != approvals.CodeCIUnavailable && refused.Code != approvals.CodeUnavailable {
			l.note("the request is refused: %v", err)
			return
		}
		if !rest(ctx, time.Second) {
			return
		}
	}
	l.violation("the request could not be filed within a minute of trouble")
}

func (l *lane) withdraw(ctx context.Context, s *story) {
	for range 60 {
		err := l.ask(func(service *approvals.Service) error {
			_, err := service.Withdraw(ctx, l.token(), s.id, "not needed")
			return err
		})
		var refused *approvals.Error
		if err == nil {
			s.want = approvals.Canceled
			l.note("withdrawn")
		}
		if err == nil || errors.As(err, &refused) || !rest(ctx, time.Second) {
			return
		}
	}
}

// card is the newest card of the request.
func (l *lane) card(s *story) (slacktest.Message, bool) {
	var found slacktest.Message
	for _, m := range l.slack.Messages(l.channel) {
		if proof.IsCard(m, s.id) {
			found = m
		}
	}
	return found, found.TS != ""
}

// deliver carries what a person did to the bot, and its answer back.
func (l *lane) deliver(ctx context.Context, d slacktest.Delivery) ([]byte, error) {
	life := l.now()
	if life == nil {
		return nil, errDead
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	r, err := l.slack.SignedRequest(ctx, d, time.Now())
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	resp, err := serve(ctx, life.bot.Handler(), r, body)
	if err != nil {
		return nil, err
	}
	if life.dead.Load() || resp.StatusCode != http.StatusOK {
		return nil, errDead
	}
	return io.ReadAll(resp.Body)
}

// press opens the modal behind a button; nil when none opens.
func (l *lane) press(ctx context.Context, s *story, user, button string) *slacktest.View {
	for l.slack.View(user) != nil {
		_ = l.slack.CloseView(ctx, user)
	}
	card, ok := l.card(s)
	if !ok || !slices.Contains(slacktest.Buttons(card), button) {
		return nil
	}
	told := len(l.slack.Ephemerals(user))
	d, err := l.slack.PrepareClick(slacktest.ButtonClick{User: user, Channel: l.channel, TS: card.TS, ActionID: button})
	if err != nil {
		// The card may have changed at this moment.
		if card, ok := l.card(s); ok && slices.Contains(slacktest.Buttons(card), button) {
			l.violation(err.Error())
		}
		return nil
	}
	if _, err := l.deliver(ctx, d); err != nil {
		return nil
	}
	for range 50 {
		if l.slack.View(user) != nil || len(l.slack.Ephemerals(user)) > told || !rest(ctx, 50*time.Millisecond) {
			break
		}
	}
	if said := l.slack.Ephemerals(user); len(said) > told {
		l.note("%s is told: %s", user, said[len(said)-1].Text)
	}
	return l.slack.View(user)
}

// submit sends what was typed and says what became of it.
func (l *lane) submit(ctx context.Context, user string, view *slacktest.View, values slacktest.Values) proof.Answer {
	d, local, err := l.slack.PrepareSubmit(user, view.ID, values)
	if err != nil || len(local) > 0 {
		l.violation(fmt.Sprintf("the modal cannot be sent: %v %v", err, local))
		return proof.Refused
	}
	raw, err := l.deliver(ctx, d)
	if err != nil {
		l.note("%s gets no answer", user)
		return proof.Unknown
	}
	got, err := l.slack.ApplySubmission(user, view.ID, d, raw)
	switch {
	case err != nil:
		l.violation(fmt.Sprintf("Slack refuses the answer to a submission: %v", err))
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

// decide is one person who presses, and presses again while nothing happens.
func (l *lane) decide(ctx context.Context, s *story, n int, how string) {
	user := adminID(l.number, n)
	if how == actReplay && l.spentBy != "" {
		user = l.spentBy
	}
	button := bot.ActionApprove
	switch how {
	case actReject:
		button = bot.ActionReject
	case actEmergency:
		button = bot.ActionBreakGlass
	}
	for range 12 {
		if card, ok := l.card(s); ok && button == bot.ActionApprove && slices.Contains(slacktest.Buttons(card), bot.ActionRetry) {
			button = bot.ActionRetry
		}
		view := l.press(ctx, s, user, button)
		if view == nil {
			if card, ok := l.card(s); ok && !slices.Contains(slacktest.Buttons(card), button) || !rest(ctx, time.Second) {
				return
			}
			continue
		}
		values := slacktest.Values{}
		answered := func(proof.Answer) {}
		code := ""
		if how == actReject || how == actEmergency {
			values[bot.BlockReason] = map[string]string{bot.InputReason: "not today, but tomorrow"}
		}
		if how != actReject || l.script.CodeOnReject {
			var step int64
			code, step = l.code(ctx, user, how)
			values[bot.BlockCode] = map[string]string{bot.InputCode: code}
			answered = l.codes.Send(proof.Submission{User: user, Request: s.id, Step: step, Sent: time.Now()})
		}
		a := l.submit(ctx, user, view, values)
		answered(a)
		if a == proof.Accepted {
			if how == actReject {
				s.want = approvals.Rejected
			}
			if code != "" {
				l.spent, l.spentBy = code, user
			}
		}
		if a != proof.Unknown || how == actWrongCode {
			return
		}
	}
}

// code is what the person's phone shows, once each; for a wrong one the step is 0.
func (l *lane) code(ctx context.Context, user, how string) (code string, step int64) {
	if how == actReplay && l.spent != "" {
		return l.spent, 0
	}
	for {
		now := totp.Step(time.Now())
		step = max(l.lastStep[user]+1, now-1)
		if step <= now+1 || !rest(ctx, time.Second) {
			break
		}
	}
	at := time.Unix(step*30, 0)
	code = l.secrets[user].At(at)
	if how == actWrongCode {
		return wrong(l.secrets[user], at), 0
	}
	l.lastStep[user] = step
	return code, step
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
