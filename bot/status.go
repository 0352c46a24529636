package bot

import (
	"fmt"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// wording is how one status is told: on the card, in the thread when it begins, and to
// whoever presses a button too late.
type wording struct {
	headline string // of the card; %s is the app and its environment
	card     func(approvals.Card) line
	begins   approvals.EventType
	thread   func(t approvals.Told, now time.Time) line
	late     func(*approvals.Refusal) line
}

var wordings = map[approvals.Status]wording{
	approvals.Pending: {"Deploy %s?", pending, approvals.EventReopened,
		func(t approvals.Told, _ time.Time) line {
			return say(mention(t.Event.Actor.ID), " asked for another round of approvals.")
		}, nil},
	approvals.Approved: {"Approved: %s", approved, approvals.EventApproved, mayRun, alreadyApproved},
	approvals.Released: {"Released: %s", released, approvals.EventReleased,
		func(t approvals.Told, _ time.Time) line {
			gate := literal(t.Request.GateName)
			if !t.Request.AutoApprove && t.Event.Actor.ID != "" {
				return say("Released: ", gate, " was approved in CircleCI by ", name(t.Event.Actor.ID), ".")
			}
			return say("Released: ", gate, " is approved.")
		}, alreadyApproved},
	approvals.Deployed: {"Deployed: %s ✅", deployed, approvals.EventDeployed, finished, alreadyApproved},
	approvals.DeployFailed: {"Deploy failed: %s ❌", deployFailed, approvals.EventDeployFailed,
		func(t approvals.Told, _ time.Time) line {
			return say("Deploy failed", failedJob(t.Event), ".", starter(t))
		}, alreadyApproved},
	approvals.Rejected: {"Rejected: %s", rejected, approvals.EventRejected,
		func(t approvals.Told, _ time.Time) line {
			return say(mention(t.Event.Actor.ID), " rejected", withCode(t.Event), inQuotes(t.Event.Reason), ".", call(t))
		},
		func(why *approvals.Refusal) line {
			return say(who(why, "rejected this"), inQuotes(why.Reason), ".")
		}},
	approvals.Expired: {"Expired: %s", expired, approvals.EventExpired,
		func(t approvals.Told, now time.Time) line {
			return say("Expired: ", expiry(t.Event, t.Request), ".", retryHint(t.Request, now), call(t))
		},
		func(why *approvals.Refusal) line { return say("This expired", when(why.At), ". ", askAgain) }},
	approvals.Superseded: {"Superseded: %s",
		func(c approvals.Card) line { return newer(c.SupersededByNumber, c.SupersededByLink) }, approvals.EventSuperseded,
		func(t approvals.Told, _ time.Time) line {
			return say("Superseded: a newer request took the place of this one: #", quoted(t.Event.Data["number"], limitName), ".")
		},
		func(why *approvals.Refusal) line { return say(newer(why.Number, ""), ". Decide on that one.") }},
	approvals.Canceled: {"Withdrawn: %s", func(c approvals.Card) line { return canceled(c.Request) }, approvals.EventCanceled,
		func(t approvals.Told, _ time.Time) line {
			r := approvals.Request{Asked: t.Request.Asked, DecidedBy: t.Event.Actor.ID}
			r.Failure = approvals.Failure{Code: t.Event.Reason, Detail: reasonOf(t)}
			return say("Closed: ", canceled(r), ".", call(t))
		},
		func(why *approvals.Refusal) line {
			if why.Reason == "" {
				return say("This was closed", when(why.At), ". ", askAgain)
			}
			return say("This was closed", when(why.At), ": ", quoted(why.Reason, limitMessage), ". ", askAgain)
		}},
	approvals.Bypassed: {"Approved outside: %s ⚠️",
		func(c approvals.Card) line { return outside(c.Request.Gate.ApprovedBy, literal(c.Request.GateName)) }, approvals.EventBypassed,
		func(t approvals.Told, _ time.Time) line {
			return say("⚠️ ", outside(t.Event.Actor.ID, literal(t.Request.GateName)), ".", call(t))
		},
		func(why *approvals.Refusal) line { return say(outside(why.By, say("this")), ". ", nothingToDo) }},
	approvals.Undeliverable: {"Could not release: %s ⚠️", undeliverable, approvals.EventUndeliverable,
		func(t approvals.Told, now time.Time) line {
			return say("Could not release: ", quoted(firstOf(reasonOf(t), words(t.Event.Reason)), limitMessage), ".", retryHint(t.Request, now), call(t))
		},
		func(why *approvals.Refusal) line {
			return say(who(why, "approved this"), ", but CircleCI could not be told, and it is too late to retry. ", askAgain)
		}},
}

const (
	nothingToDo = "There is nothing more to do."
	askAgain    = "To ask again, use “Rerun from start” in CircleCI."
)

// wordingOf is the row of a status. One that is newer than this program has words, too.
func wordingOf(s approvals.Status) wording {
	if w, ok := wordings[s]; ok {
		return w
	}
	return wording{headline: words(string(s)) + ": %s", card: func(approvals.Card) line { return say("I don’t know this status") }}
}

// headline answers in words what the request's status is.
func headline(r approvals.Request) string {
	return fmt.Sprintf(wordingOf(r.Status).headline, r.Place())
}

// beginning tells the event that a status begins with; nil for all other events.
func beginning(t approvals.Told, now time.Time) line {
	for _, w := range wordings {
		if w.begins == t.Event.Type {
			return w.thread(t, now)
		}
	}
	return nil
}

// tooLate says how a request ended before this click came.
func tooLate(why *approvals.Refusal) line {
	if w := wordingOf(why.Status); w.late != nil {
		return w.late(why)
	}
	return say("This request is closed. ", nothingToDo)
}

func alreadyApproved(why *approvals.Refusal) line {
	return say(who(why, "already approved this"), ". ", nothingToDo)
}

// who says who did something, and when.
func who(why *approvals.Refusal, did string) line {
	by := say("Somebody")
	if why.By != "" {
		by = mention(why.By)
	}
	return say(by, " ", did, when(why.At))
}

func when(t time.Time) line {
	if t.IsZero() {
		return nil
	}
	return say(" ", at(t))
}

// inQuotes is a reason that a person gave.
func inQuotes(reason string) line {
	if reason == "" {
		return nil
	}
	return say(": “", quoted(reason, maxReason), "”")
}

func newer(n int64, permalink string) line {
	if n == 0 {
		return say("A newer request took the place of this one")
	}
	return say("A newer request took the place of this one: ", number(n, permalink))
}

func outside(login string, what line) line {
	by := say("Somebody")
	if login != "" {
		by = name(login)
	}
	return say(by, " approved ", what, " in CircleCI, not here")
}
