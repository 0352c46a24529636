package approvals

import "time"

// Kind names what an effect does.
type Kind string

// The kinds of effects.
const (
	CardPost      Kind = "card.post"      // post the card of Request
	CardUpdate    Kind = "card.update"    // render the card of Request anew
	ThreadReply   Kind = "thread.reply"   // tell event Seq below the card of Request
	Notice        Kind = "notice"         // tell event Seq in the channel or to a person, see Payload
	GateRelease   Kind = "gate.release"   // approve the gate of Request
	GateClose     Kind = "gate.close"     // deal with the gate that will not be approved
	Watch         Kind = "watch"          // look at the jobs of the workflow in Payload
	RerunWatch    Kind = "rerun.watch"    // look for a newer workflow whose gate waits unasked
	Deadline      Kind = "deadline"       // judge the expiry of Request, and the end of Retry
	PeopleRefresh Kind = "people.refresh" // ask Slack who people and groups are
	TokenExpiry   Kind = "token.expiry"   // warn of tokens that run out
)

// Families of lanes. Each has workers of its own, so that a slow or dead
// neighbour never holds back another family.
const (
	FamilyCI    = "circleci"
	FamilySlack = "slack"
	FamilyWatch = "watch"
	FamilyLocal = "local"
)

// Effect is one piece of work outside the database, recorded in the transaction
// that caused it.
type Effect struct {
	ID       int64
	Kind     Kind
	Lane     string // "<family>:<name>": one effect of a lane at a time
	Chain    string // effects with the same chain and lane are delivered in order; empty = no order
	Dedupe   string // at most one row; enqueuing again brings it forward
	Priority int    // lower goes first within a lane
	Request  string
	Seq      int64  // the event to tell
	Payload  string // no secrets
	Due      time.Time
	Attempt  int       // number of this claim, from 1; also the fence
	Since    time.Time // when it was enqueued
}

// Outcome is what became of one delivery.
type Outcome struct {
	// Again: deliver once more After this long. Otherwise the effect is done.
	Again bool
	After time.Duration
	// Lane: what is behind it in its lane would fail like it. It keeps its place,
	// and the lane rests for After. Goes with Again.
	Lane bool
	// Err says why it has to be repeated, or why it was given up; for the log.
	Err error
	// Record is run in the transaction that ends this delivery, if not nil.
	Record func(tx Tx, now time.Time) error
}

// Done ends an effect.
func Done() Outcome { return Outcome{} }

// Again repeats an effect after a pause.
func Again(after time.Duration, err error) Outcome {
	return Outcome{Again: true, After: after, Err: err}
}

// AgainInOrder repeats an effect after a pause in which its lane rests: the other
// side is down for all of them, and afterwards they go in the order in which they
// came.
func AgainInOrder(after time.Duration, err error) Outcome {
	return Outcome{Again: true, After: after, Lane: true, Err: err}
}

// Dead gives an effect up.
func Dead(err error) Outcome { return Outcome{Err: err} }

// Backoff is the pause before the next try: doubling from base to most, the
// attempt counted from 1. The caller adds jitter.
func Backoff(attempt int, base, most time.Duration) time.Duration {
	d := base
	for i := 1; i < attempt && d < most; i++ {
		d *= 2
	}
	return min(d, most)
}

func cardPost(r Request) Effect {
	return Effect{Kind: CardPost, Lane: slackLane(r), Chain: r.ID, Request: r.ID, Dedupe: "card.post:" + r.ID}
}

func cardUpdate(r Request) Effect {
	return Effect{Kind: CardUpdate, Lane: slackLane(r), Request: r.ID, Dedupe: "card.update:" + r.ID}
}

// reply tells an event in the thread. Votes and decisions come as soon as cards,
// whose channel they share, and before remarks.
func reply(r Request, e Event) Effect {
	priority := 2
	switch e.Type {
	case EventVoted, EventApproved, EventRejected, EventReleased, EventBypassed, EventUndeliverable:
		priority = 0
	}
	return Effect{Kind: ThreadReply, Lane: slackLane(r), Chain: r.ID, Priority: priority, Request: r.ID, Seq: e.Seq}
}

func gateRelease(r Request) Effect {
	return Effect{Kind: GateRelease, Lane: FamilyCI + ":" + r.ID, Request: r.ID, Dedupe: "gate.release:" + r.ID}
}

func gateClose(r Request, due time.Time) Effect {
	return Effect{Kind: GateClose, Lane: FamilyCI + ":" + r.ID, Request: r.ID, Dedupe: "gate.close:" + r.ID, Due: due}
}

func deadline(r Request) Effect {
	return Effect{Kind: Deadline, Lane: FamilyLocal + ":deadline", Request: r.ID, Dedupe: "deadline:" + r.ID, Due: r.ExpiresAt}
}

// retryEnds is the deadline of a request that can be brought back.
func retryEnds(r Request, due time.Time) Effect {
	e := deadline(r)
	e.Due = due
	return e
}

// watchLanes is how many workflows are looked at side by side, so that a slow
// provider does not slow the round down to one answer at a time.
const watchLanes = 4

func watch(workflowID string, due time.Time) Effect {
	lane := 0
	for _, c := range []byte(workflowID) {
		lane = (lane*31 + int(c)) % watchLanes
	}
	return Effect{Kind: Watch, Lane: FamilyWatch + ":" + string(rune('0'+lane)), Payload: workflowID, Dedupe: "watch:" + workflowID, Due: due}
}

func peopleRefresh() Effect {
	return Effect{Kind: PeopleRefresh, Lane: FamilyLocal + ":people", Dedupe: "people.refresh"}
}

// Targets of a [Notice].
const (
	NoticeChannel = "channel" // Payload "channel:<id>"
	NoticePerson  = "person"  // Payload "person:<slack user>"
)

func noticeChannel(channel string, e Event) Effect {
	return Effect{Kind: Notice, Lane: FamilySlack + ":" + channel, Priority: 1, Request: e.Request, Seq: e.Seq, Payload: NoticeChannel + ":" + channel}
}

func noticePerson(slackUser string, e Event) Effect {
	return Effect{Kind: Notice, Lane: FamilySlack + ":" + slackUser, Priority: 2, Seq: e.Seq, Payload: NoticePerson + ":" + slackUser}
}

func slackLane(r Request) string { return FamilySlack + ":" + r.Channel }
