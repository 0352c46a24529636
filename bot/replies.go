package bot

import (
	"cmp"
	"strconv"
	"strings"
	"time"

	"github.com/slack-go/slack"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/plain"
)

// lateAfter is how old an event may be before its line says when it happened.
const lateAfter = time.Minute

// reply renders one event as a line of the thread. now is when it is told.
func (v view) reply(t approvals.Told, now time.Time) message { return v.lineOf(t, now, nil) }

// stray is a reply that stands outside its thread, so that it has to name its request.
func (v view) stray(t approvals.Told, now time.Time) message {
	if t.Request.ID == "" {
		return v.reply(t, now)
	}
	before := say(number(t.Request.Number, t.Request.Slack.Permalink), " Deploy ", t.Request.Place(), ": ")
	if t.Event.Type == approvals.EventBreakGlass && len(t.Notify) > 0 {
		before = say(mentions(t.Notify, "and"), " ", before)
	}
	return v.lineOf(t, now, before)
}

func (v view) lineOf(t approvals.Told, now time.Time, before line) message {
	text, more := v.tell(t, now)
	text = say(before, text)
	blocks := append([]slack.Block{text.block()}, more...)
	if small := footnote(t, now); small != nil {
		blocks = append(blocks, small.small())
	}
	return newMessage(text, blocks...)
}

// footnote holds the checkpoint and the time of what is posted late.
func footnote(t approvals.Told, now time.Time) line {
	var l line
	if t.CheckpointRoot != "" {
		l = say("checkpoint ", t.CheckpointSize, " · ", t.CheckpointRoot)
	}
	if when := t.Event.At(); !when.IsZero() && now.Sub(when) > lateAfter {
		if len(l) > 0 {
			l = say(l, " · ")
		}
		l = say(l, "Posted late; this happened ", at(when))
	}
	return l
}

// tell puts an event into words. The blocks are what comes below the line.
func (v view) tell(t approvals.Told, now time.Time) (line, []slack.Block) {
	if t.Event.Type == approvals.EventRequested {
		return v.requested(t.Request)
	}
	if t.Event.Type == approvals.EventCommitsRead {
		return v.commitsRead(t)
	}
	if l := beginning(t, now); l != nil {
		return l, nil
	}
	if step := steps[t.Event.Type]; step != nil {
		return step(t.Event, t.Request), nil
	}
	l := say(quoted(words(string(t.Event.Type)), limitName))
	if d := cmp.Or(t.Event.Reason, t.Event.Data["detail"], t.Event.Outcome); d != "" {
		l = say(l, ": ", quoted(d, limitMessage))
	}
	return l, nil
}

