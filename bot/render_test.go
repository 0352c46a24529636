package bot_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/slack-go/slack"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const (
	ana      = "U0ANA"
	bea      = "U0BEA"
	admins   = "S0ADMINS"
	deploys  = "C0DEPLOYS"
	revision = "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d"
	previous = "5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f80"
)

var monday = time.Date(2026, 11, 23, 9, 30, 0, 0, time.UTC)

type links struct{}

func (links) PipelineURL(project string, number int64) string {
	return fmt.Sprintf("https://app.circleci.com/pipelines/%s/%d", project, number)
}

func (l links) WorkflowURL(project string, number int64, id string) string {
	return l.PipelineURL(project, number) + "/workflows/" + id
}

func request() approvals.Request {
	return approvals.Request{
		ID: "REQUEST1", Number: 127, Version: 3, App: "myapp", Environment: "production", Status: approvals.Pending,
		Asked: approvals.Asked{
			Number: 127, Message: "Fix the invoice rounding", Project: "gh/acme/myapp", GateName: "approve_deploy_production", Channel: deploys,
			Facts: approvals.Facts{
				WorkflowID: "11111111-2222-4333-8444-555555555555", WorkflowName: "deploy", PipelineNumber: 1234, Project: "gh/acme/myapp",
				Revision: revision, Branch: "main", Trigger: "webhook", Actor: "alice", Config: "c0ffee",
			},
			Requester:   approvals.Requester{TokenID: "TOKEN", TokenName: "ci-myapp", Actor: "alice"},
			AutoApprove: true, Required: 1, PendingTTL: 24 * time.Hour,
			Last: &approvals.DeployedBefore{Revision: previous, At: monday.Add(-20 * time.Hour), Config: "c0ffee"},
		},
		Round: 1, CreatedAt: monday,
		Seen: approvals.Seen{Told: -1, GateStatus: approvals.JobBlocked, Slack: approvals.SlackRef{Channel: deploys, TS: "1795426200.000100", Permalink: "https://rack.slack.com/archives/C0DEPLOYS/p1795426200000100"}},
	}
}

func approved(r approvals.Request, by ...string) approvals.Request {
	for i, id := range by {
		r.Decisions = append(r.Decisions, approvals.Decision{Action: approvals.ActionApprove, SlackUser: id, Name: id, At: monday.Add(time.Duration(20+i) * time.Minute), MFA: "totp"})
	}
	r.Status = approvals.Approved
	r.ApprovedAt, r.Window = monday.Add(20*time.Minute), 15*time.Minute
	return r
}

func released(r approvals.Request) approvals.Request {
	r = approved(r, ana)
	r.Status, r.ReleasedAt = approvals.Released, monday.Add(21*time.Minute)
	r.Gate = approvals.Gate{Status: "success", ApprovedBy: "gateway"}
	return r
}

