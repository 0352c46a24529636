package bot

import (
	"slices"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// verbs say what somebody wanted to do.
var verbs = map[approvals.Action]string{approvals.ActionApprove: "approve", approvals.ActionReject: "reject", approvals.ActionBreakGlass: "release"}

// refusal puts a refusal into words: why, who can, what next. user is who was
// refused, action what they wanted.
func refusal(why *approvals.Refusal, user string, action approvals.Action, now time.Time) line {
	verb := verbs[action]
	switch why.Code {
	case approvals.RefusedUnknownRequest:
		return say("I don’t know this request any more. ", askAgain)
	case approvals.RefusedClosed:
		return tooLate(why)
	case approvals.RefusedTaken:
		return taken(why)
	case approvals.RefusedAppGone:
		return say(name(why.App), " is no longer set up here, so nobody can ", verb, " its deploys. Ask the operator.")
	case approvals.RefusedWorkspace:
		return say("This button belongs to another Slack workspace. Only members of that workspace can ", verb, " here.")
	case approvals.RefusedFrozen:
		l := say(frozen(why.App, why.Detail), " You can still reject it.")
		if len(why.Who) > 0 {
			l = say(l, " In an emergency, ", others(why), " can release it.")
		}
		return l
	case approvals.RefusedVoted:
		return say("You have approved this already. Someone else has to approve it, too.")
	case approvals.RefusedNoAuthenticator:
		return say("You don’t have an authenticator yet. Ask the operator for a link: ", commandLine("rack-gatewayd user enroll --slack-id "+user))
	case approvals.RefusedDisabled:
		return say("Your authenticator is disabled after too many wrong codes. Ask the operator for a new one: ", commandLine("rack-gatewayd user enroll --slack-id "+user), ". Other admins are not affected.")
	case approvals.RefusedUnreadable:
		return say("I can’t decrypt your authenticator, so nothing was recorded. Ask the operator to enroll you again.")
	case approvals.RefusedOnHold:
		if action == approvals.ActionReject {
			return say("Nothing can be rejected here now: ", quoted(why.Detail, limitMessage), ". Try again soon.")
		}
		return say("Nothing can be approved now: ", quoted(why.Detail, limitMessage), ". Ask the operator. You can still try to reject.")
	case approvals.RefusedReason:
		if action == approvals.ActionBreakGlass {
			return say("Say why, in 10 to 500 characters.")
		}
		return say("Say why, in 1 to 500 characters.")
	}
	if l := personRefusal(why, user, verb); l != nil {
		return l
	}
	return codeRefusal(why, now)
}

// taken says why a request cannot be retried: because of another one, and what became
// of that.
func taken(why *approvals.Refusal) line {
	switch {
	case why.Status == approvals.Pending:
		return say("There is a newer request for this workflow: #", why.Number, ". Decide on that one.")
	case why.Status.Passed() && why.Status != approvals.Approved:
		return say("A newer request, #", why.Number, ", was released since, so this one cannot be retried. ", askAgain)
	}
	return say("A newer request for this workflow, #", why.Number, ", is ", words(string(why.Status)), ", so this one cannot be retried. Look at that one.")
}

// others are those who can do what somebody else may not.
func others(why *approvals.Refusal) line {
	if len(why.Who) == 0 {
		return say("Any other admin")
	}
	return mentions(why.Who, "and")
}

// personRefusal is refusal for what is wrong with the person; nil when that is not
// what is wrong.
func personRefusal(why *approvals.Refusal, user, verb string) line {
	who := others(why)
	switch why.Code {
	case approvals.RefusedNotAdmin:
		if len(why.Who) == 0 {
			return say("Only admins of this gateway can ", verb, " deploys of ", name(why.App), ". Ask the operator to add you: ", commandLine("rack-gatewayd user add --slack-id "+user))
		}
		return say("Only ", who, " can ", verb, " deploys of ", name(why.App), ", and you are not an admin of this gateway. Ask one of them.")
	case approvals.RefusedNotApprover:
		return say("Only ", who, " can ", verb, " deploys of ", name(why.App), ".")
	case approvals.RefusedNotBreakGlass:
		if len(why.Who) == 0 {
			return say("Nobody can release ", name(why.App), " in an emergency any more: the operator took that setting away.")
		}
		return say("Only ", who, " can release ", name(why.App), " in an emergency.")
	case approvals.RefusedStanding:
		return say("Slack says about your account: ", quoted(why.Detail, limitMessage), ". Only full, active members of this workspace can ", verb, ".")
	case approvals.RefusedStalePerson:
		return say("I haven’t been able to check your Slack account", since(why.At), ", so I can’t confirm that you may ", verb, ". Ask the operator.")
	case approvals.RefusedStaleGroup:
		return say("I haven’t been able to reload ", mention(why.Group), since(why.At), ", so I can’t confirm that you are in it. Ask the operator.")
	case approvals.RefusedUnknownStarter:
		return unknownStarter(why)
	case approvals.RefusedSelf:
		l := say("You started this pipeline, so someone else has to approve it. ")
		others := slices.DeleteFunc(slices.Clone(why.Who), func(id string) bool { return id == user })
		switch {
		case len(why.Who) == 0:
			l = say(l, who, " can.")
		case len(others) == 0:
			l = say(l, "Nobody else is an approver of ", name(why.App), ": ask the operator.")
		default:
			l = say(l, mentions(others, "and"), " can.")
		}
		return say(l, " You can still reject it.")
	case approvals.RefusedNoLogin:
		return say("I don’t know your GitHub or Bitbucket username, so I can’t tell whether this is your own deploy. Ask the operator to set it: ",
			commandLine("rack-gatewayd user add --slack-id "+user+" --vcs-login …"), ". You can still reject it.")
	}
	return nil
}

// codeRefusal is refusal for what is wrong with a code.
func codeRefusal(why *approvals.Refusal, now time.Time) line {
	switch why.Code {
	case approvals.RefusedCodeMalformed:
		return say("A code has six digits.")
	case approvals.RefusedCodeWrong:
		switch {
		case why.Left > 1:
			return say("That code is not right. ", why.Left, " tries left before a pause.")
		case why.Left == 1:
			return say("That code is not right. 1 try left before a pause.")
		}
		return say("That code is not right.")
	case approvals.RefusedCodeUsed:
		return say("That code was already used. Wait for the next one (", duration(max(time.Second, why.Until.Sub(now))), ").")
	case approvals.RefusedCodeWaiting:
		return say("Too many wrong codes. Try again at ", atClock(why.Until), " (in ", duration(max(time.Second, why.Until.Sub(now))), "), or ask another admin.")
	}
	return say("This is not possible now", because(why.Detail), ".")
}

// unknownStarter says why nobody can approve, and what to do.
func unknownStarter(why *approvals.Refusal) line {
	so := say(", so I can’t tell whose deploy this is, and nobody may approve such deploys of ", name(why.App), ". ")
	if why.By == "" {
		return say("CircleCI does not say who started this", so, "Have somebody start the pipeline by hand. You can still reject it.")
	}
	return say("The starter, ", name(why.By), ", is nobody I know", so, "Ask the operator to set their username: ",
		commandLine("rack-gatewayd user add --slack-id … --vcs-login …"), ". You can still reject it.")
}

// Refusal is what somebody is told who may not do what they want, in plain text.
func Refusal(why *approvals.Refusal, user string, action approvals.Action, now time.Time) string {
	return refusal(why, user, action, now).plain()
}

// because is the reason behind a sentence, where one is known.
func because(detail string) line {
	if detail == "" {
		return nil
	}
	return say(": ", quoted(detail, limitMessage))
}

func since(t time.Time) line {
	if t.IsZero() {
		return nil
	}
	return say(" since", when(t))
}