// steps are the lines of what happens within a status, and to a person's authenticator.
var steps = map[approvals.EventType]func(approvals.Event, approvals.Request) line{
	approvals.EventCardPosted: func(approvals.Event, approvals.Request) line { return say("The card was posted.") },
	approvals.EventModalOpened: func(e approvals.Event, _ approvals.Request) line {
		return say(mention(e.Actor.ID), " opened the window to ", verbs[approvals.Action(e.Outcome)], " it.")
	},
	approvals.EventClickRefused: clickRefused,
	approvals.EventCodeFailed:   codeFailed,
	approvals.EventCodeLocked: func(e approvals.Event, _ approvals.Request) line {
		l := say(mention(e.Actor.ID), " gave too many wrong codes, so ")
		if until := parseTime(e.Data["until"]); !until.IsZero() {
			return say(l, "theirs are refused until ", atClock(until), ". Other admins are not affected.")
		}
		return say(l, "their authenticator is disabled. The operator can issue a new one.")
	},
	approvals.EventReminded: reminded,
	approvals.EventVoted:    voted,
	approvals.EventBreakGlass: func(e approvals.Event, r approvals.Request) line {
		l := say("⚠️ Emergency release by ", mention(e.Actor.ID), withCode(e), inLastQuotes(e.Reason), " Nobody else approved it.")
		if until := e.Data["frozen"]; until != "" {
			l = say(l, " Deploys are frozen until ", quoted(until, limitName), ".")
		}
		return say(l, " ", mayOpen(e, r))
	},
	approvals.EventAttempt: func(e approvals.Event, r approvals.Request) line {
		return say("Asking CircleCI to approve ", literal(r.GateName), attemptNumber(e, r), ".")
	},
	approvals.EventAccepted: func(e approvals.Event, r approvals.Request) line {
		return say("CircleCI accepted the approval", attemptNumber(e, r), ".")
	},
	approvals.EventGateRefused: func(e approvals.Event, r approvals.Request) line {
		return say("CircleCI did not accept the approval", attemptNumber(e, r), ": ", quoted(cmp.Or(e.Reason, e.Outcome), limitMessage), ".")
	},
	approvals.EventDelayed: delayed,
	approvals.EventWaiting: func(_ approvals.Event, r approvals.Request) line {
		return say("CircleCI has not reached ", literal(r.GateName), " yet.")
	},
	approvals.EventReached: func(_ approvals.Event, r approvals.Request) line {
		return say("CircleCI reached ", literal(r.GateName), ".")
	},
	approvals.EventAnswers: func(approvals.Event, approvals.Request) line { return say("CircleCI answers again.") },
	approvals.EventClosing: func(_ approvals.Event, r approvals.Request) line {
		return say("Asking CircleCI to stop ", literal(r.GateName), ".")
	},
	approvals.EventRestored: func(approvals.Event, approvals.Request) line {
		return say("A backup in which this was approved was restored, so I will not ask CircleCI again.")
	},
	approvals.EventGateBypassed: func(e approvals.Event, r approvals.Request) line {
		return say("⚠️ ", literal(r.GateName), " was approved in CircleCI by ", name(e.Actor.ID), " although this request is ", quoted(words(e.Outcome), limitName), ". Check what was deployed.")
	},
	approvals.EventGateEnded: func(e approvals.Event, r approvals.Request) line {
		return say(literal(r.GateName), " is ", quoted(words(e.Outcome), limitName), " in CircleCI.")
	},
	approvals.EventGateClosed: gateClosed,
	approvals.EventDeployReport: func(e approvals.Event, _ approvals.Request) line {
		l := say("The deploy job reports: ", quoted(e.Outcome, limitName))
		if e.Reason != "" {
			l = say(l, " (", quoted(e.Reason, limitMessage), ")")
		}
		return say(l, ".")
	},
	approvals.EventVerified: func(approvals.Event, approvals.Request) line {
		return say("The deploy job asked, and its answer was yes.")
	},
	approvals.EventVerifyRefused: func(e approvals.Event, r approvals.Request) line {
		return say("The deploy job asked and was stopped: ", notToDeploy(e, r), ".")
	},
	approvals.EventNewerWorkflow: newerWorkflow,

	approvals.EventEnrolled: func(e approvals.Event, _ approvals.Request) line {
		return say(holder(e), " set up a new authenticator", how(e), ". If that was not you, tell the operator at once.")
	},
	approvals.EventUnlocked: func(e approvals.Event, _ approvals.Request) line {
		return say("The operator unlocked the authenticator of ", holder(e), ".")
	},
	approvals.EventReset: func(e approvals.Event, _ approvals.Request) line {
		return say("The operator removed the authenticator of ", holder(e), ".")
	},
	approvals.EventSealBroken: func(e approvals.Event, _ approvals.Request) line {
		return say("⚠️ I can’t decrypt the authenticator of ", holder(e), ": its record was changed, or its key is missing. Nothing can be approved with it.")
	},
	approvals.EventTokenExpiring: func(e approvals.Event, _ approvals.Request) line {
		return say("The API token ", name(e.Data["name"]), " (", quoted(e.Data["token"], limitName), ") expires ", at(parseTime(e.Data["expires"])),
			". Make a new one before then: ", commandLine("rack-gatewayd token create"))
	},
	approvals.EventRecovered: func(e approvals.Event, _ approvals.Request) line {
		l := say("⚠️ The operator restored a backup and accepted that everything recorded since then is lost. The log goes on under a new key, and requests that were pending have expired.")
		if why := e.Unsealed(); why != "" {
			l = say(l, " The log was changed from outside before: ", why, ".")
		}
		return l
	},
}

