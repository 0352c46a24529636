// Package audit reads the log for people who check it: the exports, the comparison
// with the CI provider, and who has access. Nothing in it gives or ends a right, and
// it writes nothing but that the log was read.
package audit

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// Formats of an export.
const (
	ExportJSONL  = "jsonl"  // the whole log from its start: one line = one leaf, byte for byte
	ExportCSV    = "csv"    // one row per request
	formatReport = "report" // how the log names what [Log.Report] read
)

// Export says what is wanted of the log, and by whom. [ParseExport] makes it
// of what people write.
type Export struct {
	Format string
	From   time.Time        // CSV only: requests made at or after; zero = from the first
	To     time.Time        // the last moment; zero = until now
	App    string           // CSV only; empty = all that the token covers
	Token  *approvals.Token // who reads; nil = the operator
	// PipelineURL is the page of a pipeline for people, for CSV; nil = none.
	PipelineURL func(slug string, number int64) string
}

// ParseExport reads the parameters of an export as text; empty ones were not
// given, and the format is then JSONL.
func ParseExport(format, from, to, app string) (Export, error) {
	x := Export{Format: cmp.Or(format, ExportJSONL), App: app}
	var f faults
	switch x.Format {
	case ExportJSONL:
		// A part of the log proves nothing: every leaf hangs on those before it.
		for field, value := range map[string]string{"from": from, "app": app} {
			f.add(value != "", field, "is for csv only: jsonl is always the whole log from its start")
		}
	case ExportCSV:
		f.add(app != "" && !approvals.ValidName(app), "app", notAName)
	default:
		f.add(true, "format", "must be jsonl or csv")
	}
	x.From, x.To = f.period(from, to)
	return x, f.err()
}

// ParsePeriod reads the two ends of a period; an empty one is the zero time. A
// date without a time means UTC, and as the end of a period the whole of that day.
func ParsePeriod(from, to string) (start, end time.Time, err error) {
	var f faults
	start, end = f.period(from, to)
	return start, end, f.err()
}

// faults are what is wrong with the parameters of an export or a report.
type faults []approvals.FieldError

const notAName = "cannot be the name of an app"

func (f *faults) add(wrong bool, field, detail string) {
	if wrong {
		*f = append(*f, approvals.FieldError{Field: field, Detail: detail})
	}
}

func (f *faults) period(from, to string) (start, end time.Time) {
	start, _ = f.moment("from", from)
	end, day := f.moment("to", to)
	if day {
		end = end.AddDate(0, 0, 1).Add(-time.Millisecond) // times are kept to the millisecond
	}
	f.add(!end.IsZero() && end.Before(start), "to", "is before from")
	return start, end
}

func (f *faults) moment(field, s string) (at time.Time, day bool) {
	if s == "" {
		return at, false
	}
	at, err := time.Parse(time.DateOnly, s)
	if day = err == nil; !day {
		at, err = time.Parse(time.RFC3339, s)
	}
	switch at = at.UTC(); {
	case err != nil:
		f.add(true, field, "must be a date such as 2026-11-23 or a time such as 2026-11-23T09:30:00Z")
	case at.Year() < 1971 || at.Year() > 9998: // times are kept as milliseconds, and the ends of their range are of no use
		f.add(true, field, "must be in the years 1971 to 9998")
	default:
		return at, day
	}
	return time.Time{}, false
}

func (f faults) err() error {
	if len(f) == 0 {
		return nil
	}
	slices.SortFunc(f, func(a, b approvals.FieldError) int { return strings.Compare(a.Field, b.Field) })
	words := make([]string, len(f))
	for i, fault := range f {
		words[i] = fault.Field + " " + fault.Detail
	}
	return &approvals.Error{Code: approvals.CodeInvalid, Message: strings.Join(words, "; "), Fields: f}
}

