package bot

import (
	"strconv"
	"strings"
	"time"

	"github.com/slack-go/slack"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
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
	return v.lineOf(t, now, say(number(t.Request.Number, t.Request.Slack.Permalink), " Deploy ", t.Request.Place(), ": "))
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
	e, r := t.Event, t.Request
	gate := literal(r.GateName)
	switch e.Type {
	case approvals.EventRequested:
		return v.requested(r)
	case approvals.EventClickRefused:
		verb := "Approve"
		if e.Outcome == string(approvals.ActionReject) {
			verb = "Reject"
		}
		return say(mention(e.Actor.ID), " pressed ", verb, " and was refused: ", lackOfRight(e, r), "."), nil
	case approvals.EventCodeFailed:
		if e.Outcome == "used" {
			return say(mention(e.Actor.ID), " gave a code that was already used."), nil
		}
		l := say(mention(e.Actor.ID), " gave a wrong code")
		if n := e.Data["failures"]; n != "" && n != "1" {
			l = say(l, " (", quoted(n, limitName), " in a row)")
		}
		return say(l, "."), nil
	case approvals.EventCodeLocked:
		if until := parseTime(e.Data["until"]); !until.IsZero() {
			return say("After too many wrong codes, codes of ", mention(e.Actor.ID), " are refused until ", atClock(until), ". Other admins are not affected."), nil
		}
		return say("After too many wrong codes, the authenticator of ", mention(e.Actor.ID), " is disabled. The operator can issue a new one."), nil
	case approvals.EventVoted:
		l := say(mention(e.Actor.ID), " approved")
		if e.MFA != "" {
			l = say(l, " with a code")
		}
		if e.Data["votes"] != "" && e.Data["needed"] != "" {
			l = say(l, " (", quoted(e.Data["votes"], limitName), " of ", quoted(e.Data["needed"], limitName), ")")
		}
		return say(l, "."), nil
	case approvals.EventApproved:
		until := parseTime(e.Data["until"])
		l := say("Decided: approved. ")
		switch {
		case e.Data["auto"] == "false":
			l = say(l, "Now approve ", gate, " in CircleCI")
		case until.IsZero():
			return say(l, "CircleCI’s ", gate, " may run."), nil
		default:
			return say(l, "CircleCI’s ", gate, " may run until ", atClock(until), "."), nil
		}
		if !until.IsZero() {
			l = say(l, " until ", atClock(until))
		}
		return say(l, "."), nil
	case approvals.EventRejected:
		l := say(mention(e.Actor.ID), " rejected")
		if e.MFA != "" {
			l = say(l, " with a code")
		}
		return say(l, ": “", quoted(e.Reason, 500), "”", call(t)), nil
	case approvals.EventAttempt:
		return say("Asking CircleCI to approve ", gate, attemptNumber(e, r), "."), nil
	case approvals.EventAccepted:
		return say("CircleCI accepted the approval", attemptNumber(e, r), "."), nil
	case approvals.EventGateRefused:
		return say("CircleCI did not take the approval", attemptNumber(e, r), ": ", quoted(firstOf(e.Reason, e.Outcome), limitMessage)), nil
	case approvals.EventDelayed:
		return v.delayed(e), nil
	case approvals.EventReleased:
		if !r.AutoApprove && e.Actor.ID != "" {
			return say("Released: ", gate, " was approved in CircleCI by ", quoted(e.Actor.ID, limitName), "."), nil
		}
		return say("Released: ", gate, " is approved."), nil
	case approvals.EventDeployed:
		return v.deployed(t), nil
	case approvals.EventDeployFailed:
		return say("Deploy failed", failedJob(e), ".", starter(t)), nil
	case approvals.EventGateBypassed:
		return say("⚠️ ", gate, " was approved in CircleCI by ", quoted(e.Actor.ID, limitName), " although this request is ", quoted(words(e.Outcome), limitName), ". Check what was deployed."), nil
	case approvals.EventGateClosed:
		return v.gateClosed(e, r), nil
	case approvals.EventDeployReport:
		l := say("The deploy job reports: ", quoted(e.Outcome, limitName))
		if d := e.Reason; d != "" {
			l = say(l, ": ", quoted(d, limitMessage))
		}
		return l, nil
	case approvals.EventNewerWorkflow:
		return v.newerWorkflow(e, r), nil
	}
	if l := ending(e, r, now); l != nil {
		return say(l, call(t)), nil
	}
	if l := onTheWay(e, r); l != nil {
		return l, nil
	}
	return personal(e), nil
}

