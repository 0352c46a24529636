package audit

import (
	"cmp"
	"context"
	"errors"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
)

// Report says what is wanted of a report. [ParseReport] reads its period and app.
type Report struct {
	From time.Time // beginning of the first day, UTC; zero = from the first event
	To   time.Time // last moment of the last day, UTC; zero = until now
	App  string    // empty = all
	// PipelineURL and CommitURL are pages for people; "" = none.
	PipelineURL func(slug string, number int64) string
	CommitURL   func(f approvals.Facts, revision string) string
	// Compared is how the log compares with the CI provider; nil = NotCompared says why
	// that is not known.
	Compared    *Comparison
	NotCompared string
}

// ParseReport reads the period and the app of a report: days of UTC, both included.
func ParseReport(from, to, app string) (Report, error) {
	x := Report{App: app}
	var f faults
	for field, day := range map[string]string{"from": from, "to": to} {
		_, err := time.Parse(time.DateOnly, day)
		f.add(day != "" && err != nil, field, "must be a day such as 2026-11-23")
	}
	f.add(app != "" && !approvals.ValidName(app), "app", notAName)
	if len(f) == 0 {
		x.From, x.To = f.period(from, to)
	}
	return x, f.err()
}

// Report reads what a report says. What that is of requests and events comes from the
// log alone, which is read from its first leaf on and compared with the checkpoint that
// the report rests on; names and links come from what the gateway knows now.
//
// Reading is recorded first, as for an [Log.Export]: the last event that the report
// rests on is its own.
func (l Log) Report(ctx context.Context, x Report) (*Reading, error) {
	reader := Export{Format: formatReport, From: x.From, To: x.To, App: x.App}
	size, err := l.recordExport(ctx, reader)
	if err != nil {
		return nil, err
	}
	read, err := l.newReading(ctx, x, reader.apps())
	if err != nil {
		return nil, err
	}
	for page, err := range l.pages(ctx, size) {
		if err != nil {
			return nil, err
		}
		for _, line := range page {
			if err := read.take(line); err != nil {
				return nil, err
			}
		}
	}
	if read.Checkpoint, err = l.checkpointOf(ctx, size, read.log.Root()); err != nil {
		return nil, err
	}
	return read, nil
}

// Begun is the time of the first event of the log; zero without any.
func (l Log) Begun(ctx context.Context) (at time.Time, err error) {
	err = l.Store.View(ctx, func(tx approvals.Tx) error {
		e, err := approvals.EventAt(tx, 0)
		if errors.Is(err, approvals.ErrNotFound) {
			return nil
		}
		at = e.At()
		return err
	})
	return at, err
}

// checkpointOf signs the log that was read. It is an error if that is not the log that
// was sealed.
func (l Log) checkpointOf(ctx context.Context, size int64, root tlog.Hash) (Signed, error) {
	note, err := l.Checkpoint(ctx, size)
	if err != nil {
		return Signed{}, err
	}
	c, err := ledger.ParseCheckpoint(note, l.VerifierKey())
	if err != nil {
		return Signed{}, err
	}
	if c.Root != root {
		return Signed{}, errors.New("the log that was read is not the one that was signed")
	}
	return Signed{Note: string(note), Key: l.VerifierKey(), Origin: c.Origin, Size: size}, nil
}

// Signed is the checkpoint that a report rests on.
type Signed struct {
	Note, Key, Origin string
	Size              int64
}

// covers reports whether a moment is in the period.
func (x Report) covers(at time.Time) bool {
	return !at.Before(x.From) && (x.To.IsZero() || !at.After(x.To))
}

// Reading is what a report says. It is collected while the log is read.
type Reading struct {
	Report
	Now        time.Time         // when the report was made
	Checkpoint Signed            // what it rests on
	log        ledger.Reader     // what was read
	names      map[string]string // of people and tokens, by id
	cards      map[string]string // links to cards, by request

	First, Last time.Time          // the earliest and the latest event of the log
	asked       map[string]*Deploy // all requests of the log that the report may name
	Deploys     []*Deploy          // those of the period, oldest first
	found       map[*exception][]ExceptionEvent
	people      map[string]approvals.Person  // what the log says of them so far, by id
	tokens      map[string]approvals.Granted // by id
}