// cards are all states of the storyboard.
func cards() map[string]approvals.Card {
	card := func(r approvals.Request) approvals.Card {
		return approvals.Card{Request: r, Approvers: []string{admins}, Needs: r.Required}
	}
	with := func(edit func(*approvals.Request)) approvals.Card {
		r := request()
		edit(&r)
		return card(r)
	}
	// started is a card of a pipeline that is no plain push by somebody on record.
	started := func(trigger, event, actor string, given ...string) approvals.Card {
		c := with(func(r *approvals.Request) {
			r.Facts.Trigger, r.Facts.Event, r.Facts.Actor = trigger, event, actor
			all := map[string]string{}
			for _, p := range given {
				name, value, _ := strings.Cut(p, "=")
				all[name] = value
			}
			r.Facts.Parameters = approvals.NewParameters(all, func(string, string) bool { return false })
		})
		c.Stranger = true
		return c
	}
	// told is a card of which the code host said something.
	told := func(c approvals.Commits) approvals.Card {
		return with(func(r *approvals.Request) { r.Facts.Subject, r.Message, r.Commits = "Fix the invoice rounding", "", &c })
	}
	newest := []approvals.Commit{{Hash: revision, Subject: "Fix the invoice rounding <!here>", Author: "alice"}, {Hash: previous, Subject: "Begin", Author: "Bob B."}}
	all := map[string]approvals.Card{
		"pending-commits": told(approvals.Commits{
			Count: 2, Newest: newest, Authors: []string{"alice", "bob"}, Everybody: true, Config: approvals.ConfigSame,
			Pull: &approvals.PullRequest{Number: 77, Title: "Fix the invoice rounding", Review: approvals.ReviewApproved},
		}),
		"pending-many-commits": told(approvals.Commits{
			Count: 10_000, Behind: 3, Newest: newest, Authors: []string{"a", "b", "c", "d", "e"}, Everybody: true,
			Pull: &approvals.PullRequest{Number: 77, Title: "Round *invoices* <!channel>", Review: approvals.ReviewMissing},
		}),
		"pending-commits-of-others":    told(approvals.Commits{Count: 1, Authors: []string{"alice"}, Pull: &approvals.PullRequest{Number: 8, Title: "x", Review: approvals.ReviewChanges}}),
		"pending-commits-of-nobody":    told(approvals.Commits{Count: 3, Newest: newest}),
		"pending-api":                  started("api", "", "mallory", "run_migrations=false", "where=<!channel> *eu*"),
		"pending-by-hand":              started("explicit", "", "mallory"),
		"pending-webhook":              started("webhook", "custom_webhook", ""),
		"pending-odd":                  started("teleport_me", "", "mallory"),
		"pending-bot":                  started("webhook", "", "github-merge-queue[bot]"),
		"pending-nobody":               started("webhook", "", ""),
		"pending-parameters":           started("webhook", "push", "alice", "a="+strings.Repeat("x", 200), "b=1"),
		"pending-scheduled-parameters": started("scheduled_pipeline", "", "", "nightly=true"),
		"pending-pull-request": with(func(r *approvals.Request) {
			r.Facts.Subject, r.Facts.PullRequest, r.Message = "Fix the invoice rounding <!here>", "77", "Deploy main@1a2b3c4 to production"
		}),
		"pending-pull-request-only": with(func(r *approvals.Request) { r.Facts.PullRequest = "77" }),
		"pending-config-changed": with(func(r *approvals.Request) {
			r.Facts.Subject = r.Message // is said once
			r.Facts.Config, r.Last = "a", &approvals.DeployedBefore{Revision: previous, At: monday, Config: "b"}
		}),
		"pending-config-unreadable": with(func(r *approvals.Request) {
			r.Facts.Config = ""
		}),
		"pending":         card(request()),
		"approved":        card(approved(request(), ana)),
		"released":        card(released(request())),
		"pending-default": with(func(r *approvals.Request) { r.Environment = approvals.DefaultEnvironment; r.Message = "" }),
		"pending-scheduled": with(func(r *approvals.Request) {
			r.Facts.Actor, r.Facts.Trigger, r.Newer = "", "scheduled_pipeline", 128
		}),
		"approved-by-hand": with(func(r *approvals.Request) {
			*r = approved(*r, ana)
			r.AutoApprove, r.GateStatus = false, approvals.JobOnHold
		}),
		"approved-by-hand-soon": with(func(r *approvals.Request) { *r = approved(*r, ana); r.AutoApprove = false }),
		"approved-circleci-off": with(func(r *approvals.Request) { *r = approved(*r, ana); r.Gate.Silent = true }),
		"deployed": with(func(r *approvals.Request) {
			*r = released(*r)
			r.Status, r.Deploy = approvals.Deployed, approvals.Deploy{Phase: "succeeded", FinishedAt: monday.Add(28 * time.Minute)}
		}),
		"deploy-failed": with(func(r *approvals.Request) {
			*r = released(*r)
			r.Status, r.Deploy = approvals.DeployFailed, approvals.Deploy{Phase: "failed", FinishedAt: monday.Add(25 * time.Minute), Detail: "job deploy: failed"}
		}),
		"deploy-skipped": with(func(r *approvals.Request) {
			*r = released(*r)
			r.Status, r.Deploy = approvals.DeployFailed, approvals.Deploy{Phase: approvals.PhaseFailed, FinishedAt: monday.Add(25 * time.Minute), Detail: "job deploy never ran: CircleCI skipped it"}
		}),
		"rejected": with(func(r *approvals.Request) {
			r.Status, r.DecidedBy, r.GateStatus = approvals.Rejected, bea, approvals.JobCanceled
			r.Decisions = []approvals.Decision{{Action: approvals.ActionReject, SlackUser: bea, Name: "bea", At: monday, Reason: "wait for the migration"}}
		}),
		"expired": with(func(r *approvals.Request) { r.Status = approvals.Expired }),
		"canceled": with(func(r *approvals.Request) {
			r.Status, r.DecidedBy = approvals.Canceled, "alice"
			r.Failure = approvals.Failure{Code: approvals.FailCIEnded, Detail: "approve_deploy_production was cancelled in CircleCI"}
		}),
		"withdrawn": with(func(r *approvals.Request) {
			r.Status, r.DecidedBy, r.Failure = approvals.Canceled, "TOKEN", approvals.Failure{Code: approvals.FailWithdrawn, Detail: "wrong branch"}
		}),
		"bypassed": with(func(r *approvals.Request) {
			r.Status, r.Gate = approvals.Bypassed, approvals.Gate{Status: "success", ApprovedBy: "mallory"}
		}),
		"bypassed-stopped": with(func(r *approvals.Request) {
			r.Status, r.Gate = approvals.Bypassed, approvals.Gate{Status: "success", ApprovedBy: "mallory"}
			r.ClosedAt, r.Deploy.Stopped = monday.Add(time.Minute), monday.Add(time.Minute)
		}),
		"bypassed-asked-early": with(func(r *approvals.Request) {
			r.Status, r.Gate = approvals.Bypassed, approvals.Gate{Status: "success", ApprovedBy: "mallory"}
			r.ClosedAt, r.Deploy.Stopped = monday.Add(time.Hour), monday.Add(time.Minute)
		}),
		"bypassed-asked": with(func(r *approvals.Request) {
			*r = approved(*r, ana)
			r.Status, r.AutoApprove, r.Gate = approvals.Expired, false, approvals.Gate{Status: "success", ApprovedBy: "mallory", Bypassed: true}
			r.Deploy.Asked, r.Deploy.Stopped = monday.Add(time.Minute), monday.Add(time.Hour)
		}),
		"bypassed-approved": with(func(r *approvals.Request) {
			*r = approved(*r, ana)
			r.Status, r.Gate = approvals.Bypassed, approvals.Gate{Status: "success", ApprovedBy: "mallory"}
		}),
		"bypassed-lost": with(func(r *approvals.Request) {
			r.Status, r.Gate = approvals.Bypassed, approvals.Gate{Status: "success", ApprovedBy: "mallory"}
			r.Failure = approvals.Failure{Code: approvals.FailQuorumLost, Detail: "only 0 of 1 approvals still count"}
		}),
	}
	two := with(func(r *approvals.Request) {
		*r = approved(*r, ana)
		r.Status, r.Required = approvals.Pending, 2
		r.Decisions[0].NewAuth = monday.Add(-time.Hour)
	})
	two.Needs, two.Valid, two.Notify = 2, 1, []string{"U0LEAD", "S0TEAM"}
	all["pending-1-of-2"] = two
	two.Valid, two.Notify = 0, nil
	all["pending-lost-vote"] = two
	retry := with(func(r *approvals.Request) {
		*r = approved(*r, ana)
		r.Status, r.Failure = approvals.Undeliverable, approvals.Failure{Code: approvals.FailRefused, Detail: "CircleCI refused: 403 Forbidden (token lacks permission or expired)"}
	})
	retry.RetryOffered = true
	all["undeliverable"] = retry
	retry = with(func(r *approvals.Request) {
		*r = approved(*r, ana)
		r.Status, r.ClosedAt = approvals.Expired, monday.Add(35*time.Minute)
	})
	retry.RetryOffered = true
	all["expired-approved"] = retry
	all["pending-second-round"] = with(func(r *approvals.Request) { r.Round = 2 })
	freeze := card(request())
	freeze.Frozen, freeze.BreakGlass = "Mon 07:00 (Europe/Berlin)", true
	all["pending-frozen"] = freeze
	emergency := func(r *approvals.Request) {
		r.Decisions = []approvals.Decision{{Action: approvals.ActionBreakGlass, SlackUser: ana, Name: "ana", At: r.ApprovedAt, MFA: "totp", Reason: "site is down, INC-7"}}
	}
	all["released-emergency"] = with(func(r *approvals.Request) { *r = released(*r); emergency(r) })
	all["deployed-emergency"] = with(func(r *approvals.Request) {
		*r = released(*r)
		r.Status, r.Deploy = approvals.Deployed, approvals.Deploy{Phase: approvals.PhaseSucceeded, FinishedAt: monday.Add(28 * time.Minute)}
		emergency(r)
	})
	broken := all["undeliverable"]
	emergency(&broken.Request)
	broken.BreakGlass = true
	all["undeliverable-emergency"] = broken
	super := with(func(r *approvals.Request) { r.Status = approvals.Superseded })
	super.SupersededByNumber, super.SupersededByLink = 128, "https://rack.slack.com/archives/C0DEPLOYS/p2"
	all["superseded"] = super
	return all
}

