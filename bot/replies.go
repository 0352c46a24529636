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
	text, more := v.tell(t)
	text = say(before, text)
	blocks := append([]slack.Block{text.block()}, more...)
	if small := footnote(t, now); small != nil {
		blocks = append(blocks, small.small())
	}
	return newMessage(text, t.Event.Seq, blocks...)
}

// footnote holds the checkpoint and the time of what is told late.
func footnote(t approvals.Told, now time.Time) line {
	var l line
	if t.CheckpointRoot != "" {
		l = say("checkpoint ", t.CheckpointSize, " · ", t.CheckpointRoot)
	}
	if when := t.Event.At(); !when.IsZero() && now.Sub(when) > lateAfter {
		if len(l) > 0 {
			l = say(l, " · ")
		}
		l = say(l, "told late: happened ", at(when))
	}
	return l
}

// tell puts an event into words. The blocks are what comes below the line.
func (v view) tell(t approvals.Told) (line, []slack.Block) {
	e, r := t.Event, t.Request
	gate := literal(r.GateName)
	switch e.Type {
	case approvals.EventRequested:
		return v.requested(r)
	case approvals.EventClickRefused:
		verb := "Approve"
		if e.Outcome == approvals.ActionReject {
			verb = "Reject"
		}
		return say(mention(e.Actor.ID), " pressed ", verb, " and was refused: ", lackOfRight(e, r), "."), nil
	case approvals.EventCodeFailed:
		if e.Outcome == "used" {
			return say(mention(e.Actor.ID), " gave a code that was used already."), nil
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
		return say(l, ": “", quoted(e.Reason, 500), "”"), nil
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
		l := say("Deploy failed")
		if e.Data["job"] != "" {
			l = say(l, ": job ", literal(e.Data["job"]), " is ", quoted(e.Outcome, limitName))
		}
		if e.Outcome == "unauthorized" {
			l = say(l, ": its context in CircleCI is restricted to a group that the approver is not in")
		}
		return say(l, ".", starter(t)), nil
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
	if l := ending(e, r); l != nil {
		return l, nil
	}
	return personal(e), nil
}

func (v view) requested(r approvals.Request) (line, []slack.Block) {
	l := say("Asked by ", quoted(r.Requester.TokenName, limitName), " for ",
		link(v.pipelineURL(r), "pipeline "+strconv.FormatInt(r.Facts.PipelineNumber, 10)))
	if r.Facts.WorkflowName != "" {
		l = say(l, ", workflow ", quoted(r.Facts.WorkflowName, limitName))
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
		return say("not a member of this workspace")
	case approvals.RefusedNotAdmin:
		return say("not an admin of this gateway")
	case approvals.RefusedNotApprover:
		return say("not an approver of ", quoted(r.App, limitName))
	case approvals.RefusedStanding:
		return say("not a full, active member of this workspace")
	case approvals.RefusedSelf:
		return say("started this pipeline, so somebody else has to approve it")
	case approvals.RefusedNoLogin:
		return say("no login at the code host on record")
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

// starter tells who set it off that it is over: by mention if the person is on
// record, since a login at the code host is no id in Slack.
func starter(t approvals.Told) line {
	if t.Starter != "" {
		return say(" ", mention(t.Starter))
	}
	if s := t.Request.Facts.Starters(); len(s) > 0 {
		return say(" Started by ", quoted(s[0], limitName), ".")
	}
	return nil
}

func (v view) gateClosed(e approvals.Event, r approvals.Request) line {
	switch e.Outcome {
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
		command := span{kind: code, text: cut(oneLine(ask+` --ci-metadata '{"workflow_id":"`+id+`"}'`), limitMessage)}
		l = say(l, " Ask again: ", command)
	}
	return l
}

// ending tells how a request ended without a deploy; nil for all other events.
func ending(e approvals.Event, r approvals.Request) line {
	why := firstOf(e.Data["detail"], r.Failure.Detail)
	switch e.Type {
	case approvals.EventExpired:
		if r.ApprovedAt.IsZero() {
			return say("Expired: nobody decided until ", at(r.ExpiresAt), ".")
		}
		return say("Expired: the approval was not used in time.")
	case approvals.EventSuperseded:
		return say("Superseded: a newer request took its place: #", quoted(e.Data["number"], limitName), ".")
	case approvals.EventCanceled:
		return say("Closed: ", canceled(approvals.Request{Requester: r.Requester, Failure: approvals.Failure{Code: e.Reason, Detail: why}, DecidedBy: e.Actor.ID}), ".")
	case approvals.EventBypassed:
		by := e.Actor.ID
		if by == "" {
			by = "an unknown user"
		}
		return say("⚠️ ", literal(r.GateName), " was approved in CircleCI by ", quoted(by, limitName), ", not here.")
	case approvals.EventUndeliverable:
		return say("Could not release: ", quoted(firstOf(why, words(e.Reason)), limitMessage), ". Retry on the card asks for fresh approval.")
	}
	return nil
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
