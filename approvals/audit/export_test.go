package audit_test

import (
	"bytes"
	"encoding/csv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/audit"
	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

// What a row says of the decision comes from the events of its request.
func TestExportReadsTheDecisionFromTheLog(t *testing.T) {
	t.Parallel()
	type event = approvals.Event
	asked := func(starter string) event {
		return event{Type: approvals.EventRequested, Asked: &approvals.Asked{Facts: approvals.Facts{Actor: starter}}}
	}
	approved := func(self string) event {
		return event{Type: approvals.EventApproved, MFA: "totp", People: []string{"U0ANA"}, Data: approvals.Data{"self_approval": self}}
	}
	bea := approvals.Actor{Kind: approvals.ActorPerson, ID: "U0BEA"}
	emergency := event{Type: "decision.break_glass", Actor: bea, MFA: "totp", Reason: "the site is down", Data: approvals.Data{"self_approval": "true"}}
	verified := event{Type: approvals.EventVerified}
	type row struct{ Decision, Approvers, Rejected, MFA, Reason, Self, BreakGlass, Retries, Refused, Verified string }
	for name, tt := range map[string]struct {
		events []event
		want   row
	}{
		"nobody decided":               {[]event{asked("dev")}, row{BreakGlass: "no", Retries: "0", Refused: "0"}},
		"approved":                     {[]event{asked("dev"), approved("false")}, row{"approved", "U0ANA", "", "totp", "", "no", "no", "0", "0", ""}},
		"by the starter":               {[]event{asked("dev"), approved("true")}, row{"approved", "U0ANA", "", "totp", "", "yes", "no", "0", "0", ""}},
		"the log does not know":        {[]event{asked("dev"), approved("unknown")}, row{"approved", "U0ANA", "", "totp", "", "unknown", "no", "0", "0", ""}},
		"the log does not say":         {[]event{asked("dev"), approved("")}, row{"approved", "U0ANA", "", "totp", "", "unknown", "no", "0", "0", ""}},
		"rejected without a code":      {[]event{asked("dev"), {Type: approvals.EventRejected, Actor: bea, Reason: "no"}}, row{"rejected", "", "U0BEA", "none", "no", "", "no", "0", "0", ""}},
		"emergency alone":              {[]event{asked("dev"), emergency}, row{"approved", "U0BEA", "", "totp", "the site is down", "yes", "yes", "0", "0", ""}},
		"emergency, then the decision": {[]event{asked("dev"), emergency, approved("false")}, row{"approved", "U0ANA", "", "totp", "the site is down", "no", "yes", "0", "0", ""}},
		"a second round after an emergency": {
			[]event{asked("dev"), emergency, {Type: approvals.EventReopened}, approved("false")}, row{"approved", "U0ANA", "", "totp", "", "no", "yes", "1", "0", ""},
		},
		"the deploy job was told yes": {[]event{asked("dev"), approved("false"), verified}, row{"approved", "U0ANA", "", "totp", "", "no", "no", "0", "0", "now"}},
		"in the round before, it was": {[]event{asked("dev"), approved("false"), verified, {Type: approvals.EventReopened}}, row{BreakGlass: "no", Retries: "1", Refused: "0"}},
		"the deploy job was refused": {
			[]event{asked("dev"), {Type: "verify.refused"}, {Type: "verify.refused", Data: approvals.Data{"count": "3"}}}, row{BreakGlass: "no", Retries: "0", Refused: "4"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := newLog(t)
			r := storetest.Request(1, "myapp", "")
			if err := log.Store.Update(t.Context(), func(tx approvals.Tx) error { return tx.SaveRequest(&r) }); err != nil {
				t.Fatal(err)
			}
			for _, e := range tt.events {
				e.Request, e.App = r.ID, r.App
				if err := log.Record(t.Context(), e); err != nil {
					t.Fatal(err)
				}
			}
			var out bytes.Buffer
			if _, err := log.Export(t.Context(), audit.Export{Format: audit.ExportCSV}, &out); err != nil {
				t.Fatal(err)
			}
			got := rowOf(t, out.String(), 1)
			if at, err := time.Parse(time.DateTime, got["verified_at_utc"]); err == nil && time.Since(at) < time.Hour {
				got["verified_at_utc"] = "now"
			}
			if diff := cmp.Diff(tt.want, row{got["decision"], got["approvers"], got["rejected_by"], got["mfa"], got["reason"], got["self_approval"], got["break_glass"], got["retries"], got["refused_verifies"], got["verified_at_utc"]}); diff != "" {
				t.Errorf("row (-want +got):\n%s", diff)
			}
			if at, err := time.Parse(time.DateTime, got["requested_at_utc"]); err != nil || !at.Equal(r.CreatedAt.Truncate(time.Second)) {
				t.Errorf("got the time %q; want %s as a spreadsheet reads it", got["requested_at_utc"], r.CreatedAt)
			}
		})
	}
}

// How a deploy ended is what CircleCI's job list says. The deploy job only claims it.
func TestExportTellsHowTheDeployEnded(t *testing.T) {
	t.Parallel()
	began := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	for name, tt := range map[string]struct {
		status approvals.Status
		deploy approvals.Deploy
		want   [3]string
	}{
		"nothing yet":           {approvals.Released, approvals.Deploy{}, [3]string{}},
		"claimed by the job":    {approvals.Released, approvals.Deploy{Phase: approvals.PhaseSucceeded, StartedAt: began, FinishedAt: began}, [3]string{"2026-11-23 10:00:00", "", "started"}},
		"said by the job list":  {approvals.Deployed, approvals.Deploy{Phase: approvals.PhaseSucceeded, StartedAt: began, FinishedAt: began}, [3]string{"2026-11-23 10:00:00", "2026-11-23 10:00:00", "succeeded"}},
		"failed, says the list": {approvals.DeployFailed, approvals.Deploy{Phase: approvals.PhaseFailed, FinishedAt: began}, [3]string{"", "2026-11-23 10:00:00", "failed"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := newLog(t)
			r := storetest.Request(1, "myapp", "")
			r.Status, r.Deploy = tt.status, tt.deploy
			if err := log.Store.Update(t.Context(), func(tx approvals.Tx) error { return tx.SaveRequest(&r) }); err != nil {
				t.Fatal(err)
			}
			if err := log.Record(t.Context(), approvals.Event{Type: approvals.EventRequested, Request: r.ID, App: r.App, Asked: &approvals.Asked{}}); err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			if _, err := log.Export(t.Context(), audit.Export{Format: audit.ExportCSV}, &out); err != nil {
				t.Fatal(err)
			}
			row := rowOf(t, out.String(), 1)
			if got := [3]string{row["deploy_started_at_utc"], row["deploy_ended_at_utc"], row["deploy_result"]}; got != tt.want {
				t.Errorf("got %q; want %q", got, tt.want)
			}
		})
	}
}

// A row says how the pipeline was started, with what, and whether its configuration is another one.
func TestExportTellsHowThePipelineWasStarted(t *testing.T) {
	t.Parallel()
	usual := func(string, string) bool { return false }
	for name, tt := range map[string]struct {
		change func(*approvals.Request)
		want   [5]string
	}{
		"first": {func(r *approvals.Request) { r.Facts.Trigger, r.Facts.Config = "webhook", "ab" }, [5]string{"webhook", "", "ab", "no", ""}},
		"by the API": {func(r *approvals.Request) {
			r.Facts.Trigger, r.Facts.PullRequest = "api", "77"
			r.Facts.Parameters = approvals.NewParameters(map[string]string{"b": "=1+1", "a": "2"}, usual)
			r.Facts.Parameters.More = 3
		}, [5]string{"api", "a=2, b==1+1, and 3 more", "", "no", "77"}},
		"another configuration": {func(r *approvals.Request) {
			r.Facts.Config, r.Last = "ab", &approvals.DeployedBefore{Config: "cd"}
		}, [5]string{"", "", "ab", "yes", ""}},
		"the same configuration": {func(r *approvals.Request) {
			r.Facts.Config, r.Last = "ab", &approvals.DeployedBefore{Config: "ab"}
		}, [5]string{"", "", "ab", "no", ""}},
		"an unknown configuration": {func(r *approvals.Request) { r.Last = &approvals.DeployedBefore{Config: "ab"} }, [5]string{"", "", "", "unknown", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := newLog(t)
			r := storetest.Request(1, "myapp", "")
			r.Facts.Trigger, r.Last = "", nil
			tt.change(&r)
			if err := log.Store.Update(t.Context(), func(tx approvals.Tx) error { return tx.SaveRequest(&r) }); err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			if _, err := log.Export(t.Context(), audit.Export{Format: audit.ExportCSV}, &out); err != nil {
				t.Fatal(err)
			}
			row := rowOf(t, out.String(), 1)
			if got := [5]string{row["trigger"], row["parameters"], row["config_sha256"], row["config_changed"], row["pull_request"]}; got != tt.want {
				t.Errorf("got %q; want %q", got, tt.want)
			}
		})
	}
}

// newLog is the log of a database of its own.
func newLog(t *testing.T) audit.Log {
	t.Helper()
	db := storetest.New(t)
	signer, err := approvals.OpenLog(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	return audit.Log{Service: approvals.New(approvals.Config{Store: db, Signer: signer, Operator: "ana@build-1", Offline: true}), Store: db}
}

// rowOf reads the nth row below the heading of a table, by column.
func rowOf(t *testing.T, table string, n int) map[string]string {
	t.Helper()
	rows, err := csv.NewReader(bytes.NewReader([]byte(table))).ReadAll()
	if err != nil || len(rows) <= n {
		t.Fatalf("got %d rows, %v; want more than %d", len(rows), err, n)
	}
	row := map[string]string{}
	for i, name := range rows[0] {
		row[name] = rows[n][i]
	}
	return row
}
