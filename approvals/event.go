package approvals

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// EventType names what happened. One spelling each; auditors filter by it.
type EventType string

// The events of a request, in the order of its life.
const (
	EventRequested     EventType = "request.created"
	EventRefused       EventType = "request.refused"
	EventCommitsRead   EventType = "commits.read" // what the code host says of the commit
	EventCardPosted    EventType = "card.posted"
	EventModalOpened   EventType = "modal.opened"
	EventClickRefused  EventType = "decision.refused"
	EventCodeFailed    EventType = "code.failed"
	EventCodeLocked    EventType = "code.locked"
	EventReopened      EventType = "request.reopened"
	EventReminded      EventType = "request.reminded" // People can still approve
	EventVoted         EventType = "vote.accepted"
	EventApproved      EventType = "decision.approved"
	EventRejected      EventType = "decision.rejected"
	EventBreakGlass    EventType = "decision.break_glass" // one person decided alone, in an emergency
	EventWaiting       EventType = "gate.waiting"         // the gate is not on hold yet, although the request is approved
	EventReached       EventType = "gate.reached"         // now it is
	EventAttempt       EventType = "gate.attempt"
	EventAccepted      EventType = "gate.accepted"
	EventGateRefused   EventType = "gate.refused"
	EventDelayed       EventType = "gate.delayed" // CircleCI does not answer
	EventAnswers       EventType = "gate.answers" // now it does again
	EventReleased      EventType = "request.released"
	EventDeployed      EventType = "request.deployed"
	EventDeployFailed  EventType = "request.deploy_failed"
	EventExpired       EventType = "request.expired"
	EventSuperseded    EventType = "request.superseded"
	EventCanceled      EventType = "request.canceled"
	EventBypassed      EventType = "request.bypassed"
	EventUndeliverable EventType = "request.undeliverable"
	EventRestored      EventType = "request.restored" // it was approved in a backup that was restored
	EventClosing       EventType = "gate.closing"     // on_close is about to act on the gate
	EventGateClosed    EventType = "gate.closed"
	EventGateBypassed  EventType = "gate.bypassed"
	EventGateEnded     EventType = "gate.ended"     // the gate of a closed request never opens any more
	EventVerified      EventType = "verify.passed"  // a deploy job asked, and may deploy: the first time of each round
	EventVerifyRefused EventType = "verify.refused" // a deploy job asked and was told not to deploy
	EventDeployReport  EventType = "deploy.reported"
	EventNewerWorkflow EventType = "workflow.newer"
)

// The events of people, tokens, keys and the process.
const (
	EventPersonAdded     EventType = "person.added"
	EventPersonChanged   EventType = "person.changed"
	EventPersonRemoved   EventType = "person.removed"
	EventEnrolled        EventType = "authenticator.enrolled"
	EventEnrolLink       EventType = "authenticator.link"
	EventUnlocked        EventType = "authenticator.unlocked"
	EventReset           EventType = "authenticator.reset"
	EventSealBroken      EventType = "authenticator.unreadable"
	EventTokenCreated    EventType = "token.created"
	EventTokenRevoked    EventType = "token.revoked"
	EventTokenExpiring   EventType = "token.expiring"
	EventKeysRotated     EventType = "keys.rotated"
	EventLogExported     EventType = "log.exported"
	EventStarted         EventType = "process.started"
	EventStopped         EventType = "process.stopped"
	EventRecovered       EventType = "process.recovered"
	EventSettingsChanged EventType = "settings.changed"
)

// becomes lists the status that an event leads to.
var becomes = map[EventType]Status{
	EventReopened: Pending, EventApproved: Approved, EventBreakGlass: Approved, EventReleased: Released, EventDeployed: Deployed, EventDeployFailed: DeployFailed,
	EventRejected: Rejected, EventExpired: Expired, EventSuperseded: Superseded, EventCanceled: Canceled, EventBypassed: Bypassed,
	EventUndeliverable: Undeliverable,
}