func refuse(code approvals.Code, format string, args ...any) *approvals.Error {
	return &approvals.Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Log is the log of a service.
type Log struct {
	*approvals.Service
	Store approvals.Store
}

// timeFormat is how events show times.
const timeFormat = "2006-01-02T15:04:05.000Z"

// Export writes the log or the requests to w, one Write per page, in memory
// that does not grow with the log. A refusal is returned before the first Write.
//
// Reading is recorded first, in the transaction that fixes the size: without a
// To the export ends with its own event, and a checkpoint of the size that is
// returned matches it exactly. For CSV the size is that of a tree which holds
// every event of every row.
func (l Log) Export(ctx context.Context, x Export, w io.Writer) (size int64, err error) {
	if err := x.refusal(); err != nil {
		return 0, err
	}
	if size, err = l.recordExport(ctx, x); err != nil {
		return 0, err
	}
	if x.Format == ExportCSV {
		return l.exportRequests(ctx, x, w)
	}
	return l.exportLeaves(ctx, x.To, size, w)
}

// refusal says why the token may not have this export.
func (x Export) refusal() error {
	if x.Token == nil {
		return nil
	}
	switch {
	case x.Token.Role != approvals.RoleAuditor:
		return refuse(approvals.CodeForbidden, "a token with the role %s may not do this", x.Token.Role)
	case x.Format == ExportJSONL && x.Token.Apps != nil:
		return refuse(approvals.CodeForbidden, "the log holds the events of all apps and this token is not for all: ask for format=csv")
	case x.App != "" && !x.Token.Covers(x.App):
		return refuse(approvals.CodeForbidden, "this token is not for app %q", x.App)
	}
	return nil
}

// apps lists what the rows are limited to; nil = nothing.
func (x Export) apps() []string {
	switch {
	case x.App != "":
		return []string{x.App}
	case x.Token != nil:
		return x.Token.Apps
	}
	return nil
}

// recordExport returns the size of the log whose last event is this one.
func (l Log) recordExport(ctx context.Context, x Export) (size int64, err error) {
	e := approvals.Event{Type: approvals.EventLogExported, Actor: l.OperatorActor(), Source: "operator", Outcome: x.Format, Data: approvals.Data{}}
	if x.Token != nil {
		e.Actor, e.Source = approvals.Actor{Kind: approvals.ActorToken, ID: x.Token.ID}, "api"
	}
	for name, at := range map[string]time.Time{"from": x.From, "to": x.To} {
		if !at.IsZero() {
			e.Data[name] = at.Format(timeFormat)
		}
	}
	if apps := x.apps(); apps != nil {
		e.Data["apps"] = strings.Join(apps, " ")
	}
	e, err = l.RecordIf(ctx, e, x.begun)
	return e.Seq + 1, err
}

// begun refuses what an operator wants of an app that never asked for anything, which
// is a slip, and an export that ends before the log begins: of an empty log there is
// nothing to sign.
func (x Export) begun(tx approvals.Tx) error {
	if x.Token == nil && x.App != "" {
		found, err := tx.Requests(approvals.Filter{Apps: x.apps(), Limit: 1})
		if err == nil && len(found) == 0 {
			err = refuse(approvals.CodeAppUnknown, "there is no request of an app %q", x.App)
		}
		return err
	}
	if x.Format != ExportJSONL || x.To.IsZero() {
		return nil
	}
	for line, err := range tx.Leaves(0) {
		if err == nil && later(line, x.To) {
			err = faults{{Field: "to", Detail: "is before the first event of the log"}}.err()
		}
		return err
	}
	return nil
}

// later reports whether a leaf is of after to. One that cannot be read is not:
// it goes out as it is, for the verification to find.
func later(line []byte, to time.Time) bool {
	e, err := approvals.ParseEvent(line)
	return err == nil && e.At().After(to)
}

// leafPage is how many leaves are held in memory.
const leafPage = 256

// exportLeaves writes the leaves below size, and no more from the first one on
// that is of after to.
func (l Log) exportLeaves(ctx context.Context, to time.Time, size int64, w io.Writer) (next int64, err error) {
	var text bytes.Buffer
	for page, err := range l.pages(ctx, size) {
		if err != nil {
			return next, err
		}
		text.Reset()
		over := false
		for _, line := range page {
			if over = !to.IsZero() && later(line, to); over {
				break
			}
			text.Write(line)
			text.WriteByte('\n')
			next++
		}
		if _, err := w.Write(text.Bytes()); err != nil {
			return next, fmt.Errorf("write export: %w", err)
		}
		if over {
			break
		}
	}
	return next, nil
}

// pages yields the first size leaves, a page at a time. Every page is read in a
// transaction of its own: a slow reader must not keep one open, and a leaf does not
// change.
func (l Log) pages(ctx context.Context, size int64) iter.Seq2[[][]byte, error] {
	return func(yield func([][]byte, error) bool) {
		for next := int64(0); next < size; {
			var page [][]byte
			end := min(next+leafPage, size)
			err := l.Store.View(ctx, func(tx approvals.Tx) error {
				for line, err := range tx.Leaves(next) {
					if err != nil {
						return err
					}
					page = append(page, line)
					if next++; next == end {
						return nil
					}
				}
				return fmt.Errorf("read log: leaf %d is missing", next)
			})
			if !yield(page, err) || err != nil {
				return
			}
		}
	}
}