func TestCards(t *testing.T) {
	t.Parallel()
	for name, c := range cards() {
		t.Run(name, func(t *testing.T) {
			got := bot.RenderCard(links{}, c)
			golden(t, "card-"+name, got)
			checkMessage(t, got)
			checkMessage(t, bot.RenderSpare(links{}, c))
		})
	}
}

func TestButtonsGoWithTheDecision(t *testing.T) {
	t.Parallel()
	for name, c := range cards() {
		want := "view_pipeline"
		switch {
		case c.Request.Status == approvals.Pending:
			want = "approve reject view_pipeline"
		case c.RetryOffered:
			want = "retry view_pipeline"
		}
		if c.BreakGlass {
			want += " break_glass"
		}
		if got := strings.Join(slacktest.Buttons(decodeMessage(t, bot.RenderCard(links{}, c))), " "); got != want {
			t.Errorf("%s has the buttons %q; want %q", name, got, want)
		}
	}
}

func TestBlockIDsChangeWithWhatTheCardShows(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	c := cards()["pending"]
	for range 3 {
		c.Request.Newer++
		for _, b := range decodeMessage(t, bot.RenderCard(links{}, c)).Blocks {
			id, _ := b["block_id"].(string)
			if id == "" || seen[id] {
				t.Errorf("block id %q is empty or was used before", id)
			}
			seen[id] = true
		}
	}
}

