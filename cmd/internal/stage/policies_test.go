package stage_test

import (
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// frozenNow is a setting with a window that holds the present.
func frozenNow() (setting, until string) {
	const layout = "2006-01-02 15:04"
	now := time.Now().UTC()
	last := now.Add(50 * time.Hour)
	return "FREEZE=" + now.Add(-time.Hour).Format(layout) + "-" + last.Format(layout) + " Africa/Abidjan", last.Format("Mon 15:04") + " (Africa/Abidjan)"
}

// Nobody approves in a freeze, at the click or with a modal from before, and
// everybody who may can still reject. In both transports.
func TestFreeze(t *testing.T) {
	t.Parallel()
	for _, http := range []bool{false, true} {
		t.Run(map[bool]string{false: "socket", true: "http"}[http], func(t *testing.T) {
			setting, until := frozenNow()
			o := settings(setting)
			o.HTTP = http
			p := setup(t, o)
			a := p.askOnHold()
			says := "Deploys of myapp are frozen until " + until + "."
			p.cardSays(a, open, says)
			if said := p.refused(stage.Ana, a, "approve"); !strings.Contains(said, says+" You can still reject it.") {
				t.Errorf("Ana is told %q; want %q", said, says)
			}
			p.untouched(a)
			p.reject(stage.Bea, a, "not in the holidays")
			p.becomes(a, approvals.Rejected)
			p.cardSays(a, closed, "not in the holidays")
			if shown := p.Operator(p.ctx, "", "settings", "show", "--app", stage.App); !strings.Contains(shown.Stdout, strings.TrimPrefix(setting, "FREEZE=")) {
				t.Errorf("settings show: got %s; want the freeze", shown.Stdout)
			}
		})
	}
}
