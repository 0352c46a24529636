package gatewayd_test

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/audit"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
	"github.com/rack-gateway/rack-gateway-approvals/store"
	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

// archive is a service on a database of its own.
func archive(t *testing.T) (*store.DB, audit.Log) {
	t.Helper()
	db := storetest.New(t)
	signer, err := approvals.OpenLog(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	return db, audit.Log{Service: approvals.New(approvals.Config{Store: db, Signer: signer, Offline: true}), Store: db}
}

// pageFunc is told of every Write.
type pageFunc func([]byte) error

func (f pageFunc) Write(b []byte) (int, error) { return len(b), f(b) }

// The size is fixed at the start: what is appended while a slow reader takes
// its pages is not in the export, and no transaction waits for the reader.
func TestExportWhileTheLogGrows(t *testing.T) {
	t.Parallel()
	_, s := archive(t)
	note := func() {
		if err := s.Record(t.Context(), approvals.Event{Type: approvals.EventStarted, Actor: approvals.Actor{Kind: approvals.ActorSystem}}); err != nil {
			t.Fatal(err)
		}
	}
	for range 599 {
		note()
	}
	var log bytes.Buffer
	pages := 0
	size, err := s.Export(t.Context(), audit.Export{Format: audit.ExportJSONL}, pageFunc(func(b []byte) error {
		pages++
		note()
		_, err := log.Write(b)
		return err
	}))
	if err != nil {
		t.Fatal(err)
	}
	if size != 600 || pages != 3 || bytes.Count(log.Bytes(), []byte("\n")) != 600 {
		t.Fatalf("got size %d in %d pages, %d lines; want 600 in 3", size, pages, bytes.Count(log.Bytes(), []byte("\n")))
	}
	checkpoint, err := s.Checkpoint(t.Context(), size)
	if err != nil {
		t.Fatal(err)
	}
	report, err := ledger.Verify(bytes.NewReader(log.Bytes()), ledger.VerifyOptions{Checkpoint: checkpoint, Key: s.VerifierKey()})
	if err != nil || report.NotAnchored != 0 {
		t.Errorf("got %+v, %v; want all anchored", report, err)
	}

	gone := errors.New("reader is gone")
	if _, err := s.Export(t.Context(), audit.Export{Format: audit.ExportJSONL}, pageFunc(func([]byte) error { return gone })); !errors.Is(err, gone) {
		t.Errorf("got %v; want the writer's error", err)
	}
}

// Refusals come before the first Write, and leave no event.
func TestExportRefusesTokens(t *testing.T) {
	t.Parallel()
	_, s := archive(t)
	for name, x := range map[string]audit.Export{
		"cicd":                  {Format: audit.ExportCSV, Token: &approvals.Token{ID: "T", Role: approvals.RoleCICD}},
		"log for one app":       {Format: audit.ExportJSONL, Token: &approvals.Token{ID: "T", Role: approvals.RoleAuditor, Apps: []string{"myapp"}}},
		"log for no app":        {Format: audit.ExportJSONL, Token: &approvals.Token{ID: "T", Role: approvals.RoleAuditor, Apps: []string{}}},
		"rows of another's app": {Format: audit.ExportCSV, App: "other", Token: &approvals.Token{ID: "T", Role: approvals.RoleAuditor, Apps: []string{"myapp"}}},
	} {
		_, err := s.Export(t.Context(), x, pageFunc(func([]byte) error { t.Errorf("%s: something was written", name); return nil }))
		var why *approvals.Error
		if !errors.As(err, &why) || why.Code != approvals.CodeForbidden {
			t.Errorf("%s: got %v; want forbidden", name, err)
		}
	}
	if _, err := s.Checkpoint(t.Context(), 1); err == nil {
		t.Error("a refused export left an event")
	}
}

func TestExportOfManyRequests(t *testing.T) {
	t.Parallel()
	db, s := archive(t)
	const n = 250
	start := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	err := db.Update(t.Context(), func(tx approvals.Tx) error {
		for i := range n {
			r := approvals.Request{
				ID: fmt.Sprintf("R%d", i), Number: int64(i + 1), App: []string{"myapp", "other"}[i%2], Environment: "default", Status: approvals.Pending,
				Asked: approvals.Asked{
					Facts:     approvals.Facts{WorkflowID: fmt.Sprintf("w%d", i), Revision: strings.Repeat("a", 40), Branch: "=cmd|'/C calc'!A0", Actor: "@mal;=lory", Project: "gh/MyOrg/myapp"},
					Project:   "gh/MyOrg/myapp",
					Requester: approvals.Requester{TokenName: "+ci\r\n=1\x1b[0m"}, PendingTTL: 365 * 24 * time.Hour,
				},
				Gate: approvals.Gate{ApprovedBy: "-mallory\u202e"}, Failure: approvals.Failure{Detail: "\t=1+1"},
				CreatedAt: start.Add(time.Duration(i) * time.Hour),
			}
			if err := tx.SaveRequest(&r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		from, to, app string
		apps          []string
		want, pages   int
	}{
		{"", "", "", nil, n, 3},
		{"", "", "myapp", nil, n / 2, 2},
		{"", "", "", []string{"other"}, n / 2, 2},
		{"", "", "", []string{}, 0, 1},
		{"2026-11-02", "2026-11-02", "", nil, 24, 1},
		{"2026-11-02T00:00:00Z", "2026-11-02T01:00:00+01:00", "", nil, 1, 1},
		{"2026-11-02", "2026-11-02", "other", []string{"other"}, 12, 1},
		{"2026-12-01", "", "", nil, 0, 1},
	} {
		x, err := audit.ParseExport(audit.ExportCSV, tt.from, tt.to, tt.app)
		if err != nil {
			t.Fatal(err)
		}
		if tt.apps != nil {
			x.Token = &approvals.Token{ID: "T", Role: approvals.RoleAuditor, Apps: tt.apps}
		}
		var out bytes.Buffer
		pages := 0
		if _, err := s.Export(t.Context(), x, pageFunc(func(b []byte) error { pages++; _, err := out.Write(b); return err })); err != nil {
			t.Fatal(err)
		}
		rows, err := csv.NewReader(&out).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, row := range rows[1:] {
			ids = append(ids, row[1])
			for _, cell := range row {
				if strings.ContainsAny(cell, "\t\r\n\x1b\u202e") || cell != "" && strings.ContainsAny(cell[:1], "=+-@") || strings.Contains(cell, ";=") {
					t.Fatalf("got cell %q; want none that a spreadsheet runs", cell)
				}
			}
		}
		slices.Sort(ids)
		if len(ids) != tt.want || len(slices.Compact(ids)) != tt.want || pages != tt.pages {
			t.Errorf("%+v: got %d rows in %d pages; want %d, each once, in %d", tt, len(ids), pages, tt.want, tt.pages)
		}
	}
}