func TestReplies(t *testing.T) {
	t.Parallel()
	event := func(typ approvals.EventType, edit func(*approvals.Event)) approvals.Event {
		e := approvals.Event{Seq: 412, Type: typ, Time: "2026-11-23T09:50:00.000Z", Request: "REQUEST1", App: "myapp", Environment: "production", Actor: approvals.Actor{Kind: approvals.ActorPerson, ID: ana}}
		if edit != nil {
			edit(&e)
		}
		return e
	}
	data := func(pairs ...string) func(*approvals.Event) {
		return func(e *approvals.Event) {
			e.Data = approvals.Data{}
			for i := 0; i < len(pairs); i += 2 {
				e.Data[pairs[i]] = pairs[i+1]
			}
		}
	}
	r := released(request())
	r.Deploy.FinishedAt = r.ReleasedAt.Add(7 * time.Minute)
	events := map[string]approvals.Event{
		"requested": event(approvals.EventRequested, nil),
		"voted":     event(approvals.EventVoted, func(e *approvals.Event) { data("votes", "1", "needed", "1")(e); e.MFA = "totp" }),
		"approved":  event(approvals.EventApproved, data("until", "2026-11-23T10:05:00.000Z", "auto", "true")),
		"reminded":  event(approvals.EventReminded, func(e *approvals.Event) { data("votes", "1", "needed", "2")(e); e.People = []string{ana, bea} }),
		"by-hand":   event(approvals.EventApproved, data("until", "2026-11-23T10:05:00.000Z", "auto", "false")),
		"break-glass": event(approvals.EventBreakGlass, func(e *approvals.Event) {
			data("until", "2026-11-23T10:05:00.000Z", "auto", "true", "frozen", "Mon 07:00 (Europe/Berlin)")(e)
			e.MFA, e.Reason = "totp", "site is down, INC-7"
		}),
		"rejected":       event(approvals.EventRejected, func(e *approvals.Event) { e.Reason = "wait for <!channel>" }),
		"accepted":       event(approvals.EventAccepted, data("attempt", "1")),
		"ci-refused":     event(approvals.EventGateRefused, func(e *approvals.Event) { data("attempt", "2")(e); e.Reason = "403 Forbidden" }),
		"deploy-skipped": event(approvals.EventDeployFailed, func(e *approvals.Event) { data("job", "deploy")(e); e.Outcome = "skipped" }),
		"reopened":       event(approvals.EventReopened, nil),
		"expired":        event(approvals.EventExpired, func(e *approvals.Event) { e.Reason = approvals.FailNoDecision }),
		"expired-unused": event(approvals.EventExpired, func(e *approvals.Event) { e.Reason = approvals.FailWindowOver }),
		"delayed":        event(approvals.EventDelayed, func(e *approvals.Event) { e.Outcome = "503" }),
		"released":       event(approvals.EventReleased, nil),
		"deployed":       event(approvals.EventDeployed, data("jobs", "deploy")),
		"deploy-failed":  event(approvals.EventDeployFailed, func(e *approvals.Event) { data("job", "deploy")(e); e.Outcome = "failed" }),
		"not-approver":   event(approvals.EventClickRefused, func(e *approvals.Event) { e.Outcome, e.Reason = "approve", "not_approver" }),
		"wrong-code":     event(approvals.EventCodeFailed, func(e *approvals.Event) { e.Outcome = "wrong"; data("failures", "2")(e) }),
		"locked":         event(approvals.EventCodeLocked, data("until", "2026-11-23T10:14:00.000Z")),
		"superseded":     event(approvals.EventSuperseded, data("number", "128")),
		"card-posted":    event(approvals.EventCardPosted, func(*approvals.Event) {}),
		"modal-opened":   event(approvals.EventModalOpened, func(e *approvals.Event) { e.Outcome = "break_glass" }),
		"rejected-ended": event(approvals.EventRejected, func(e *approvals.Event) { e.Reason = "Wait for the migration." }),
		"bypassed-lost": event(approvals.EventBypassed, func(e *approvals.Event) {
			e.Actor, e.Reason = approvals.Actor{ID: "mallory"}, approvals.FailQuorumLost
			data("detail", "only 0 of 1 approvals still count")(e)
		}),
		"bypassed":      event(approvals.EventBypassed, func(e *approvals.Event) { e.Actor = approvals.Actor{ID: "mallory"} }),
		"gate-bypassed": event(approvals.EventGateBypassed, func(e *approvals.Event) { e.Actor = approvals.Actor{ID: "mallory"}; e.Outcome = "rejected" }),
		"gate-closed":   event(approvals.EventGateClosed, func(e *approvals.Event) { e.Outcome = "cancel_job" }),
		"asked":         event(approvals.EventVerified, nil),
		"stopped":       event(approvals.EventVerifyRefused, func(e *approvals.Event) { e.Outcome, e.Reason = "bypassed", "not_approved" }),
		"stopped-commit": event(approvals.EventVerifyRefused, func(e *approvals.Event) {
			e.Outcome, e.Reason = "released", "commit_not_approved"
			data("commit", "deadbeef<!channel>")(e)
		}),
		"stopped-expired":  event(approvals.EventVerifyRefused, func(e *approvals.Event) { e.Outcome, e.Reason = "expired", "approval_expired" }),
		"stopped-early":    event(approvals.EventVerifyRefused, func(e *approvals.Event) { e.Outcome, e.Reason = "approved", "not_approved" }),
		"stopped-rejected": event(approvals.EventVerifyRefused, func(e *approvals.Event) { e.Outcome, e.Reason = "rejected", "not_approved" }),
		"newer":            event(approvals.EventNewerWorkflow, data("workflow_id", "11111111-2222-4333-8444-555555555556")),
		"unknown":          event("thing.happened", func(e *approvals.Event) { e.Reason = "why" }),
	}
	events["rejected-known-starter"] = events["rejected"]
	events["approved-soon"], events["by-hand-soon"] = events["approved"], events["by-hand"]
	events["bypassed-approved"], events["stopped-approved"] = events["bypassed"], events["stopped"]
	commits := &approvals.Commits{
		Count: 7, Config: approvals.ConfigSame,
		Newest: []approvals.Commit{{Hash: revision, Subject: "Fix <!here>", Author: "alice"}, {Hash: previous, Subject: "Begin", Author: "Bob B."}},
	}
	events["requested-commits"] = events["requested"]
	events["commits-late"] = event(approvals.EventCommitsRead, func(e *approvals.Event) { e.Commits = commits })
	events["commits-refused"] = event(approvals.EventCommitsRead, func(e *approvals.Event) { e.Commits = &approvals.Commits{Config: approvals.ConfigOther} })
	report := func(outcome, reason string) approvals.Event {
		return event(approvals.EventDeployReport, func(e *approvals.Event) { e.Outcome, e.Reason = outcome, reason })
	}
	with := map[string][]approvals.Event{ // what lines tell, too
		"approved-by-vote":       {events["voted"]},
		"approved-by-last-vote":  {event(approvals.EventVoted, func(e *approvals.Event) { data("votes", "2", "needed", "2")(e); e.MFA = "totp" })},
		"released-after-call":    {events["accepted"]},
		"deployed-and-reported":  {report("succeeded", "")},
		"deployed-but-reported":  {report("failed", "exit status 1")},
		"deploy-failed-reported": {report("failed", "exit status 1")},
	}
	for name := range with {
		kind, _, _ := strings.Cut(name, "-")
		if kind == "deploy" {
			kind = "deploy-failed"
		}
		events[name] = events[kind]
	}
	now := monday.Add(20*time.Minute + 2*time.Second)
	for name, e := range events {
		t.Run(name, func(t *testing.T) {
			told := approvals.Told{Event: e, Request: r, With: with[name]}
			if name == "requested-commits" {
				told.Request.Commits = commits
			}
			switch name {
			case "bypassed", "stopped": // past the bot from the beginning
				told.Request = request()
			case "approved-soon", "by-hand-soon": // the gate is not on hold yet
				told.Request = approved(request(), ana)
			case "bypassed-approved", "stopped-approved":
				told.Request.Gate.ApprovedBy = "mallory"
			}
			if strings.HasSuffix(name, "-known-starter") {
				told.Starter = bea
			}
			if e.Type.Approves() {
				told.CheckpointSize, told.CheckpointRoot = 413, "Zk3vHj0gkP2qk6zY9H2JY5rQ8k1n2b3c4d5e6f7g8h0="
			}
			got := bot.RenderReply(links{}, told, now)
			golden(t, "reply-"+name, got)
			checkMessage(t, got)
			stray := bot.RenderStray(links{}, told, now.Add(time.Hour))
			checkMessage(t, stray)
			for _, want := range []string{"127", "Posted late"} {
				if !strings.Contains(string(stray), want) {
					t.Errorf("a late reply outside its thread does not say %q:\n%s", want, stray)
				}
			}
		})
	}
}

