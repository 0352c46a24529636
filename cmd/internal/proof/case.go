package proof

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
)

// Case is all that can be known of one request from outside. Gather it while
// things move in this order: Slack, the tries, status and events. Then what is
// told or tried has its event.
type Case struct {
	ID     string
	Status approvals.Status
	Events []approvals.Event // oldest first

	Required int               // approvals that it needs
	Auto     bool              // the gateway approves the gate
	OnClose  approvals.OnClose // what happens to a gate that will not be approved
	// Emergency lists who may release in an emergency.
	Emergency []string

	Cards    []slacktest.Message            // channel messages marked as the card, as they are now
	Thread   []slacktest.Message            // replies below the recorded card, oldest first
	Channel  []slacktest.Message            // what stands in the card's channel outside of threads, oldest first
	DMs      map[string][]slacktest.Message // by person: of those whose authenticators were locked
	Tries    []circlecitest.Approval
	Released []time.Time // when approve calls by API arrived at the workflow
	Self     string      // our user id at CircleCI
	Gate     string      // true status of the gate
	GateBy   string      // login that approved it

	// RetryUntil is when Retry ends, zero where nobody waits for that.
	RetryUntil time.Time
	// AskedAgain: a newer request was made for the same gate, and tells what becomes
	// of it.
	AskedAgain bool
	// Blind: Slack's history may not be read, so that an unknown outcome may lead
	// to a second message.
	Blind bool
}

// Read sorts the messages of the card's channel, taken before status and events,
// by what they are to the request; ts is its recorded card, "" while there is none.
func (c *Case) Read(messages []slacktest.Message, ts string) {
	for _, m := range messages {
		switch {
		case IsCard(m, c.ID):
			c.Cards = append(c.Cards, m)
		case ts != "" && m.ThreadTS == ts:
			c.Thread = append(c.Thread, m)
		case m.ThreadTS == "":
			c.Channel = append(c.Channel, m)
		}
	}
	// People follow the card that the gateway knows.
	for i, m := range c.Cards {
		if m.TS == ts {
			c.Cards[0], c.Cards[i] = c.Cards[i], c.Cards[0]
		}
	}
}

// Attempted is the newest attempt at or before a time; zero when there is none. An
// approve call belongs to the newest attempt of all requests for its gate.
func (c *Case) Attempted(at time.Time) (newest time.Time) {
	for _, e := range c.Events {
		if e.Type == approvals.EventAttempt && !e.At().After(at.Add(tick)) {
			newest = e.At()
		}
	}
	return newest
}

// ReadDMs fetches the direct messages of those who have to be written to.
func (c *Case) ReadDMs(slack *slacktest.Server) {
	c.DMs = map[string][]slacktest.Message{}
	for _, e := range c.Events {
		if alarms[e.Type] {
			c.DMs[e.Actor.ID] = slack.DMs(e.Actor.ID)
		}
	}
}

// IsCard reports whether a message is the card of a request.
func IsCard(m slacktest.Message, request string) bool {
	return m.Metadata != nil && m.Metadata.EventType == bot.MetadataCard && m.Metadata.EventPayload["request_id"] == request
}

// told are the events that people must read in the thread, apart from the second
// and later of those that say the same (see [tells]).
var told = []approvals.EventType{
	approvals.EventRequested, approvals.EventCodeFailed, approvals.EventVoted, approvals.EventApproved, approvals.EventBreakGlass, approvals.EventRejected,
	approvals.EventAccepted, approvals.EventGateRefused, approvals.EventDelayed, approvals.EventReleased, approvals.EventDeployed,
	approvals.EventDeployFailed, approvals.EventExpired, approvals.EventSuperseded, approvals.EventCanceled, approvals.EventBypassed,
	approvals.EventUndeliverable, approvals.EventGateClosed, approvals.EventGateBypassed, approvals.EventVerified, approvals.EventDeployReport,
	approvals.EventReopened, approvals.EventNewerWorkflow,
}

// never are the events that would be noise in a thread.
var never = []approvals.EventType{
	approvals.EventWaiting, approvals.EventReached, approvals.EventAnswers, approvals.EventClosing, approvals.EventGateEnded, approvals.EventRestored,
	approvals.EventCardPosted, approvals.EventModalOpened, approvals.EventAttempt,
}

