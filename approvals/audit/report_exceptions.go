package audit

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// exception is a kind of event that a reader of a report looks for first.
type exception struct{ Title, About string }

var (
	excBypassed      = &exception{"Opened past the gateway", "Somebody approved the gate in CircleCI itself. A deploy job that asks the gateway first (verify) is refused then."}
	excUnasked       = &exception{"Deploys that did not ask", "CircleCI ran the deploy, and the gateway told no job that it is what was approved (verify). Only the gate ties what ran to the approval."}
	excBreakGlass    = &exception{"Emergency releases", "One person released the deploy alone. Neither a freeze nor the number of approvals counted."}
	excOwn           = &exception{"Own deploys, or nobody knows whose", "The person who started the workflow approved it, or the starter is not known, so nobody can tell."}
	excConfig        = &exception{"Another CI configuration", "The configuration of the pipeline was not the one that was deployed last to the same place."}
	excRefused       = &exception{"Refused verify calls", "Somebody, as a rule a deploy job, asked whether to deploy, and the answer was no."}
	excRetried       = &exception{"Retries", "A fresh round of votes after an approval that was not used in time or could not be delivered."}
	excAuthenticator = &exception{"Authenticators that were reset, replaced or locked", "Whoever gets a new authenticator can approve with it. Too many wrong codes lock one."}
	excRights        = &exception{"People and tokens", "Who can decide, by which login they are known as the starter of a workflow, and which tokens can ask."}
	excSettings      = &exception{"Changed settings", "What settings were before and after, as the gateway found when it started."}
	excRecovered     = &exception{"Database put back or changed", "The operator accepted an older database, or one that was changed from outside."}
)

// exceptions lists the kinds in the order of a report.
var exceptions = []*exception{
	excBypassed, excUnasked, excBreakGlass, excOwn, excConfig, excRefused, excRetried,
	excAuthenticator, excRights, excSettings, excRecovered,
}

// ExceptionEvent is one event of an exception.
type ExceptionEvent struct {
	At      time.Time
	Deploy  *Deploy // nil = of no request
	Text    string
	Changes []approvals.SettingChange
}

// ExceptionList are the exceptions of one kind.
type ExceptionList struct {
	Title, About string
	Found        []ExceptionEvent
}

// Exceptions lists the exceptions of all kinds, also of those without any.
func (r *Reading) Exceptions() (lists []ExceptionList) {
	for _, x := range exceptions {
		lists = append(lists, ExceptionList{x.Title, x.About, r.found[x]})
	}
	return lists
}

// look notes an event of the period that is an exception. d is its request.
func (r *Reading) look(e approvals.Event, d *Deploy) {
	note := func(kind *exception, format string, args ...any) {
		f := ExceptionEvent{At: e.At(), Deploy: d, Text: fmt.Sprintf(format, args...), Changes: r.changes(e)}
		r.found[kind] = append(r.found[kind], f)
	}
	switch by := r.actor(e.Actor); e.Type {
	case approvals.EventRequested:
		if changed, _ := d.ConfigChanged(); changed {
			note(excConfig, "the workflow was started by %s", d.StartedBy())
		}
	case approvals.EventBypassed:
		note(excBypassed, "%s approved the gate in CircleCI while the request was open", by)
	case approvals.EventGateBypassed:
		note(excBypassed, "%s approved the gate in CircleCI after the request had ended", by)
	case approvals.EventDeployed, approvals.EventDeployFailed:
		if d.unasked {
			said := map[approvals.EventType]string{approvals.EventDeployed: "CircleCI ran ", approvals.EventDeployFailed: "the deploy failed: "}[e.Type]
			note(excUnasked, "%s%s", said, cmp.Or(d.Deploy.Detail, "the deploy"))
		}
	case approvals.EventApproved, approvals.EventBreakGlass:
		if e.Type == approvals.EventBreakGlass {
			note(excBreakGlass, "%s: “%s”", by, e.Reason)
		}
		switch d.self {
		case approvals.SelfYes:
			whose := map[bool]string{true: "it was approved by the person who started it", false: "one of those who approved it had started it"}
			note(excOwn, "%s", whose[len(d.people) == 1])
		case approvals.SelfUnknown:
			note(excOwn, "it was approved, and it is not known which person on record started it")
		}
	case approvals.EventVerifyRefused:
		note(excRefused, "%s", cmp.Or(e.Data["detail"], e.Reason))
	case approvals.EventReopened:
		note(excRetried, "%s asked for another round of approvals", by)
	case approvals.EventRecovered:
		text := "accepted by " + by + "; the log goes on under another name and key"
		if why := e.Unsealed(); why != "" {
			text += "; " + why
		}
		note(excRecovered, "%s", text)
	case approvals.EventSettingsChanged:
		if r.App == "" || len(r.changes(e)) > 0 {
			note(excSettings, "the gateway was started by %s", by)
		}
	default:
		r.lookAtPeople(e, note)
	}
}