// holder is whose authenticator an event is about.
func holder(e approvals.Event) line { return mention(cmp.Or(e.Data["user"], e.Actor.ID)) }

func withCode(e approvals.Event) line {
	if e.MFA == "" {
		return nil
	}
	return say(" with a code")
}

func (v view) requested(r approvals.Request) (line, []slack.Block) {
	l := say("Asked by ", asker(r), " for ",
		link(v.pipelineURL(r), "pipeline "+strconv.FormatInt(r.Facts.PipelineNumber, 10)))
	if r.Facts.WorkflowName != "" {
		l = say(l, ", workflow ", name(r.Facts.WorkflowName))
	}
	l = say(l, ".", configuration(r.Commits))
	blocks := v.commitList(r)
	// The card shows the start of a long message; the whole is here.
	if _, whole := excerpt(r.Message); !whole {
		blocks = append([]slack.Block{quote(plain.Cut(plain.Visible(r.Message), limitWhole))}, blocks...)
	}
	return l, blocks
}

func codeFailed(e approvals.Event, _ approvals.Request) line {
	if e.Outcome == "used" {
		return say(mention(e.Actor.ID), " gave a code that was already used.")
	}
	l := say(mention(e.Actor.ID), " gave a wrong code")
	if n := e.Data["failures"]; n != "" && n != "1" {
		l = say(l, " (", quoted(n, limitName), " in a row)")
	}
	return say(l, ".")
}

func voted(e approvals.Event, _ approvals.Request) line {
	l := say(mention(e.Actor.ID), " approved", withCode(e))
	if n := e.Data["needed"]; n != "" && n != "1" {
		l = say(l, " (", quoted(e.Data["votes"], limitName), " of ", quoted(e.Data["needed"], limitName), ")")
	}
	return say(l, ".")
}

// reminded asks those who can still approve.
func reminded(e approvals.Event, r approvals.Request) line {
	l := say("This has been waiting since ", at(r.CreatedAt), " and expires ", at(r.ExpiresAt()), ".")
	if n := e.Data["votes"]; n != "" && n != "0" {
		l = say(l, " It has ", quoted(n, limitName), " of ", quoted(e.Data["needed"], limitName), " approvals.")
	}
	if len(e.People) == 0 {
		return say(l, " Nobody can approve it now. Ask the operator.")
	}
	return say(l, " ", mentions(e.People, "or"), " can approve it.")
}

// mayRun says what may happen now that a request is approved.
func mayRun(t approvals.Told, _ time.Time) line {
	for _, vote := range t.With {
		return say(voted(vote, t.Request), " ", mayOpen(t.Event, t.Request))
	}
	l := say("Decided: approved")
	if people := t.Event.People; len(people) > 0 {
		l = say(l, " by ", mentions(people, "and"))
	}
	return say(l, ". ", mayOpen(t.Event, t.Request))
}

// mayOpen says what may happen to the gate of a request that was decided, and until when.
// The window of an approval begins when the gate is on hold.
func mayOpen(e approvals.Event, r approvals.Request) line {
	gate, byHand := literal(r.GateName), e.Data["auto"] == "false"
	l := say("CircleCI may run ", gate)
	switch soon := r.Status == approvals.Approved && r.GateStatus != approvals.JobOnHold; {
	case soon && byHand:
		return say("Approve ", gate, " in CircleCI as soon as it is on hold there.")
	case soon:
		return say(l, " as soon as the workflow reaches it.")
	case byHand:
		l = say("Now approve ", gate, " in CircleCI")
	}
	if until := parseTime(e.Data["until"]); !until.IsZero() {
		l = say(l, " until ", atClock(until))
	}
	return say(l, ".")
}

