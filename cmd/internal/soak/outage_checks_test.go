package soak_test

import (
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
)

func TestLookout(t *testing.T) {
	t.Parallel()
	degraded := func(part string) webhook.Readiness {
		return webhook.Readiness{Status: webhook.StatusDegraded, Parts: map[string]webhook.Part{part: {Status: webhook.StatusDegraded}}}
	}
	well := webhook.Readiness{Status: webhook.StatusOK}
	type look struct {
		ready  webhook.Readiness
		status int
	}
	for _, tt := range []struct {
		name  string
		age   time.Duration
		looks []look
		want  string // "" = nothing is found
	}{
		{"named", 0, []look{{degraded("slack"), 200}}, ""},
		{"named soon", 0, []look{{well, 200}, {degraded("slack"), 200}}, ""},
		{"not named in time", time.Hour, []look{{well, 200}}, "does not name slack within"},
		{"another is named", time.Hour, []look{{degraded("circleci"), 200}}, "does not name slack within"},
		{"forgotten", 0, []look{{degraded("slack"), 200}, {well, 200}}, "any more"},
		{"not ready", 0, []look{{degraded("slack"), 503}}, "answered 503"},
	} {
		l := newLookout("", []*service{{name: "slack", namedWithin: nameSlackWithin}})
		l.since = l.since.Add(-tt.age)
		for _, look := range tt.looks {
			l.judge(look.ready, look.status, nil)
		}
		found := ""
		for what := range l.broken {
			found += what
		}
		if tt.want == "" && found != "" || !strings.Contains(found, tt.want) {
			t.Errorf("%s: got %q; want %q", tt.name, found, tt.want)
		}
	}
}
