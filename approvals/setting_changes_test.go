package approvals_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// settingsEvents restarts the service with settings, and returns what the log says
// that has changed by that.
func settingsEvents(w *world, settings string) (events int, changes []approvals.SettingChange) {
	before := len(w.events())
	w.cfg.Settings, w.cfg.Operator = parse(w.t, settings), "ana@build-1"
	w.start()
	for _, e := range w.events()[before:] {
		if e.Type != approvals.EventSettingsChanged {
			continue
		}
		if e.Actor != (approvals.Actor{Kind: approvals.ActorOperator, ID: "ana@build-1"}) || e.Data["hash"] != w.cfg.Settings.Hash() {
			w.t.Fatalf("got %+v; want the operator and the hash of the settings", e)
		}
		events++
		changes = append(changes, e.Settings...)
	}
	return events, changes
}

func TestSettingsChangedNamesTheSettings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "")
		defer w.close()
		type change = approvals.SettingChange
		for _, tt := range []struct {
			settings string
			want     []change
		}{
			{"", nil},
			{"REQUIRED_APPROVALS=2 RGW_APP_SHOP_ENV_STAGING_SETTING_CIRCLECI_APPROVAL_JOB_NAME=hold_staging", []change{
				{"shop", "default", "required_approvals", "1", "2"},
				{"shop", "staging", "vcs_repo", "", "acme/shop"},
				{"shop", "staging", "circleci_approval_job_name", "", "hold_staging"},
				{"shop", "staging", "circleci_auto_approve_on_approval", "", "true"},
				{"shop", "staging", "circleci_project_slug", "", "gh/acme/shop"},
				{"shop", "staging", "slack_channel", "", defaultChannel},
				{"shop", "staging", "required_approvals", "", "2"},
				{"shop", "staging", "pending_ttl", "", "2h"},
			}},
			{"REQUIRED_APPROVALS=2 APPROVERS=U01,U02", []change{
				{"shop", "default", "approvers", "", "U01,U02"},
				{"shop", "staging", "vcs_repo", "acme/shop", ""},
				{"shop", "staging", "circleci_approval_job_name", "hold_staging", ""},
				{"shop", "staging", "circleci_auto_approve_on_approval", "true", ""},
				{"shop", "staging", "circleci_project_slug", "gh/acme/shop", ""},
				{"shop", "staging", "slack_channel", defaultChannel, ""},
				{"shop", "staging", "required_approvals", "2", ""},
				{"shop", "staging", "pending_ttl", "2h", ""},
			}},
			{"REQUIRED_APPROVALS=2 APPROVERS=U01,U02", nil},
			{"REQUIRED_APPROVALS=2 APPROVERS=U01,U02 PENDING_TTL=24h RGW_APP_CRATE_SETTING_VCS_REPO=acme/crate RGW_APP_CRATE_SETTING_CIRCLECI_APPROVAL_JOB_NAME=hold", []change{
				{"crate", "default", "vcs_repo", "", "acme/crate"}, // and nothing that has the default
				{"crate", "default", "circleci_approval_job_name", "", "hold"},
				{"crate", "default", "circleci_project_slug", "", "gh/acme/crate"},
				{"crate", "default", "slack_channel", "", defaultChannel},
				{"shop", "default", "pending_ttl", "2h", "24h"},
			}},
		} {
			_, got := settingsEvents(w, tt.settings)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("%q (-want +got):\n%s", tt.settings, diff)
			}
		}
	})
}

// However long the values are and however many there are, each event fits into a
// leaf, and none is left out.
func TestManyChangedSettingsFitIntoLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "")
		defer w.close()
		var settings []string
		for i := range 30 {
			settings = append(settings, fmt.Sprintf("RGW_APP_SHOP_ENV_E%d_SETTING_CIRCLECI_APPROVAL_JOB_NAME=%d%s", i, i, strings.Repeat("<🚀\u0001", 3000)))
		}
		events, changes := settingsEvents(w, strings.Join(settings, " "))
		gates := 0
		for _, c := range changes {
			if c.Key == "circleci_approval_job_name" && strings.HasSuffix(c.To, "…") {
				gates++
			}
		}
		if gates != 30 || events < 10 {
			t.Errorf("got %d gates in %d events; want 30 in more than a few", gates, events)
		}
	})
}

// However long a value is, the log shows where it changed.
func TestChangeOfALongSetting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		people := func(n int, last string) string {
			var ids []string
			for i := range n {
				ids = append(ids, fmt.Sprintf("U%011d", i))
			}
			return "APPROVERS=" + strings.Join(append(ids, last), ",")
		}
		w := newWorld(t, "")
		defer w.close()
		settingsEvents(w, people(300, "U0ANA"))
		for _, tt := range []struct{ settings, from, to string }{
			{people(300, "U0ZED"), "0299,U0ANA", "0299,U0ZED"}, // at the end
			{people(300, "U0ZED,U0BEA"), "0299,U0ZED", "0299,U0ZED,U0BEA"},
			{people(2, "U0BEA"), "U00000000000,U00000000001,U00000000002,U00000000003", "U00000000000,U00000000001,U0BEA"}, // at the beginning
		} {
			_, changes := settingsEvents(w, tt.settings)
			if len(changes) != 1 || !strings.Contains(changes[0].From, tt.from) || !strings.HasSuffix(changes[0].To, tt.to) {
				t.Errorf("got %+v; want from %s to %s", changes, tt.from, tt.to)
			}
		}
	})
}