func (v view) requested(r approvals.Request) (line, []slack.Block) {
	l := say("Asked by ", name(r.Requester.TokenName), " for ",
		link(v.pipelineURL(r), "pipeline "+strconv.FormatInt(r.Facts.PipelineNumber, 10)))
	if r.Facts.WorkflowName != "" {
		l = say(l, ", workflow ", name(r.Facts.WorkflowName))
	}
	l = say(l, ".")
	if c := v.changes(r); c != nil {
		l = say(l, " ", c)
	}
	// The card shows the start of a long message; the whole stands here.
	if cut(visible(r.Message), limitMessage) != visible(r.Message) {
		return l, []slack.Block{own(r.Message, limitWhole)}
	}
	return l, nil
}

// delayed tells why an approval is not delivered yet.
func (v view) delayed(e approvals.Event) line {
	const kept = ". The approval is kept and will be delivered."
	switch e.Outcome {
	case "401", "403", "404":
		return say("CircleCI does not let me look at the workflow (", e.Outcome, ") since ", atClock(e.At()), ": the operator has to look at the gateway’s CircleCI token", kept)
	}
	return say("CircleCI is not answering (", quoted(e.Outcome, limitName), ") since ", atClock(e.At()), kept)
}

func lackOfRight(e approvals.Event, r approvals.Request) line {
	switch approvals.RefusalCode(e.Reason) {
	case approvals.RefusedWorkspace:
		return say("they are not a member of this workspace")
	case approvals.RefusedNotAdmin:
		return say("they are not an admin of this gateway")
	case approvals.RefusedNotApprover:
		return say("they are not an approver of ", name(r.App))
	case approvals.RefusedStanding:
		return say("they are not a full, active member of this workspace")
	case approvals.RefusedSelf:
		return say("they started this pipeline, so someone else has to approve it")
	case approvals.RefusedNoLogin:
		return say("they are nobody whose username at the code host I know")
	}
	return say(quoted(words(e.Reason), limitName))
}