// delayed tells why an approval is not delivered yet.
func delayed(e approvals.Event, _ approvals.Request) line {
	const kept = "The approval is kept and will be delivered."
	switch e.Outcome {
	case "401", "403", "404":
		return say("CircleCI has not let me look at the workflow since ", atClock(e.At()), " (", e.Outcome, "). The operator has to check the gateway’s CircleCI token. ", kept)
	}
	return say("CircleCI has not answered since ", atClock(e.At()), " (", quoted(e.Outcome, limitName), "). ", kept)
}

func clickRefused(e approvals.Event, r approvals.Request) line {
	verb := "Approve"
	switch approvals.Action(e.Outcome) {
	case approvals.ActionReject:
		verb = "Reject"
	case approvals.ActionBreakGlass:
		verb = "Emergency release"
	}
	return say(mention(e.Actor.ID), " pressed ", verb, " and was refused: ", lackOfRight(e, r), ".")
}

// notToDeploy is why a deploy job was told not to deploy.
func notToDeploy(e approvals.Event, r approvals.Request) line {
	switch status := approvals.Status(e.Outcome); {
	case approvals.Code(e.Reason) == approvals.CodeCommitNotApproved:
		return say("it would deploy ", name(short(e.Data["commit"])), ", and this request is for ", name(short(r.Facts.Revision)))
	case approvals.Code(e.Reason) == approvals.CodeApprovalExpired:
		return say("the approval had expired")
	case status == approvals.Bypassed && r.Failure.Detail != "":
		return say(quoted(r.Failure.Detail, limitMessage))
	case status == approvals.Bypassed && !r.ApprovedAt.IsZero():
		return say("it was approved here, but its gate was opened in CircleCI by ", login(r.Gate.ApprovedBy))
	case status == approvals.Pending, status == approvals.Bypassed:
		return say("nobody approved this here")
	case status == approvals.Approved && !r.AutoApprove:
		return say("its approval does not count any more")
	case status == approvals.Approved:
		return say("I have not opened ", literal(r.GateName), " yet")
	default:
		return say("this request is ", quoted(words(e.Outcome), limitName))
	}
}

func lackOfRight(e approvals.Event, r approvals.Request) line {
	switch approvals.RefusalCode(e.Reason) {
	case approvals.RefusedWorkspace:
		return say("they are not a member of this workspace")
	case approvals.RefusedNotAdmin:
		return say("they are not an admin of this gateway")
	case approvals.RefusedNotApprover:
		return say("they are not an approver of ", name(r.App))
	case approvals.RefusedNotBreakGlass:
		return say("they may not release ", name(r.App), " in an emergency")
	case approvals.RefusedStanding:
		return say("they are not a full, active member of this workspace")
	case approvals.RefusedSelf:
		return say("they started this pipeline, so someone else has to approve it")
	case approvals.RefusedUnknownStarter:
		return say("nobody I know started this, so I can’t tell whose deploy it is")
	case approvals.RefusedNoLogin:
		return say("I don’t know their username at the code host")
	}
	return say(quoted(words(e.Reason), limitName))
}

// finished tells a deploy that succeeded.
func finished(t approvals.Told, _ time.Time) line {
	e, r := t.Event, t.Request
	l := say("Deployed: ")
	if jobs := e.Data["jobs"]; jobs != "" {
		l = say(l, literal(jobs), " ")
	}
	l = say(l, "finished")
	if took := deployTook(r); took > 0 {
		l = say(l, " in ", duration(took))
	}
	return say(l, ".", jobSays(t), starter(t))
}

// jobSays is what the deploy job said of its own end, where that adds something to
// the outcome.
func jobSays(t approvals.Told) line {
	var l line
	for _, e := range t.With {
		failed := approvals.Phase(e.Outcome) == approvals.PhaseFailed
		if e.Reason != "" || failed != (t.Event.Type == approvals.EventDeployFailed) {
			l = say(l, " ", steps[approvals.EventDeployReport](e, t.Request))
		}
	}
	return l
}

// call mentions who set it off, because it is over. Of a request whose place was
// taken the newer one is to be looked at.
func call(t approvals.Told) line {
	if t.Starter == "" || t.Event.Type == approvals.EventSuperseded {
		return nil
	}
	return say(" ", mention(t.Starter))
}