// lookAtPeople notes who got or lost a right, and whose authenticator is another one or
// locked. What the gateway learns of people by itself, such as their user id at the CI
// provider, is nothing of that.
func (r *Reading) lookAtPeople(e approvals.Event, note func(kind *exception, format string, args ...any)) {
	const none = "none"
	id, login := cmp.Or(e.Data["user"], e.Actor.ID), e.Data["vcs_login"]
	user, had, by := r.name(id), r.people[id], r.actor(e.Actor)
	token, covered := r.tokens[e.Data["token"]]
	covered = covered && (r.App == "" || token.Apps == nil || slices.Contains(token.Apps, r.App))
	switch {
	case e.Type == approvals.EventReset:
		note(excAuthenticator, "the authenticator of %s was reset by %s", user, by)
	case e.Type == approvals.EventEnrolled && had.Enrolled:
		note(excAuthenticator, "the authenticator of %s was replaced by a new one (%s) by %s", user, e.Outcome, by)
	case e.Type == approvals.EventEnrolled:
		note(excRights, "an authenticator of %s was enrolled (%s) by %s", user, e.Outcome, by)
	case e.Type == approvals.EventUnlocked:
		note(excAuthenticator, "the authenticator of %s was unlocked by %s", user, by)
	case e.Type == approvals.EventCodeLocked:
		note(excAuthenticator, "the authenticator of %s was %s after wrong codes", user, e.Outcome)
	case e.Type == approvals.EventSealBroken:
		note(excAuthenticator, "the authenticator of %s could not be decrypted", user)
	case e.Type == approvals.EventPersonAdded:
		note(excRights, "%s was added by %s, VCS login %s", user, by, cmp.Or(login, none))
	case e.Type == approvals.EventPersonChanged && login != "":
		note(excRights, "the VCS login of %s was set to %s by %s; before it was %s", user, login, by, cmp.Or(had.VCSLogin, none))
	case e.Type == approvals.EventPersonRemoved:
		note(excRights, "%s (VCS login %s) was removed by %s", user, cmp.Or(had.VCSLogin, none), by)
	case e.Type == approvals.EventEnrolLink:
		note(excRights, "a link to enrol an authenticator for %s was made by %s", user, by)
	case e.Type == approvals.EventTokenCreated && covered:
		apps := "all apps"
		if token.Apps != nil {
			apps = strings.Join(token.Apps, ", ")
		}
		note(excRights, "the token %s (%s, for %s) was made by %s, to expire %s", token.Name, token.Role, apps, by, At(token.Expires))
	case e.Type == approvals.EventTokenRevoked && covered:
		when := "at once"
		if until, err := time.Parse(timeFormat, e.Data["until"]); err == nil {
			when = At(until)
		}
		note(excRights, "the token %s was ended by %s, %s", token.Name, by, when)
	}
}

// changes are the changed settings of an event that the report is about.
func (r *Reading) changes(e approvals.Event) (of []approvals.SettingChange) {
	for _, c := range e.Settings {
		if r.App == "" || c.App == r.App {
			of = append(of, c)
		}
	}
	return of
}

// name is what somebody is called.
func (r *Reading) name(id string) string { return called(r.names[id], id) }

// actor names who caused an event.
func (r *Reading) actor(a approvals.Actor) string {
	switch a.Kind {
	case approvals.ActorPerson:
		return r.name(a.ID)
	case approvals.ActorToken:
		return "token " + cmp.Or(r.names[a.ID], a.ID)
	case approvals.ActorOperator:
		return "operator " + cmp.Or(a.ID, "without a name")
	case approvals.ActorSystem:
		return "the gateway"
	}
	return cmp.Or(a.ID, "somebody unknown")
}
