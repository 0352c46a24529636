package webhook_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/audit"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
)

func TestExport(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		query, kind, body string
		want              audit.Export
	}{
		{"", "application/x-ndjson", "jsonl", audit.Export{Format: "jsonl"}},
		{"?format=jsonl&to=2026-11-23T09:30:00%2B01:00", "application/x-ndjson", "jsonl", audit.Export{Format: "jsonl", To: time.Date(2026, 11, 23, 8, 30, 0, 0, time.UTC)}},
		{"?format=csv&app=myapp&from=2026-11-01&to=2026-11-30", "text/csv; charset=utf-8; header=present", "csv", audit.Export{
			Format: "csv", App: "myapp", From: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), To: time.Date(2026, 11, 30, 23, 59, 59, 999e6, time.UTC),
		}},
	} {
		f, s := serve(t, nil)
		got := ask(t, s, "GET", "/api/v1/audit"+tt.query, auditToken, "")
		body := tt.body + " page 0\n" + tt.body + " page 1\n" + tt.body + " page 2\n"
		if got.StatusCode != 200 || got.Header.Get("Content-Type") != tt.kind || got.body != body || got.Header.Get("Content-Disposition") != `attachment; filename="rack-gateway-audit.`+tt.body+`"` {
			t.Errorf("%q: got %d %v %s; want %s as %s", tt.query, got.StatusCode, got.Header, got.body, body, tt.kind)
			continue
		}
		if x := f.exports[0]; x.Token.ID != "audit" || x.PipelineURL("gh/a/b", 1) == "" {
			t.Errorf("%q: got token %+v; want the auditor's, and links", tt.query, x.Token)
		}
		if diff := cmp.Diff(tt.want, f.exports[0], cmpopts.IgnoreFields(audit.Export{}, "Token", "PipelineURL")); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tt.query, diff)
		}
	}
}

func TestExportRefusals(t *testing.T) {
	t.Parallel()
	f, s := serve(t, nil)
	for query, want := range map[string]map[string]string{
		"from=2026-01-01&app=myapp": {"from": "is for csv only: jsonl is always the whole log from its start", "app": "is for csv only: jsonl is always the whole log from its start"},
		"format=xml":                {"format": "must be jsonl or csv"},
		"format=csv&app=My%20App":   {"app": "cannot be the name of an app"},
		"to=2026-13-01":             {"to": "must be a date such as 2026-11-23 or a time such as 2026-11-23T09:30:00Z"},
		"format=csv&from=2026-02-01&to=2026-01-01T00:00:00Z": {"to": "is before from"},
		"until=2026-01-01":            {"until": "is not a parameter of this call"},
		"to=2026-01-01&to=2026-01-02": {"to": "must be given only once"},
	} {
		got := ask(t, s, "GET", "/api/v1/audit?"+query, auditToken, "")
		fields := map[string]string{}
		p := got.problem(t)
		for _, e := range p.Errors {
			fields[e.Field] = e.Detail
		}
		if diff := cmp.Diff(want, fields); got.StatusCode != 400 || p.Code != approvals.CodeInvalid || diff != "" {
			t.Errorf("%s: got %d %s (-want +got):\n%s", query, got.StatusCode, got.body, diff)
		}
	}
	f.fail = &approvals.Error{Code: approvals.CodeForbidden, Message: "not for all apps"}
	if got := ask(t, s, "GET", "/api/v1/audit", auditToken, ""); got.StatusCode != 403 || got.problem(t).Detail != "not for all apps" {
		t.Errorf("refused by the service: got %d %s; want 403", got.StatusCode, got.body)
	}
	if len(f.exports) != 0 {
		t.Errorf("got %d exports; want none", len(f.exports))
	}
}