func (v view) deployed(t approvals.Told) line {
	e, r := t.Event, t.Request
	l := say("Deployed: ")
	if jobs := e.Data["jobs"]; jobs != "" {
		l = say(l, literal(jobs), " ")
	}
	l = say(l, "finished")
	if d := r.Deploy.FinishedAt.Sub(r.ReleasedAt); !r.ReleasedAt.IsZero() && d > 0 {
		l = say(l, " in ", duration(d))
	}
	return say(l, ".", starter(t))
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

func (v view) gateClosed(e approvals.Event, r approvals.Request) line {
	switch approvals.OnClose(e.Outcome) {
	case approvals.CloseCancelWorkflow:
		return say("Told CircleCI to cancel the workflow.")
	case approvals.CloseCancelJob:
		return say("Told CircleCI to cancel the job ", literal(r.GateName), ".")
	}
	return say("CircleCI did not let me cancel ", literal(r.GateName), " (", quoted(firstOf(e.Reason, e.Outcome), limitMessage), "). It still waits there: cancel it by hand.")
}

func (v view) newerWorkflow(e approvals.Event, r approvals.Request) line {
	l := say("Pipeline ", r.Facts.PipelineNumber, " has a newer workflow whose gate waits without a request.")
	if id := e.Data["workflow_id"]; id != "" {
		ask := "rack-gateway deploy-approval request --app " + r.App + " --git-commit " + r.Facts.Revision
		if r.Environment != approvals.DefaultEnvironment {
			ask += " --environment " + r.Environment
		}
		l = say(l, " Ask again: ", commandLine(ask+` --ci-metadata '{"workflow_id":"`+id+`"}'`))
	}
	return l
}

// ending tells how a request ended without a deploy; nil for all other events.
func ending(e approvals.Event, r approvals.Request, now time.Time) line {
	why := firstOf(e.Data["detail"], r.Failure.Detail)
	switch e.Type {
	case approvals.EventExpired:
		return say("Expired: ", expiry(e, r), ".", retryHint(r, now))
	case approvals.EventSuperseded:
		return say("Superseded: a newer request took its place: #", quoted(e.Data["number"], limitName), ".")
	case approvals.EventCanceled:
		return say("Closed: ", canceled(approvals.Request{Asked: r.Asked, Failure: approvals.Failure{Code: e.Reason, Detail: why}, DecidedBy: e.Actor.ID}), ".")
	case approvals.EventBypassed:
		by := e.Actor.ID
		if by == "" {
			by = "an unknown user"
		}
		return say("⚠️ ", literal(r.GateName), " was approved in CircleCI by ", name(by), ", not here.")
	case approvals.EventUndeliverable:
		return say("Could not release: ", quoted(firstOf(why, words(e.Reason)), limitMessage), ".", retryHint(r, now))
	}
	return nil
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

// retryHint points to the Retry button while it is there.
func retryHint(r approvals.Request, now time.Time) line {
	if !r.CanRetry(now) {
		return nil
	}
	return say(" Retry on the card asks for another round of approvals.")
}

// onTheWay tells what happens between a decision and its effect; nil for all other
// events.
func onTheWay(e approvals.Event, r approvals.Request) line {
	gate := literal(r.GateName)
	switch e.Type {
	case approvals.EventReopened:
		return say(mention(e.Actor.ID), " asked for another round of approvals.")
	case approvals.EventWaiting:
		return say("CircleCI has not reached ", gate, " yet.")
	case approvals.EventReached:
		return say("CircleCI reached ", gate, ".")
	case approvals.EventAnswers:
		return say("CircleCI answers again.")
	case approvals.EventClosing:
		return say("Asking CircleCI to stop ", gate, ".")
	case approvals.EventRestored:
		return say("A backup was restored in which this was approved: CircleCI is not asked again.")
	}
	return nil
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

// personal tells what concerns a person's authenticator, and whatever has no
// words of its own.
func personal(e approvals.Event) line {
	who := mention(firstOf(e.Data["user"], e.Actor.ID))
	switch e.Type {
	case approvals.EventEnrolled:
		return say(who, " set up a new authenticator", how(e), ". If that was not you, tell the operator at once.")
	case approvals.EventUnlocked:
		return say("The operator unlocked the authenticator of ", who, ".")
	case approvals.EventTokenExpiring:
		return say("The API token ", quoted(e.Data["name"], limitName), " (", quoted(e.Data["token"], limitName), ") expires ", at(parseTime(e.Data["expires"])), ". Make a new one before: rack-gatewayd token create.")
	case approvals.EventRecovered:
		return say("⚠️ The operator restored a backup and accepted that what happened since is lost. The log goes on under a new key; requests that were pending expired.")
	case approvals.EventReset:
		return say("The operator removed the authenticator of ", who, ".")
	case approvals.EventSealBroken:
		return say("⚠️ The authenticator of ", who, " does not open: its record was changed or its key is missing. Nothing can be approved with it.")
	}
	l := say(quoted(words(string(e.Type)), limitName))
	if d := firstOf(e.Reason, e.Data["detail"], e.Outcome); d != "" {
		l = say(l, ": ", quoted(d, limitMessage))
	}
	return l
}

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
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}
	}
	return t
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// words turns a name such as not_admin or code.failed into words.
func words(name string) string {
	return strings.NewReplacer("_", " ", ".", " ").Replace(name)
}
