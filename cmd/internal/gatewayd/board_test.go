package gatewayd

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
)

// Only what forbids decisions makes /readyz unavailable; the rest degrades.
func TestReadiness(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		part part
		want string // of the whole and of the part
	}{
		{"all well", part{"slack", stateOK, "", ""}, webhook.StatusOK},
		{"not looked at", part{"slack", stateSkip, "asked too often", ""}, webhook.StatusOK},
		{"the store", part{"store", stateFault, "full", ""}, webhook.StatusUnavailable},
		{"the store, a little", part{"store", stateWarn, "no anchor", ""}, webhook.StatusDegraded},
		{"the clock", part{"clock", stateFault, "off", ""}, webhook.StatusUnavailable},
		{"the clock, a little", part{"clock", stateWarn, "off", ""}, webhook.StatusDegraded},
		{"the role", part{"role", stateFault, "lost", ""}, webhook.StatusUnavailable},
		{"Slack", part{"slack", stateFault, "away", "wait"}, webhook.StatusDegraded},
		{"CircleCI", part{"circleci", stateFault, "away", ""}, webhook.StatusDegraded},
		{"a proxy", part{partProxy, stateWarn, unnamedProxy, nameProxy}, webhook.StatusDegraded},
	} {
		got := board{{"other", stateOK, "", ""}, tt.part, {"last", stateWarn, "x", ""}}[:2].readiness()
		if got.Status != tt.want || got.Parts[tt.part.Name].Status != tt.want || got.Parts[tt.part.Name].Detail != tt.part.words() {
			t.Errorf("%s: got %+v; want %s", tt.name, got, tt.want)
		}
	}
	both := board{{"store", stateFault, "full", ""}, {"slack", stateFault, "away", ""}}.readiness()
	if both.Status != webhook.StatusUnavailable {
		t.Errorf("the store and Slack: got %s; want %s", both.Status, webhook.StatusUnavailable)
	}
}

// What a daemon that runs tells is shown, also where it tells strangers no reasons.
func TestCheckAsksTheDaemon(t *testing.T) {
	t.Parallel()
	brief := "ask for the reason at /readyz of RGW_METRICS_LISTEN, or with an auditor's token"
	well := webhook.Part{Status: webhook.StatusOK}
	for _, tt := range []struct {
		name  string
		ready any
		want  board
	}{
		{"well", webhook.Readiness{Status: webhook.StatusOK, Parts: map[string]webhook.Part{"store": well, "slack": well}},
			board{{"daemon", stateOK, "it answers at ADDRESS; without fault: slack, store", ""}}},
		{"with reasons", webhook.Readiness{Parts: map[string]webhook.Part{
			"store": {Status: webhook.StatusUnavailable, Detail: "full"}, "slack": {Status: webhook.StatusDegraded, Detail: "away"}, "clock": well,
		}}, board{{"daemon slack", stateWarn, "away", ""}, {"daemon store", stateFault, "full", ""}, {"daemon", stateOK, "it answers at ADDRESS; without fault: clock", ""}}},
		{"without reasons", webhook.Readiness{Parts: map[string]webhook.Part{
			"store": {Status: webhook.StatusUnavailable}, partProxy: {Status: webhook.StatusDegraded}, "role": {Status: webhook.StatusStandby},
		}}, board{{"daemon proxy", stateWarn, unnamedProxy, nameProxy}, {"daemon role", stateWarn, "standby", brief}, {"daemon store", stateFault, "unavailable", brief}}},
		{"something else", map[string]string{"hello": "world"},
			board{{"daemon", stateWarn, "something other than the gateway answers at ADDRESS", "stop it, or choose another RGW_LISTEN"}}},
		{"nothing that can be read", nil,
			board{{"daemon", stateWarn, "something other than the gateway answers at ADDRESS", "stop it, or choose another RGW_LISTEN"}}},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/readyz" {
				http.NotFound(w, r)
				return
			}
			if tt.ready != nil {
				_ = json.NewEncoder(w).Encode(tt.ready)
			}
		}))
		address := strings.TrimPrefix(server.URL, "http://")
		for _, c := range []config{{variables: variables{Listen: address}}, {variables: variables{Listen: "127.0.0.1:1", MetricsListen: address}}} {
			k := checker{cfg: c}
			k.daemon(t.Context())
			for i := range k.board {
				k.board[i].Text = strings.ReplaceAll(k.board[i].Text, address, "ADDRESS")
			}
			if diff := cmp.Diff(tt.want, k.board); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tt.name, diff)
			}
		}
		server.Close()
	}
	k := checker{cfg: config{variables: variables{Listen: "127.0.0.1:1"}}}
	k.daemon(t.Context())
	if len(k.board) != 1 || k.board[0].State != stateSkip || !strings.HasPrefix(k.board[0].Text, "no daemon answers at 127.0.0.1:1") {
		t.Errorf("without a daemon: got %+v; want that no daemon answers", k.board)
	}
}