// Approves reports whether the event is the decision to deploy.
func (t EventType) Approves() bool { return t == EventApproved || t == EventBreakGlass }

// Event is one record of the log. Its JSON is the leaf, byte for byte: the
// bytes that are stored are those that were hashed and those that are exported.
// It never holds a code, a TOTP step, a secret, a token or the metadata that CI
// sent.
type Event struct {
	Version     int       `json:"v"`
	Seq         int64     `json:"seq"`
	Prev        string    `json:"prev"` // hash of the leaf before, base64
	Time        string    `json:"time"` // UTC, milliseconds
	Type        EventType `json:"type"`
	Request     string    `json:"request,omitempty"`
	App         string    `json:"app,omitempty"`
	Environment string    `json:"environment,omitempty"`
	Actor       Actor     `json:"actor"`
	Source      string    `json:"source,omitempty"` // slack, api, operator, circleci, timer
	Outcome     string    `json:"outcome,omitempty"`
	Reason      string    `json:"reason,omitempty"`
	Facts       string    `json:"facts,omitempty"` // hash of the facts
	MFA         string    `json:"mfa,omitempty"`
	Data        Data      `json:"data,omitempty"`
	People      []string  `json:"people,omitempty"` // whose votes decided, or do not count any more
	Asked       *Asked    `json:"asked,omitempty"`  // of request.created
	Granted     *Granted  `json:"granted,omitempty"`
	Commits     *Commits  `json:"commits,omitempty"` // of commits.read
	// Settings lists what settings.changed found.
	Settings []SettingChange `json:"settings,omitempty"`
}

// Data holds what only some events have, by name.
type Data map[string]string

// Asked is what a request asks for, and what was agreed when it was made. Later
// changes of the settings do not change it.
type Asked struct {
	Number      int64           `json:"number"`
	Facts       Facts           `json:"facts"`
	Message     string          `json:"message,omitempty"`
	Metadata    string          `json:"metadata,omitempty"` // SHA-256 of ci_metadata, hex
	JobID       string          `json:"job_id,omitempty"`   // the job that filed the request, if it said so
	Requester   Requester       `json:"requester"`
	Project     string          `json:"project"`
	GateName    string          `json:"gate"`
	Channel     string          `json:"channel"`
	PendingTTL  time.Duration   `json:"pending_ttl"` // nanoseconds
	AutoApprove bool            `json:"auto_approve"`
	Required    int             `json:"required"`
	OnClose     OnClose         `json:"on_close"`
	DeployJobs  []string        `json:"deploy_jobs,omitempty"`
	Last        *DeployedBefore `json:"last_deployed,omitempty"`
	Newer       int64           `json:"newer,omitempty"` // number of a newer request that was open
}

// DeployedBefore is what was deployed last to the same place when a request was
// made. All of it is empty when the log could not tell at that moment.
type DeployedBefore struct {
	Revision    string    `json:"revision,omitempty"`
	At          time.Time `json:"at,omitzero"`
	Config      Digest    `json:"config_sha256"`
	SetupConfig Digest    `json:"setup_config_sha256,omitempty"`
}

// SettingChange is a setting of an app and environment that has another effective
// value than at the start before. From is empty when the app or environment is new,
// To when it is gone. Settings hold no secrets.
type SettingChange struct {
	App         string `json:"app"`
	Environment string `json:"environment"`
	Key         string `json:"key"`
	From        string `json:"from"`
	To          string `json:"to"`
}

// Granted is the right that token.created gives.
type Granted struct {
	Name    string    `json:"name"`
	Role    Role      `json:"role"`
	Apps    []string  `json:"apps"` // null = all
	Hash    string    `json:"hash"` // SHA-256 of the token's text, hex
	Expires time.Time `json:"expires"`
}