// Retry is pointed to while it is on the card, and not afterwards.
func TestRetryIsPointedToWhereItIsOffered(t *testing.T) {
	t.Parallel()
	told := approvals.Told{Request: approved(request(), ana)}
	told.Request.Status = approvals.Undeliverable
	told.Event = approvals.Event{Type: approvals.EventUndeliverable, Seq: 1, Time: "2026-11-23T09:50:00.000Z", Reason: approvals.FailRefused}
	for _, told.RetryOffered = range []bool{false, true} {
		if got := strings.Contains(string(bot.RenderReply(links{}, told, monday)), "Retry on the card"); got != told.RetryOffered {
			t.Errorf("Retry is pointed to: %t; want %t", got, told.RetryOffered)
		}
	}
}

func TestEveryEventHasWords(t *testing.T) {
	t.Parallel()
	for _, typ := range []approvals.EventType{
		approvals.EventExpired, approvals.EventCanceled, approvals.EventBypassed, approvals.EventUndeliverable, approvals.EventAttempt,
		approvals.EventEnrolled, approvals.EventReset, approvals.EventSealBroken, approvals.EventPersonRemoved, approvals.EventDeployReport,
		approvals.EventWaiting, approvals.EventReached, approvals.EventAnswers, approvals.EventClosing, approvals.EventRestored,
		approvals.EventEnrolLink, approvals.EventUnlocked, approvals.EventPersonAdded, approvals.EventPersonChanged, approvals.EventCodeLocked,
	} {
		told := approvals.Told{Event: approvals.Event{Type: typ, Seq: 1, Time: "2026-11-23T09:50:00.000Z", Actor: approvals.Actor{ID: ana}}, Request: request()}
		checkMessage(t, bot.RenderReply(links{}, told, monday))
		told.Request = approvals.Request{}
		checkMessage(t, bot.RenderStray(links{}, told, monday))
	}
}