// tells reports whether people must read the event in the thread. When CircleCI
// answers one call after the other alike, they read it once.
func tells(e approvals.Event) bool {
	return slices.Contains(told, e.Type) && e.Data["again"] != "true" && e.Data["verified"] != "true"
}

// tellsToo reports whether the line of a later event may tell this one, too.
func tellsToo(later, e approvals.Event) bool {
	switch e.Type {
	case approvals.EventVoted:
		return later.Type == approvals.EventApproved && later.Seq == e.Seq+1
	case approvals.EventAccepted:
		return later.Type == approvals.EventReleased
	case approvals.EventDeployReport:
		return e.Outcome != "started" && (later.Type == approvals.EventDeployed || later.Type == approvals.EventDeployFailed)
	}
	return false
}

// alarms are the events that are told in the channel, outside of the thread. Those
// that are true are told to the person as well.
var alarms = map[approvals.EventType]bool{approvals.EventGateBypassed: false, approvals.EventBreakGlass: false, approvals.EventCodeLocked: true}

// endings are the events that close a request, or end its decision, by status.
var endings = map[approvals.Status]approvals.EventType{
	approvals.Deployed: approvals.EventDeployed, approvals.DeployFailed: approvals.EventDeployFailed,
	approvals.Rejected: approvals.EventRejected, approvals.Expired: approvals.EventExpired,
	approvals.Superseded: approvals.EventSuperseded, approvals.Canceled: approvals.EventCanceled,
	approvals.Bypassed: approvals.EventBypassed, approvals.Undeliverable: approvals.EventUndeliverable,
}

// Unsettled says what is still to come. What stays in it for longer than any
// back-off is a broken promise: a decision that ends silently, a line that is lost.
func (c Case) Unsettled() []string {
	var open []string
	wait := func(format string, args ...any) { open = append(open, fmt.Sprintf(format, args...)) }
	if endings[c.Status] == "" {
		wait("I5: the request is %s", c.Status)
	}
	if len(c.Cards) == 0 {
		wait("I5: there is no card")
	}
	for _, card := range c.Cards[:min(1, len(c.Cards))] {
		buttons := slacktest.Buttons(card)
		for _, b := range buttons {
			if b == bot.ActionApprove || b == bot.ActionReject || b == bot.ActionBreakGlass && !slices.Contains(buttons, bot.ActionRetry) {
				wait("I5: the card of a request that is %s has the button %s", c.Status, b)
			}
		}
	}
	if len(c.Cards) > 0 && !c.RetryUntil.IsZero() && slices.Contains(slacktest.Buttons(c.Cards[0]), bot.ActionRetry) {
		wait("I5: the card of a request that is %s still offers Retry, which ends %s", c.Status, c.RetryUntil.Format(time.TimeOnly))
	}
	have, heard := seqs(c.Thread), seqs(c.Channel)
	for i, e := range c.Events {
		if tells(e) && !slices.Contains(have, e.Seq) && !slices.ContainsFunc(c.Events[i+1:], func(l approvals.Event) bool {
			return tellsToo(l, e) && slices.Contains(have, l.Seq)
		}) {
			wait("I5: the thread does not tell event %d %s", e.Seq, e.Type)
		}
		toPerson, alarm := alarms[e.Type]
		if alarm && !slices.Contains(heard, e.Seq) {
			wait("I5: the channel does not hear of event %d %s", e.Seq, e.Type)
		}
		if toPerson && !slices.Contains(seqs(c.DMs[e.Actor.ID]), e.Seq) {
			wait("I5: %s does not hear of event %d %s", e.Actor.ID, e.Seq, e.Type)
		}
	}
	if c.Gate == "success" && closed(c.Status) && !c.AskedAgain && c.count(approvals.EventGateBypassed, "") == 0 {
		wait("I5: the gate of a request that is %s was opened and nobody was told", c.Status)
	}
	passed := slices.Contains([]approvals.Status{approvals.Released, approvals.Deployed, approvals.DeployFailed}, c.Status)
	took := slices.ContainsFunc(c.Tries, func(try circlecitest.Approval) bool { return try.Took && try.UserID == c.Self })
	switch {
	case c.Auto && passed && !took:
		wait("I4: the request is %s and no approve call took", c.Status)
	case took && !passed:
		wait("I4: our approve call opened the gate, but the request is %s", c.Status)
	}
	if c.closes() && !c.AskedAgain && (c.Gate == "on_hold" || c.Gate == "blocked") {
		wait("I5: on_close %s left the gate %s", c.OnClose, c.Gate)
	}
	return open
}

