package approvals

import (
	"encoding/json"
	"time"
)

// EventType names what happened. One spelling each; auditors filter by it.
type EventType string

// The events of a request, in the order of its life.
const (
	EventRequested     EventType = "request.created"
	EventRefused       EventType = "request.refused"
	EventCardPosted    EventType = "card.posted"
	EventModalOpened   EventType = "modal.opened"
	EventClickRefused  EventType = "decision.refused"
	EventCodeFailed    EventType = "code.failed"
	EventCodeLocked    EventType = "code.locked"
	EventVoted         EventType = "vote.accepted"
	EventApproved      EventType = "decision.approved"
	EventRejected      EventType = "decision.rejected"
	EventAttempt       EventType = "gate.attempt"
	EventAccepted      EventType = "gate.accepted"
	EventGateRefused   EventType = "gate.refused"
	EventDelayed       EventType = "gate.delayed"
	EventReleased      EventType = "request.released"
	EventDeployed      EventType = "request.deployed"
	EventDeployFailed  EventType = "request.deploy_failed"
	EventExpired       EventType = "request.expired"
	EventSuperseded    EventType = "request.superseded"
	EventCanceled      EventType = "request.canceled"
	EventBypassed      EventType = "request.bypassed"
	EventUndeliverable EventType = "request.undeliverable"
	EventGateClosed    EventType = "gate.closed"
	EventGateBypassed  EventType = "gate.bypassed"
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

// Event is one record of the log. Its JSON is the leaf, byte for byte: the
// bytes that are stored are those that were hashed and those that are exported.
// It never holds a code, a TOTP step, a secret or a token.
type Event struct {
	Version     int               `json:"v"`
	Seq         int64             `json:"seq"`
	Prev        string            `json:"prev"` // hash of the leaf before, base64
	Time        string            `json:"time"` // UTC, milliseconds
	Type        EventType         `json:"type"`
	Request     string            `json:"request,omitempty"`
	App         string            `json:"app,omitempty"`
	Environment string            `json:"environment,omitempty"`
	Actor       Actor             `json:"actor"`
	Source      string            `json:"source,omitempty"` // slack, api, operator, circleci, timer
	Outcome     string            `json:"outcome,omitempty"`
	Reason      string            `json:"reason,omitempty"`
	Facts       string            `json:"facts,omitempty"` // hash of the facts
	MFA         string            `json:"mfa,omitempty"`
	Data        map[string]string `json:"data,omitempty"`
}

// Kinds of actors.
const (
	ActorPerson   = "person"
	ActorToken    = "token"
	ActorOperator = "operator"
	ActorCI       = "circleci"
	ActorSystem   = "system"
)

// Actor is who caused an event: a person in Slack, a token, the operator, a
// login at the CI provider, or the system itself.
type Actor struct {
	Kind string `json:"kind"`
	ID   string `json:"id,omitempty"`
	Team string `json:"team,omitempty"`
}

// At is the time of the event.
func (e Event) At() time.Time {
	t, err := time.Parse(timeFormat, e.Time)
	if err != nil {
		return time.Time{}
	}
	return t
}

const timeFormat = "2006-01-02T15:04:05.000Z"

// line renders the leaf.
func (e Event) line() ([]byte, error) { return json.Marshal(e) }

// ParseEvent reads a stored leaf.
func ParseEvent(line []byte) (Event, error) {
	var e Event
	err := json.Unmarshal(line, &e)
	return e, err
}