// Kinds of actors.
const (
	ActorPerson   = "person"
	ActorToken    = "token"
	ActorJob      = "ci" // a CI job that proved who it is; its id is ci:<project>/<workflow>
	ActorOperator = "operator"
	ActorCI       = "circleci"
	ActorCodeHost = "github"
	ActorSystem   = "system"
)

// Actor is who caused an event: a person in Slack, a token, a CI job, the operator
// (see [Operator]), a login at the CI provider, or the system itself.
type Actor struct {
	Kind string `json:"kind"`
	ID   string `json:"id,omitempty"`
	Team string `json:"team,omitempty"`
}

// At is the time of the event.
func (e Event) At() time.Time { return moment(e.Time) }

const timeFormat = "2006-01-02T15:04:05.000Z"

// line renders the leaf.
func (e Event) line() ([]byte, error) { return json.Marshal(e) }

// ParseEvent reads a stored leaf.
func ParseEvent(line []byte) (Event, error) {
	var e Event
	if err := json.Unmarshal(line, &e); err != nil {
		return Event{}, fmt.Errorf("read event: %w", err)
	}
	return e, nil
}

func parseEvents(lines [][]byte) ([]Event, error) {
	out := make([]Event, len(lines))
	for i, line := range lines {
		var err error
		if out[i], err = ParseEvent(line); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// subject is whose history the event belongs to: that of a request, a person or
// a token. Other events have none.
func (e Event) subject() string {
	switch {
	case e.Request != "":
		return e.Request
	case e.Data["user"] != "" && e.Type != EventSealBroken:
		return subjectOf(keptPerson, e.Data["user"])
	case e.Data["token"] != "" && e.Type != EventTokenExpiring:
		return subjectOf(keptToken, e.Data["token"])
	}
	return ""
}

// Kinds of what has a history beside requests. Their states are kept as rows.
const (
	keptPerson = "person"
	keptToken  = "token"
)

func subjectOf(kind, id string) string { return kind + "/" + id }

// number reads a whole number, 0 when there is none.
func (d Data) number(name string) int {
	n, _ := strconv.Atoi(d[name])
	return n
}

// moment reads a time, zero when there is none.
func (d Data) moment(name string) time.Time { return moment(d[name]) }

func moment(text string) time.Time {
	t, _ := time.Parse(timeFormat, text)
	return t
}

// told says whether the thread of a request tells the event, and with which rank.
func (e Event) told() (rank int, told bool) {
	if to := becomes[e.Type]; to != "" && to != Pending {
		return RankOutcome, true
	}
	switch e.Type {
	case EventVoted:
		return RankOutcome, true
	case EventGateBypassed:
		return RankNotice, true
	case EventRequested, EventReminded, EventCodeFailed, EventDelayed, EventReopened, EventNewerWorkflow, EventVerified:
		return RankRemark, true
	case EventAccepted, EventGateRefused, EventGateClosed:
		return RankRemark, e.Data["again"] == ""
	case EventDeployReport:
		return RankRemark, e.Data["verified"] == "" // the answer that let it start is told
	case EventVerifyRefused:
		return RankNotice, e.Data["count"] == ""
	case EventCommitsRead:
		return RankRemark, e.Data["late"] != "" // the first line tells it otherwise
	case EventClickRefused:
		why := Refusal{Code: RefusalCode(e.Reason)}
		return RankRemark, e.Data["count"] == "" && why.AboutRight()
	}
	return 0, false
}

// anchored reports whether the line that tells the event shows the root of the
// tree that ends with it: those of the decision and of every close do.
func (e Event) anchored() bool {
	to := becomes[e.Type]
	return to != "" && to != Pending && to != Released
}

// about starts an event of a request.
func about(r Request, t EventType, by Actor, source string) Event {
	return Event{Type: t, Request: r.ID, App: r.App, Environment: r.Environment, Actor: by, Source: source}
}

func itoa[T ~int | ~int64](n T) string { return strconv.FormatInt(int64(n), 10) }