// closes reports whether on_close has to act on the gate.
func (c Case) closes() bool {
	return c.OnClose != approvals.CloseNothing && closed(c.Status) && c.Status != approvals.Undeliverable
}

// closed reports whether the gate was not to be opened any more.
func closed(s approvals.Status) bool {
	return slices.Contains([]approvals.Status{approvals.Rejected, approvals.Expired, approvals.Superseded, approvals.Canceled, approvals.Undeliverable}, s)
}

// seqs are the numbers of the events that messages tell, in their order.
func seqs(messages []slacktest.Message) []int64 {
	var seqs []int64
	for _, m := range messages {
		if m.Metadata == nil || m.Metadata.EventType != bot.MetadataReply {
			continue
		}
		text, _ := m.Metadata.EventPayload["seq"].(string)
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			seqs = append(seqs, n)
		}
	}
	return seqs
}

// Broken says which promises are broken for good, at any moment.
func (c Case) Broken() []string {
	var found []string
	add := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	c.judgeDecisions(add)
	c.judgeCalls(add)
	c.judgeSlack(add)
	return found
}

// count counts events.
func (c Case) count(t approvals.EventType, round string) int {
	n := 0
	for _, e := range c.Events {
		if e.Type == t && (round == "" || e.Data["round"] == round) {
			n++
		}
	}
	return n
}

func (c Case) judgeDecisions(add func(string, ...any)) {
	if c.count(approvals.EventRequested, "") != 1 {
		add("I1: %d events say that the request was made", c.count(approvals.EventRequested, ""))
	}
	for _, e := range c.Events {
		if !e.Type.Approves() {
			continue
		}
		if n := c.count(approvals.EventApproved, e.Data["round"]) + c.count(approvals.EventBreakGlass, e.Data["round"]); n > 1 {
			add("I3: round %s was approved %d times", e.Data["round"], n)
		}
		if e.Type == approvals.EventBreakGlass {
			if !slices.Contains(c.Emergency, e.Actor.ID) || e.MFA != "totp" || len(e.Reason) < 10 {
				add("I2: round %s was released in an emergency by %s with %q: %q", e.Data["round"], e.Actor.ID, e.MFA, e.Reason)
			}
		} else if n := len(c.voters(e)); n < c.Required {
			add("I2: round %s was decided by %d people; want %d", e.Data["round"], n, c.Required)
		}
	}
	c.judgeRejects(add)
	c.judgeReminder(add)
	for status, t := range endings {
		n := c.count(t, "")
		final := status != approvals.Undeliverable && status != approvals.Expired
		if final && n > 1 {
			add("I5: %d events %s", n, t)
		}
		if c.Status == status && n == 0 {
			add("I5: the request is %s and no event says so", status)
		}
	}
	if n := c.count(approvals.EventReleased, ""); n > 1 {
		add("I5: %d events %s", n, approvals.EventReleased)
	}
}

// judgeReminder looks for a second reminder, and for one after the decision.
func (c Case) judgeReminder(add func(string, ...any)) {
	if n := c.count(approvals.EventReminded, ""); n > 1 {
		add("I5: %d reminders", n)
	}
	at := slices.IndexFunc(c.Events, func(e approvals.Event) bool { return e.Type == approvals.EventReminded })
	decided := func(e approvals.Event) bool { return e.Type.Approves() || e.Type == approvals.EventRejected }
	if at >= 0 && slices.ContainsFunc(c.Events[:at], decided) {
		add("I5: event %d reminds people of what is decided", c.Events[at].Seq)
	}
}

// judgeRejects looks for a reject beside an approval of the same round. A Retry
// begins a new one, which people may reject.
func (c Case) judgeRejects(add func(string, ...any)) {
	round, approved, rejected := 1, false, false
	for _, e := range c.Events {
		switch e.Type {
		case approvals.EventReopened:
			round, approved = round+1, false
			if rejected {
				add("I3: event %d reopens a request that was rejected", e.Seq)
			}
		case approvals.EventApproved, approvals.EventBreakGlass:
			if approved = true; rejected {
				add("I3: event %d approves a request that was rejected", e.Seq)
			}
			if e.Data["round"] != strconv.Itoa(round) {
				add("I3: event %d approves round %s in round %d", e.Seq, e.Data["round"], round)
			}
		case approvals.EventRejected:
			if approved || rejected {
				add("I3: event %d rejects round %d, which was decided", e.Seq, round)
			}
			rejected = true
		}
	}
}