// Every page arrives before the next one is written, and an export that fails
// half-way does not end as one that is complete.
func TestExportIsStreamedAndNeverEndsEarlyInSilence(t *testing.T) {
	t.Parallel()
	f, s := serve(t, nil)
	f.cutOff, f.paged = errors.New("disk I/O error"), make(chan struct{}, 3)
	req, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+"/api/v1/audit", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+auditToken)
	f.paged <- struct{}{}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body := bufio.NewReader(res.Body)
	for _, want := range []string{"jsonl page 0\n", "jsonl page 1\n"} {
		got, err := body.ReadString('\n')
		if got != want || err != nil {
			t.Fatalf("got %q, %v; want %q", got, err, want)
		}
		f.paged <- struct{}{}
	}
	if rest, err := io.ReadAll(body); len(rest) > 0 || err == nil {
		t.Errorf("got %q, %v; want an error", rest, err)
	}
}

// hurried is an answer that keeps until when each of its parts must have been sent.
type hurried struct {
	*httptest.ResponseRecorder
	until []time.Time
}

func (h *hurried) SetWriteDeadline(t time.Time) error { h.until = append(h.until, t); return nil }

// A client that is slow to receive a page is cut off: its slot is one that others need.
func TestEveryPageOfAnExportHasItsTime(t *testing.T) {
	t.Parallel()
	_, s := serve(t, nil)
	r := httptest.NewRequest("GET", "/api/v1/audit", nil)
	r.Header.Set("Authorization", "Bearer "+auditToken)
	w := &hurried{ResponseRecorder: httptest.NewRecorder()}
	began := time.Now()
	s.Config.Handler.ServeHTTP(w, r)
	if w.Code != 200 || len(w.until) != 3 {
		t.Fatalf("got %d and %d deadlines; want one for each of 3 pages", w.Code, len(w.until))
	}
	for _, until := range w.until {
		if late := until.Sub(began); late <= 0 || late > time.Minute {
			t.Errorf("a page may take %s; want less than a minute", late)
		}
	}
}

// FuzzExportQuery: whatever is asked is an export that makes sense, or a
// refusal that names the parameter.
func FuzzExportQuery(f *testing.F) {
	for _, s := range [][4]string{
		{"", "", "", ""}, {"csv", "2026-11-01", "2026-11-30", "myapp"}, {"jsonl", "", "2026-11-23T09:30:00.123456789-12:00", ""},
		{"csv", "0000-01-01", "9999-12-31", ""}, {"csv", "2026-02-29", "2026-11-23T24:00:00Z", "A"}, {"csv", "1970-12-31T23:59:59Z", "9998-12-31T23:59:59-23:59", "x"},
	} {
		f.Add(s[0], s[1], s[2], s[3])
	}
	f.Fuzz(func(t *testing.T, format, from, to, app string) {
		fake := newFake(t)
		h := webhook.New(webhook.Config{Service: fake, Links: fakeLinks{}})
		query := url.Values{"format": {format}, "from": {from}, "to": {to}, "app": {app}}
		r := httptest.NewRequest("GET", "/api/v1/audit?"+query.Encode(), nil)
		r.Header.Set("Authorization", "Bearer "+auditToken)
		w := httptest.NewRecorder()
		checked(t, h).ServeHTTP(w, r)
		switch w.Code {
		case 200:
			x := fake.exports[0]
			if x.Format == audit.ExportJSONL && (!x.From.IsZero() || x.App != "") || x.App != "" && !approvals.ValidName(x.App) {
				t.Fatalf("%q: got %+v; want no such export", query, x)
			}
			if !x.From.IsZero() && !x.To.IsZero() && x.To.Before(x.From) || (from == "") != x.From.IsZero() || (to == "") != x.To.IsZero() {
				t.Fatalf("%q: got from %s to %s", query, x.From, x.To)
			}
			for _, at := range []time.Time{x.From, x.To} {
				// What the log and the database keep of it is what was meant.
				if !at.IsZero() && (at.Location() != time.UTC || !time.UnixMilli(at.UnixMilli()).Equal(at.Truncate(time.Millisecond)) || at.Year() > 9999) {
					t.Fatalf("%q: got %s", query, at)
				}
			}
		case 400:
			var p webhook.Problem
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || len(p.Errors) == 0 {
				t.Fatalf("%q: got %s; want the parameter named", query, w.Body)
			}
		default:
			t.Fatalf("%q: got %d %s", query, w.Code, w.Body)
		}
	})
}
