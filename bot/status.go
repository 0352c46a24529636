package bot

import (
	"cmp"
	"fmt"
	"strings"
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
	approvals.Pending: {
		headline: "Deploy %s?", card: pending, begins: approvals.EventReopened,
		thread: func(t approvals.Told, _ time.Time) line {
			return say(mention(t.Event.Actor.ID), " asked for another round of approvals.")
		},
	},
	approvals.Approved: {
		headline: "Approved: %s", card: approved, begins: approvals.EventApproved, thread: mayRun, late: alreadyApproved,
	},
	approvals.Released: {
		headline: "Released: %s", card: released, begins: approvals.EventReleased, late: alreadyApproved,
		thread: func(t approvals.Told, _ time.Time) line {
			gate := literal(t.Request.GateName)
			if !t.Request.AutoApprove && t.Event.Actor.ID != "" {
				return say("Released: ", gate, " was approved in CircleCI by ", name(t.Event.Actor.ID), ".")
			}
			for _, e := range t.With {
				return say("Released: CircleCI accepted the approval", attemptNumber(e, t.Request), " and opened ", gate, ".")
			}
			return say("Released: ", gate, " is approved.")
		},
	},
	approvals.Deployed: {
		headline: "Deployed: %s ✅", card: deployed, begins: approvals.EventDeployed, thread: finished, late: alreadyApproved,
	},
	approvals.DeployFailed: {
		headline: "Deploy failed: %s ❌", card: deployFailed, begins: approvals.EventDeployFailed, late: alreadyApproved,
		thread: func(t approvals.Told, _ time.Time) line {
			return say("Deploy failed", failedJob(t.Event), ".", jobSays(t), starter(t))
		},
	},
	approvals.Rejected: {
		headline: "Rejected: %s", card: rejected, begins: approvals.EventRejected,
		thread: func(t approvals.Told, _ time.Time) line {
			return say(mention(t.Event.Actor.ID), " rejected", withCode(t.Event), inLastQuotes(t.Event.Reason), call(t))
		},
		late: func(why *approvals.Refusal) line { return say(who(why, "rejected this"), inLastQuotes(why.Reason)) },
	},
	approvals.Expired: {
		headline: "Expired: %s", card: expired, begins: approvals.EventExpired,
		thread: func(t approvals.Told, _ time.Time) line {
			return say("Expired: ", expiry(t.Event, t.Request), ".", retryHint(t.RetryOffered), call(t))
		},
		late: func(why *approvals.Refusal) line { return say("This expired", when(why.At), ".", whatNext(why)) },
	},
	approvals.Superseded: {
		headline: "Superseded: %s", begins: approvals.EventSuperseded,
		card: func(c approvals.Card) line { return newer(c.SupersededByNumber, c.SupersededByLink) },
		thread: func(t approvals.Told, _ time.Time) line {
			return say("Superseded: a newer request took the place of this one: #", quoted(t.Event.Data["number"], limitName), ".")
		},
		late: func(why *approvals.Refusal) line { return say(newer(why.Number, ""), ". Decide on that one.") },
	},
	approvals.Canceled: {
		headline: "Withdrawn: %s", begins: approvals.EventCanceled,
		card: func(c approvals.Card) line { return canceled(c.Request) },
		thread: func(t approvals.Told, _ time.Time) line {
			r := approvals.Request{Asked: t.Request.Asked, DecidedBy: t.Event.Actor.ID}
			r.Failure = approvals.Failure{Code: t.Event.Reason, Detail: reasonOf(t)}
			return say("Closed: ", canceled(r), ".", call(t))
		},
		late: func(why *approvals.Refusal) line {
			return say("This was closed", when(why.At), because(why.Reason), ". ", askAgain)
		},
	},
	approvals.Bypassed: {
		headline: "Approved outside: %s ⚠️", begins: approvals.EventBypassed,
		card: func(c approvals.Card) line {
			return outside(c.Request.Gate.ApprovedBy, c.Request, c.Request.Failure.Detail)
		},
		thread: func(t approvals.Told, _ time.Time) line {
			return say("⚠️ ", outside(t.Event.Actor.ID, t.Request, t.Event.Data["detail"]), ".", call(t))
		},
		late: func(why *approvals.Refusal) line {
			return say(login(why.By), " approved this", past(why.Reason), ". ", nothingToDo)
		},
	},
	approvals.Undeliverable: {
		headline: "Could not release: %s ⚠️", card: undeliverable, begins: approvals.EventUndeliverable,
		thread: func(t approvals.Told, _ time.Time) line {
			return say("Could not release: ", quoted(cmp.Or(reasonOf(t), words(t.Event.Reason)), limitMessage), ".", retryHint(t.RetryOffered), call(t))
		},
		late: func(why *approvals.Refusal) line {
			did := "approved this"
			if why.Emergency {
				did = "wanted to release this in an emergency"
			}
			return say(who(why, did), ", but it could not be released", because(why.Reason), ".", whatNext(why))
		},
	},
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

// status is the line of the card under the facts. It ends with the number that
// /approvals show takes.
func status(c approvals.Card) line {
	return say(wordingOf(c.Request.Status).card(c), " · #", c.Request.Number)
}

// headline answers in words what the request's status is.
func headline(r approvals.Request) string {
	title := fmt.Sprintf(wordingOf(r.Status).headline, r.Place())
	if _, ok := r.Emergency(); ok && r.Status.Passed() {
		title = strings.TrimRight(title, " ✅❌") + " ⚠️"
	}
	return title
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

// whatNext says how to go on after an approval that came to nothing.
func whatNext(why *approvals.Refusal) line {
	if why.Retry {
		return retryHint(true)
	}
	return say(" ", askAgain)
}

func alreadyApproved(why *approvals.Refusal) line {
	did := "already approved this"
	if why.Emergency {
		did = "already released this in an emergency"
	}
	return say(who(why, did), ". ", nothingToDo)
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

// inLastQuotes is a reason at the end of a sentence, which needs no full stop of ours
// when the person ended theirs.
func inLastQuotes(reason string) line {
	if strings.HasSuffix(reason, ".") || strings.HasSuffix(reason, "!") || strings.HasSuffix(reason, "?") {
		return inQuotes(reason)
	}
	return say(inQuotes(reason), ".")
}

func newer(n int64, permalink string) line {
	if n == 0 {
		return say("A newer request took the place of this one")
	}
	return say("A newer request took the place of this one: ", number(n, permalink))
}

// outside says who opened a gate in CircleCI: past the bot, or after it was approved
// here, before the bot did or although the approval did not count any more.
func outside(by string, r approvals.Request, although string) line {
	gate := literal(r.GateName)
	if although == "" && !r.ApprovedAt.IsZero() {
		return say(approvedBy(r), ", but ", login(by), " opened ", gate, " in CircleCI")
	}
	return say(login(by), " approved ", gate, past(although))
}

// past ends a sentence about an approval past the bot, or after ours did not count any
// more.
func past(although string) line {
	if although == "" {
		return say(" in CircleCI, not here")
	}
	return say(" in CircleCI, although ", quoted(although, limitMessage))
}

// login names somebody at CircleCI.
func login(of string) line {
	if of == "" {
		return say("Somebody")
	}
	return name(of)
}