// voters lists who voted in the round of a decision before it.
func (c Case) voters(decision approvals.Event) []string {
	var who []string
	for _, e := range c.Events {
		if e.Type == approvals.EventVoted && e.Seq < decision.Seq && e.Data["round"] == decision.Data["round"] && e.MFA == "totp" &&
			!slices.Contains(who, e.Actor.ID) {
			who = append(who, e.Actor.ID)
		}
	}
	return who
}

// tick is the precision of an event's time.
const tick = time.Millisecond

func (c Case) judgeCalls(add func(string, ...any)) {
	if len(c.Released) > 0 && !c.Auto {
		add("I2: %d approve calls although the gateway must not approve", len(c.Released))
	}
	for _, at := range c.Released {
		last := approvals.Event{}
		for _, e := range c.Events {
			if e.Type == approvals.EventAttempt && !e.At().After(at.Add(tick)) {
				last = e
			}
			if e.Type == approvals.EventReleased && e.At().Add(tick).Before(at) {
				add("I4: an approve call %s after the release was recorded", at.Sub(e.At()))
			}
		}
		if last.Type == "" {
			add("I2: an approve call without a recorded attempt")
			continue
		}
		decided := slices.ContainsFunc(c.Events, func(e approvals.Event) bool {
			return e.Type.Approves() && e.Seq < last.Seq && e.Data["round"] == last.Data["round"]
		})
		if !decided {
			add("I2: an approve call without a decision of its round %s", last.Data["round"])
		}
	}
	open := false
	for _, try := range c.Tries {
		if try.UserID != c.Self {
			continue
		}
		if open {
			add("I4: an approve call after the gate was open by us")
		}
		open = open || try.Took
	}
}

func (c Case) judgeSlack(add func(string, ...any)) {
	if len(c.Cards) > 1 && !c.Blind {
		add("I5: %d cards", len(c.Cards))
	}
	told, heard := seqs(c.Thread), seqs(c.Channel)
	for i, n := range heard {
		if !c.Blind && slices.Contains(heard[:i], n) {
			add("I5: the channel hears of event %d twice", n)
		}
	}
	for i, n := range told {
		if !c.Blind && slices.Contains(told[:i], n) {
			add("I5: event %d is told twice", n)
		}
		if i > 0 && n < told[i-1] && !c.Blind {
			add("I5: event %d is told after event %d", n, told[i-1])
		}
		at := slices.IndexFunc(c.Events, func(e approvals.Event) bool { return e.Seq == n })
		switch {
		case at < 0:
			add("I5: the thread tells event %d, which is not of this request", n)
		case slices.Contains(never, c.Events[at].Type) || c.Events[at].Data["again"] == "true":
			add("I5: the thread tells event %d %s, which is noise", n, c.Events[at].Type)
		}
	}
}

// Story renders a case for people who look for the cause of a finding.
func (c Case) Story() string {
	var b strings.Builder
	fmt.Fprintf(&b, "request %s is %s, gate %s by %q, %d cards\n", c.ID, c.Status, c.Gate, c.GateBy, len(c.Cards))
	for _, e := range c.Events {
		fmt.Fprintf(&b, "  event %4d %s %-24s by %s %s %s %s %v\n", e.Seq, e.Time, e.Type, e.Actor.Kind, e.Actor.ID, e.Outcome, e.Reason, e.Data)
	}
	for _, try := range c.Tries {
		fmt.Fprintf(&b, "  approve %s by %s took %t\n", try.At.UTC().Format("15:04:05.000"), try.UserID, try.Took)
	}
	for _, at := range c.Released {
		fmt.Fprintf(&b, "  call approve %s\n", at.UTC().Format("15:04:05.000"))
	}
	for _, card := range c.Cards {
		fmt.Fprintf(&b, "  card %s revision %d: %s %v\n", card.TS, card.Revision, card.Text, slacktest.Buttons(card))
	}
	fmt.Fprintf(&b, "  thread tells %v, channel hears %v\n", seqs(c.Thread), seqs(c.Channel))
	return b.String()
}