// starter tells who set it off how the deploy ended. Whoever is not on record is
// named, because a login at the code host is no id in Slack.
func starter(t approvals.Told) line {
	if l := call(t); l != nil {
		return l
	}
	if s := t.Request.Facts.Starters(); len(s) > 0 {
		return say(" Started by ", name(s[0]), ".")
	}
	return nil
}

// gateClosed tells what on_close did to the gate.
func gateClosed(e approvals.Event, r approvals.Request) line {
	switch approvals.OnClose(e.Outcome) {
	case approvals.CloseCancelWorkflow:
		return say("Told CircleCI to cancel the workflow.")
	case approvals.CloseCancelJob:
		return say("Told CircleCI to cancel the job ", literal(r.GateName), ".")
	}
	return say("CircleCI did not let me cancel ", literal(r.GateName), " (", quoted(cmp.Or(e.Reason, e.Outcome), limitMessage), "). It is still waiting there, so cancel it by hand.")
}

func newerWorkflow(e approvals.Event, r approvals.Request) line {
	l := say("Pipeline ", r.Facts.PipelineNumber, " has a newer workflow whose gate is waiting without a request.")
	if id := e.Data["workflow_id"]; id != "" {
		ask := "rack-gateway deploy-approval request --app " + r.App + " --git-commit " + r.Facts.Revision
		if r.Environment != approvals.DefaultEnvironment {
			ask += " --environment " + r.Environment
		}
		l = say(l, " Ask again: ", commandLine(ask+` --ci-metadata '{"workflow_id":"`+id+`"}'`))
	}
	return l
}

// reasonOf is why a request ended, in the words of its event.
func reasonOf(t approvals.Told) string {
	return cmp.Or(t.Event.Data["detail"], t.Request.Failure.Detail)
}

// expiry says what did not happen in time.
func expiry(e approvals.Event, r approvals.Request) line {
	switch {
	case e.Reason == approvals.FailRolledBack:
		return say(quoted(e.Data["detail"], limitMessage))
	case e.Reason != approvals.FailWindowOver:
		return say("nobody decided by ", at(r.ExpiresAt()))
	case r.AutoApprove:
		return say("the approval expired ", at(e.At()), " before CircleCI could be reached")
	}
	return say("nobody approved ", literal(r.GateName), " in CircleCI in time")
}

// retryHint points to the Retry button where it is offered.
func retryHint(offered bool) line {
	if !offered {
		return nil
	}
	return say(" Retry on the card asks for another round of approvals.")
}

// failedJob says which job of a deploy failed, and how.
func failedJob(e approvals.Event) line {
	if e.Data["job"] == "" {
		return nil
	}
	l := say(": job ", literal(e.Data["job"]))
	switch e.Outcome {
	case "skipped":
		return say(l, " never ran: CircleCI skipped it")
	case string(approvals.JobFailed):
		return say(l, " failed")
	case string(approvals.JobUnauthorized):
		return say(l, " was not allowed to run: its context in CircleCI is restricted to a group that the approver is not in")
	}
	return say(l, " ended as ", quoted(words(e.Outcome), limitName))
}

// how says by which way an authenticator was set up.
func how(e approvals.Event) line {
	switch e.Outcome {
	case approvals.EnrolledByPage:
		return say(" by a one-time link")
	case approvals.EnrolledByTerminal:
		return say(" at the operator’s terminal")
	case approvals.EnrolledByImport:
		return say(" from a secret that the operator imported")
	}
	return nil
}

func attemptNumber(e approvals.Event, r approvals.Request) line {
	if n := e.Data["attempt"]; n != "" {
		return say(" (attempt ", quoted(n, limitName), ")")
	}
	if r.Attempt.Count > 0 {
		return say(" (attempt ", r.Attempt.Count, ")")
	}
	return nil
}

func parseTime(text string) time.Time {
	t, _ := time.Parse(time.RFC3339Nano, text) // zero where it cannot be read
	return t
}

// words turns a name such as not_admin or code.failed into words.
func words(name string) string {
	return strings.NewReplacer("_", " ", ".", " ").Replace(name)
}
