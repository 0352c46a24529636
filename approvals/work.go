package approvals

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Kind names what is to be done.
type Kind string

// The kinds of work.
const (
	WorkFollow  Kind = "follow"  // follow the workflow Subject at the CI provider
	WorkCard    Kind = "card"    // bring the card of request Subject to its present state
	WorkThread  Kind = "thread"  // tell the events of request Subject that the thread lacks
	WorkNotice  Kind = "notice"  // tell one event outside a thread; see [ParseNotice]
	WorkAlarm   Kind = "alarm"   // tell the channel Subject what was found wrong with the log
	WorkPeople  Kind = "people"  // ask Slack who people and groups are
	WorkCommits Kind = "commits" // ask the code host about request Subject
	WorkTokens  Kind = "tokens"  // warn of tokens that expire soon
	WorkRest    Kind = "rest"    // nothing: a service is left alone until it is due; see [Rests]
)

// Families of lanes. Each has workers of its own, so that one slow service
// never holds back the other.
const (
	FamilyCI    = "circleci"
	FamilySlack = "slack"
	FamilyCode  = "codehost"
	FamilyLocal = "local"
)

// Work is something that is due outside the database. Kind and Subject are its
// key: asking twice is asking once. It says what has to be brought up to date,
// never what to write there: that is read when the work is done.
type Work struct {
	Kind    Kind
	Subject string
	Lane    string // "<family>:<rest>"; see [SlackLane]
	Rank    int    // lower goes first within a lane
	Due     time.Time
	Note    string // what the last delivery left for the next one; it decides nothing
	Attempt int    // how often it was claimed since it last succeeded, from 1

	Claim string // names the claim; the store's own
}

// Lane is work that shares a service, a channel or an app.
type Lane struct {
	Name string
	Due  time.Time // the earliest
}

// Family is the first part of its name.
func (l Lane) Family() string {
	family, _, _ := strings.Cut(l.Name, ":")
	return family
}

// Ranks within a lane of Slack: outcomes are told before remarks.
const (
	RankOutcome = iota
	RankNotice
	RankRemark
)

// SlackLane is the lane of messages to a channel about an app. Lanes of one
// channel take turns, so that no app starves another.
func SlackLane(channel, app string) string { return FamilySlack + ":" + channel + "/" + app }

// Traffic is what the work of a Slack lane does to its channel.
type Traffic string

// Values of [Traffic]. Each has lanes of its own: a new card, for which people wait,
// never stands behind what a thread is told, and Slack counts changes to messages
// apart from new ones.
const (
	Lines   Traffic = ""     // tells something
	Cards   Traffic = "new"  // posts cards
	Updates Traffic = "card" // changes cards that stand already
)

// Channel is the channel, or the person, that work of a Slack lane goes to, and what
// it does there.
func Channel(lane string) (channel string, t Traffic) {
	_, rest, _ := strings.Cut(lane, ":")
	channel, app, _ := strings.Cut(rest, "/")
	_, kind, _ := strings.Cut(app, "/")
	return channel, Traffic(kind)
}

func followWork(workflow string, due time.Time, rank int) Work {
	return Work{Kind: WorkFollow, Subject: workflow, Lane: FamilyCI + ":workflows", Due: due, Rank: rank}
}

// Ranks of followers, which say whose look goes first.
const (
	rankUrgent = iota // a decision waits for its gate
	rankDue           // a time limit is over, or a gate has to be stopped
	rankOpen          // a request is open, or its deploy goes on
	rankClosed        // all are closed, and a late change would be told
)

func cardWork(r Request) Work {
	t := Cards
	if r.Slack.TS != "" {
		t = Updates
	}
	return Work{Kind: WorkCard, Subject: r.ID, Lane: SlackLane(r.Channel, r.App) + "/" + string(t), Rank: RankOutcome}
}

func threadWork(r Request, rank int) Work {
	return Work{Kind: WorkThread, Subject: r.ID, Lane: SlackLane(r.Channel, r.App), Rank: rank}
}

// noticeWork tells an event in a channel or, when to is a person, to that person.
func noticeWork(e Event, to string) Work {
	rank := RankNotice
	if strings.HasPrefix(to, "U") || strings.HasPrefix(to, "W") {
		rank = RankRemark
	}
	return Work{Kind: WorkNotice, Subject: fmt.Sprintf("%d %s", e.Seq, to), Lane: SlackLane(to, e.App), Rank: rank}
}

// ParseNotice reads the subject of [WorkNotice]: the number of the event and
// the channel or person that it is for.
func ParseNotice(subject string) (seq int64, to string, err error) {
	_, err = fmt.Sscanf(subject, "%d %s", &seq, &to)
	return seq, to, err
}

func peopleWork() Work { return Work{Kind: WorkPeople, Lane: FamilyLocal + ":people"} }

func commitsWork(r Request) Work {
	return Work{Kind: WorkCommits, Subject: r.ID, Lane: FamilyCode + ":commits"}
}

func tokensWork() Work { return Work{Kind: WorkTokens, Lane: FamilyLocal + ":tokens"} }

// Rests are the times until which calls are not made, because the service answered 429
// and said for how long. The calls are a method of Slack, or [AllCalls].
type Rests map[string]time.Time

// AllCalls are those of a service that makes no difference between them.
const AllCalls = "calls"

// longestRest is for how long an answer to one node holds back the others.
const longestRest = time.Hour

const restLanes = "rest/" // begins the names of lanes of WorkRest, after the family

// restWork makes a rest known to all nodes: whoever lists the lanes of the family sees
// it until its time has come. The time is a part of the name, because work that is
// asked for again is only brought forward.
func restWork(family, calls string, until time.Time) Work {
	lane := family + ":" + restLanes + calls + "/" + itoa(until.UnixMilli())
	return Work{Kind: WorkRest, Subject: lane, Lane: lane, Due: until}
}

// rest says which calls rest until the lane is due; ok is false for other lanes.
func (l Lane) rest() (calls string, ok bool) {
	_, name, _ := strings.Cut(l.Name, ":")
	name, ok = strings.CutPrefix(name, restLanes)
	calls, _, _ = strings.Cut(name, "/")
	return calls, ok
}

// Backoff is the pause before the next try: doubling from base to most, the
// attempt counted from 1.
func Backoff(attempt int, base, most time.Duration) time.Duration {
	d := base
	for i := 1; i < attempt && d < most; i++ {
		d *= 2
	}
	return min(d, most)
}

// Pause waits for d, in simulated time or real. It reports whether ctx still goes on.
// For no time it makes no timer: one of 0 in simulated time has crashed Go's race
// detector (runtime.maybeRunChan).
func Pause(ctx context.Context, d time.Duration) bool {
	if d > 0 {
		select {
		case <-ctx.Done():
		case <-time.After(d):
		}
	}
	return ctx.Err() == nil
}