// The channel hears when a recovery accepted what the gateway had not sealed.
func TestUnsealedLogIsTold(t *testing.T) {
	t.Parallel()
	for want, data := range map[string]approvals.Data{
		"pending have expired.\"": {"size": "13"},
		"expired. The log was changed from outside before: its 13 events are not the 11 that the gateway had sealed.": {"size": "13", "sealed": "11"},
	} {
		told := approvals.Told{Event: approvals.Event{Type: approvals.EventRecovered, Seq: 1, Time: "2026-11-23T09:50:00.000Z", Data: data}}
		if got := string(bot.RenderStray(links{}, told, monday)); !strings.Contains(got, want) {
			t.Errorf("got %s; want it to say %q", got, want)
		}
	}
}

func TestModals(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		action approvals.Action
		code   bool
	}{
		{"approve", approvals.ActionApprove, true}, {"reject", approvals.ActionReject, false}, {"reject-with-code", approvals.ActionReject, true},
		{"break-glass", approvals.ActionBreakGlass, true},
	} {
		got := bot.RenderModal(links{}, approvals.Prompt{Request: request(), NeedsCode: tt.code, Frozen: "Mon 07:00 (Europe/Berlin)"}, tt.action)
		raw, err := json.MarshalIndent(got, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		golden(t, "modal-"+tt.name, raw)
		checkView(t, got)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	codes := []approvals.RefusalCode{
		approvals.RefusedUnknownRequest, approvals.RefusedAppGone, approvals.RefusedWorkspace,
		approvals.RefusedNotAdmin, approvals.RefusedNotApprover, approvals.RefusedNotBreakGlass, approvals.RefusedStanding, approvals.RefusedStalePerson, approvals.RefusedStaleGroup,
		approvals.RefusedSelf, approvals.RefusedNoLogin, approvals.RefusedUnknownStarter, approvals.RefusedFrozen, approvals.RefusedVoted, approvals.RefusedNoAuthenticator, approvals.RefusedDisabled,
		approvals.RefusedUnreadable, approvals.RefusedOnHold, approvals.RefusedReason, approvals.RefusedCodeMalformed, approvals.RefusedCodeWrong,
		approvals.RefusedCodeUsed, approvals.RefusedCodeWaiting, "something_new",
	}
	var out strings.Builder
	action := approvals.ActionApprove
	show := func(why *approvals.Refusal) {
		plain, mrkdwn := bot.RenderRefusal(why, "U0CARL", action, monday)
		fmt.Fprintf(&out, "%s %s\n  %s\n  %s\n", why.Code, why.Status, plain, mrkdwn)
		checkView(t, *bot.RenderEnded(why, "U0CARL", monday))
	}
	for _, code := range codes {
		show(&approvals.Refusal{
			Code: code, App: "myapp", Who: []string{ana, bea, admins}, Detail: "the account is a guest", Group: admins, Number: 128,
			At: monday.Add(-18 * time.Minute), Until: monday.Add(12 * time.Second), Left: 3,
		})
	}
	for _, status := range []approvals.Status{approvals.Pending, approvals.Approved, approvals.Released, approvals.Rejected} {
		show(&approvals.Refusal{Code: approvals.RefusedTaken, App: "myapp", Status: status, Number: 128})
	}
	for _, status := range []approvals.Status{approvals.Expired, approvals.Undeliverable} {
		show(&approvals.Refusal{Code: approvals.RefusedClosed, App: "myapp", Status: status, By: bea, At: monday, Reason: "403 Forbidden", Retry: true})
	}
	for _, who := range [][]string{nil, {"U0CARL"}, {"U0CARL", ana}} { // carl is the starter
		show(&approvals.Refusal{Code: approvals.RefusedSelf, App: "myapp", Who: who})
	}
	for _, status := range approvals.Statuses() {
		show(&approvals.Refusal{Code: approvals.RefusedClosed, App: "myapp", Status: status, By: bea, At: monday, Reason: "wait", Number: 128})
	}
	for _, status := range []approvals.Status{approvals.Released, approvals.Undeliverable} {
		show(&approvals.Refusal{Code: approvals.RefusedClosed, App: "myapp", Status: status, By: bea, At: monday, Emergency: true})
	}
	action = approvals.ActionReject
	show(&approvals.Refusal{Code: approvals.RefusedOnHold, App: "myapp", Detail: "the clock is off"})
	golden(t, "refusals", []byte(out.String()))
}

func TestLinks(t *testing.T) {
	t.Parallel()
	const gitHub, bitbucket = "https://github.com/acme/myapp", "https://bitbucket.org/acme/myapp"
	for _, tt := range []struct{ project, target, repository string }{
		{"gh/acme/myapp", "", gitHub},
		{"bb/acme/myapp", "", bitbucket},
		{"gh/acme/myapp", "https://github.com/acme/other", gitHub},
		{"gh/acme", "", ""},
		{"gh/../myapp", "", ""},
		{"gh/acme/my app", "", ""},
		{"gh/acme/x/y", "", ""},
		{"gh/acme", gitHub, ""},
		{"circleci/4tXr/9pLk", "", ""},
		{"circleci/4tXr/9pLk", "https://github.com/acme/myapp", gitHub},
		{"circleci/4tXr/9pLk", "https://github.com/acme/myapp.git", gitHub},
		{"circleci/4tXr/9pLk", "git@github.com:acme/myapp.git", gitHub},
		{"circleci/4tXr/9pLk", "ssh://git@bitbucket.org/acme/myapp.git", bitbucket},
		{"circleci/4tXr/9pLk", "https://gitlab.com/acme/myapp", ""},
		{"circleci/4tXr/9pLk", "https://github.com.example/acme/myapp", ""},
		{"circleci/4tXr/9pLk", "https://mallory@github.com/acme/myapp", ""},
		{"circleci/4tXr/9pLk", "https://github.com/acme/myapp/pull/1", ""},
		{"circleci/4tXr/9pLk", "https://github.com/../myapp", ""},
		{"circleci/4tXr/9pLk", "https://github.com/acme/my|app>", ""},
	} {
		var wantCommit, wantCompare string
		switch tt.repository {
		case gitHub:
			wantCommit, wantCompare = gitHub+"/commit/"+revision, gitHub+"/compare/"+previous+"..."+revision
		case bitbucket:
			wantCommit, wantCompare = bitbucket+"/commits/"+revision, bitbucket+"/branches/compare/"+revision+"%0D"+previous
		}
		commit, compare := bot.Compare(approvals.Facts{Project: tt.project, Target: tt.target}, previous, revision)
		if commit != wantCommit || compare != wantCompare {
			t.Errorf("%s, %q: got %q and %q; want %q and %q", tt.project, tt.target, commit, compare, wantCommit, wantCompare)
		}
	}
	if commit, _ := bot.Compare(approvals.Facts{Project: "gh/acme/myapp"}, previous, "main"); commit != "" {
		t.Errorf("a branch name became a commit link: %s", commit)
	}
}

// golden compares with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, append(got, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.TrimSpace(string(want)), strings.TrimSpace(string(got))); diff != "" {
		t.Errorf("%s differs (-want +got):\n%s", name, diff)
	}
}

func decodeMessage(t testing.TB, raw []byte) slacktest.Message {
	t.Helper()
	var m slacktest.Message
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatalf("decode %s: %v", raw, err)
	}
	return m
}

// checkMessage holds a message against Slack's limits.
func checkMessage(t testing.TB, raw []byte) {
	t.Helper()
	m := decodeMessage(t, raw)
	if faults := slacktest.CheckBlocks(slacktest.InMessage, m.Blocks); len(faults) > 0 {
		t.Errorf("Slack would refuse:\n%s\n%s", strings.Join(faults, "\n"), raw[:min(len(raw), 500)])
	}
	if n := len([]rune(m.Text)); n == 0 || n > 4000 {
		t.Errorf("the text has %d characters; want 1 to 4,000", n)
	}
}

func checkView(t testing.TB, v slack.ModalViewRequest) {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(raw, &fields); err != nil {
		t.Fatal(err)
	}
	if faults := slacktest.CheckView(slacktest.InModal, fields); len(faults) > 0 {
		t.Errorf("Slack would refuse:\n%s\n%s", strings.Join(faults, "\n"), raw[:min(len(raw), 500)])
	}
}