// Deploy is a request as the log tells it. Of a request from before the period only
// its number and place are known.
type Deploy struct {
	approvals.Request
	story
	of       *Reading
	InPeriod bool              // it is among the Deploys
	acts     []approvals.Event // what people did, in all rounds
	waits    []wait
}

// wait is how long a request waited for a vote of somebody.
type wait struct {
	user string
	time time.Duration
}

// newReading finds what people and tokens are called, and where the cards stand.
func (l Log) newReading(ctx context.Context, x Report, apps []string) (*Reading, error) {
	r := &Reading{
		Report: x, names: map[string]string{}, cards: map[string]string{}, asked: map[string]*Deploy{},
		found: map[*exception][]ExceptionEvent{}, people: map[string]approvals.Person{}, tokens: map[string]approvals.Granted{},
	}
	return r, l.Store.View(ctx, func(tx approvals.Tx) error {
		r.Now = tx.Now()
		people, err := approvals.Everybody(tx)
		if err != nil {
			return err
		}
		for _, p := range people {
			r.names[p.SlackID] = p.Name
		}
		tokens, err := approvals.AllTokens(tx)
		if err != nil {
			return err
		}
		for _, t := range tokens {
			r.names[t.ID] = t.Name
		}
		rows, err := tx.Requests(approvals.Filter{Apps: apps, CreatedFrom: x.From, CreatedTo: x.To})
		for _, row := range rows {
			r.cards[row.ID] = row.Slack.Permalink
		}
		return err
	})
}

// take reads one event.
func (r *Reading) take(line []byte) error {
	if err := r.log.Next(line); err != nil {
		return err
	}
	e, err := approvals.ParseEvent(line)
	if err != nil {
		return err
	}
	// The clock may have been set back meanwhile.
	if r.First.IsZero() || e.At().Before(r.First) {
		r.First = e.At()
	}
	if e.At().After(r.Last) {
		r.Last = e.At()
	}
	if e.App != "" && r.App != "" && e.App != r.App {
		return nil
	}
	var d *Deploy
	if e.Request != "" {
		if d, err = r.follow(e); err != nil {
			return err
		}
	}
	if e.Granted != nil {
		r.tokens[e.Data["token"]] = *e.Granted
	}
	if r.covers(e.At()) {
		r.look(e, d)
	}
	r.know(e)
	return nil
}

// know takes in what an event says of a person's login and authenticator.
func (r *Reading) know(e approvals.Event) {
	p := r.people[e.Data["user"]]
	switch e.Type {
	case approvals.EventPersonAdded, approvals.EventPersonRemoved:
		p = approvals.Person{}
	case approvals.EventEnrolled:
		p.Enrolled = true
	case approvals.EventReset:
		p.Enrolled = false
	}
	p.VCSLogin = cmp.Or(e.Data["vcs_login"], p.VCSLogin)
	r.people[e.Data["user"]] = p
}

// follow brings the request of an event to the state after it.
func (r *Reading) follow(e approvals.Event) (*Deploy, error) {
	d := r.asked[e.Request]
	if d == nil {
		d = &Deploy{of: r, InPeriod: r.covers(e.At())}
		r.asked[e.Request] = d
		if d.InPeriod {
			r.Deploys = append(r.Deploys, d)
		}
	}
	if err := d.Apply(e); err != nil {
		return nil, err
	}
	d.take(e)
	d.acted(e)
	return d, nil
}

// acted notes what somebody did, and how long the request waited for a vote, in its
// first round: since it was asked for, or since the vote before.
func (d *Deploy) acted(e approvals.Event) {
	switch e.Type {
	case approvals.EventVoted, approvals.EventRejected, approvals.EventBreakGlass:
		d.acts = append(d.acts, e)
	}
	if d.Round != 1 || e.Type != approvals.EventVoted {
		return
	}
	since := d.CreatedAt
	if votes := d.Approvals(); len(votes) > 1 {
		since = votes[len(votes)-2].At
	}
	d.waits = append(d.waits, wait{e.Actor.ID, max(0, e.At().Sub(since))})
}
