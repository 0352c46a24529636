package audit_test

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/audit"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/totp"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/rack-gatewayd/reportpage"
	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

// shifted is a store whose clock is changed between transactions.
type shifted struct {
	approvals.Store
	by *time.Duration
}

func (s shifted) Update(ctx context.Context, fn func(approvals.Tx) error) error {
	return s.Store.Update(ctx, func(tx approvals.Tx) error { return fn(shiftedTx{tx, tx.Now().Add(*s.by)}) })
}

type shiftedTx struct {
	approvals.Tx
	now time.Time
}

func (t shiftedTx) Now() time.Time { return t.now }

// A report can be made of a log whose times go back and forth, because the clock was
// wrong and was set.
func TestReportAfterTheClockWasSet(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for name, times := range map[string][]time.Duration{
		"forth":                   {0, 20 * day, 40 * day},
		"back":                    {0, -20 * day, -40 * day},
		"ahead, then right again": {365 * day, 0, day},
		"behind at the start":     {-365 * day, 0, day},
		"back and forth":          {0, 30 * day, -30 * day, 7 * day, -7 * day, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var by time.Duration
			log := newLog(t)
			signer, err := approvals.OpenLog(t.Context(), log.Store)
			if err != nil {
				t.Fatal(err)
			}
			log.Service = approvals.New(approvals.Config{Store: shifted{log.Store, &by}, Signer: signer, Operator: "ana@build-1", Offline: true})
			record := func(e approvals.Event) {
				t.Helper()
				if err := log.Record(t.Context(), e); err != nil {
					t.Fatal(err)
				}
			}
			for i, shift := range times {
				id := fmt.Sprint("r", i)
				by = shift
				record(approvals.Event{Type: approvals.EventRequested, Request: id, App: "myapp", Asked: &approvals.Asked{Number: int64(i + 1)}})
				by = times[len(times)-1-i]
				record(approvals.Event{Type: approvals.EventApproved, Request: id, App: "myapp", People: []string{"U0ANA"}})
			}
			by = 0
			shown := 0
			for line := range strings.SplitSeq(reportPage(t, log, audit.Report{}), "Week of ") {
				var date string
				var n int
				if _, err := fmt.Sscanf(line, "%10s: %d", &date, &n); err == nil {
					shown += n
				}
			}
			if shown != len(times) {
				t.Errorf("the plot of weeks shows %d requests; want %d", shown, len(times))
			}
		})
	}
}

// What a report says of one request follows from its events alone.
func TestReportOfOneRequest(t *testing.T) {
	t.Parallel()
	type event = approvals.Event
	approved := event{Type: approvals.EventApproved, People: []string{"U0ANA", "U0BEA"}, Data: approvals.Data{"self_approval": "false"}}
	own := event{Type: approvals.EventApproved, People: []string{"U0ANA", "U0BEA"}, Data: approvals.Data{"self_approval": "true"}}
	voted := event{Type: approvals.EventVoted, Actor: approvals.Actor{Kind: approvals.ActorPerson, ID: "U0BEA"}, MFA: "totp"}
	refused, verified := event{Type: approvals.EventVerifyRefused, Reason: "not_approved"}, event{Type: approvals.EventVerified}
	released, deployed, failed := event{Type: approvals.EventReleased}, event{Type: approvals.EventDeployed}, event{Type: approvals.EventDeployFailed, Outcome: "failed"}
	bypassed, expired, reopened := event{Type: approvals.EventBypassed}, event{Type: approvals.EventExpired}, event{Type: approvals.EventReopened}
	const unasked, find, refusedOnce = "Deploys that did not ask 1", "find out what was deployed", "Somebody asked whether to deploy and was told no once at "
	for name, tt := range map[string]struct {
		events    []event
		want, not []string
	}{
		"asked and told yes":                        {[]event{approved, released, verified, deployed}, []string{"Deploys that did not ask 0"}, []string{"Somebody asked"}},
		"never asked":                               {[]event{approved, released, deployed}, []string{unasked, "No deploy job asked"}, nil},
		"somebody asked before, the job did not":    {[]event{refused, approved, released, deployed}, []string{unasked, refusedOnce, "; the deploy ran, and no job was told that it may"}, nil},
		"told no, and deployed all the same":        {[]event{approved, released, refused, deployed}, []string{unasked, refusedOnce}, nil},
		"told no, and failed":                       {[]event{approved, released, refused, failed}, []string{"Deploys that did not ask 0", refusedOnce}, nil},
		"told no before our next look, and failed":  {[]event{approved, refused, released, failed}, []string{"Deploys that did not ask 0", refusedOnce}, nil},
		"somebody asked before, and the job failed": {[]event{refused, approved, released, failed}, []string{unasked, refusedOnce}, nil},
		"bypassed, nobody asked":                    {[]event{bypassed}, []string{"No deploy job asked the gateway: find out what was deployed"}, nil},
		"bypassed, somebody asked":                  {[]event{refused, bypassed}, []string{refusedOnce, "; if that was not the deploy job, find out what was deployed"}, []string{"The deploy job was refused"}},
		"bypassed, and told yes before":             {[]event{approved, verified, bypassed}, []string{"The deploy job asked, and its answer was yes"}, []string{find}},
		"asked twice":                               {[]event{refused, refused, bypassed}, []string{"Somebody asked whether to deploy and was told no 2 times, the last time at "}, nil},
		"waits after a Retry":                       {[]event{approved, expired, reopened}, []string{"1 still open", "myapp 1 0 0 0 0 1 "}, []string{"1 approved"}},
		"expired after a Retry":                     {[]event{approved, expired, reopened, expired}, []string{"1 ended without a decision"}, []string{"1 approved"}},
		"one of two voters started it":              {[]event{voted, own}, []string{"one of those who approved it had started it", "U0BEA 1 0 0 0 "}, []string{"U0ANA 0 0 0 1"}},
		"the only voter started it":                 {[]event{voted, {Type: approvals.EventApproved, People: []string{"U0BEA"}, Data: own.Data}}, []string{"it was approved by the person who started it", "U0BEA 1 0 0 1 "}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := newLog(t)
			for _, e := range append([]event{{Type: approvals.EventRequested, Asked: &approvals.Asked{Number: 1}}}, tt.events...) {
				e.Request, e.App, e.Environment = "r1", "myapp", "default"
				if err := log.Record(t.Context(), e); err != nil {
					t.Fatal(err)
				}
			}
			said := reportText(t, log, audit.Report{})
			for _, want := range tt.want {
				if !strings.Contains(said, want) {
					t.Errorf("the report does not say %q: %s", want, said)
				}
			}
			for _, not := range tt.not {
				if strings.Contains(said, not) {
					t.Errorf("the report says %q", not)
				}
			}
		})
	}
}

// Whoever changes who may decide, or whose deploy is whose, is named with what they did.
func TestReportOfRights(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	admin := approvals.Admin{Store: log.Store, Operator: "ana@build-1"}
	add := func(id, name, login string) {
		t.Helper()
		if _, err := admin.AddPerson(t.Context(), id, name, login); err != nil {
			t.Fatal(err)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	add("U0ANA", "Ana", "ana")
	must(admin.Enrol(t.Context(), "U0ANA", totp.NewSecret(), "", approvals.EnrolledByImport))
	must(admin.Enrol(t.Context(), "U0ANA", totp.NewSecret(), "", approvals.EnrolledByImport))
	add("U0ANA", "", "ana-x")
	add("U0ANA", "Ana B.", "")
	add("U0ZED", "", "")
	add("U0ZED", "", "ana")
	_, _, err := admin.EnrolLink(t.Context(), "U0ZED")
	must(err)
	must(admin.RemovePerson(t.Context(), "U0ZED"))
	add("U0ZED", "", "zed")
	for name, apps := range map[string][]string{"ci-myapp": {"myapp"}, "ci-other": {"other", "third"}, "auditor": nil} {
		_, _, err := admin.CreateToken(t.Context(), name, approvals.RoleCICD, apps, time.Hour)
		must(err)
	}
	_, _, _, err = admin.RotateToken(t.Context(), "ci-myapp", 0, time.Minute)
	must(err)
	_, err = admin.RevokeToken(t.Context(), "auditor")
	must(err)
	row := storetest.Request(1, "myapp", "")
	must(log.Store.Update(t.Context(), func(tx approvals.Tx) error { return tx.SaveRequest(&row) }))
	const by = " by operator ana@build-1"
	all := []string{
		"Ana B. (U0ANA) was added" + by + ", VCS login ana ", "the VCS login of Ana B. (U0ANA) was set to ana-x" + by + "; before it was ana ",
		"an authenticator of Ana B. (U0ANA) was enrolled (import)" + by, "the authenticator of Ana B. (U0ANA) was replaced by a new one (import)" + by,
		"U0ZED was added" + by + ", VCS login none ", "the VCS login of U0ZED was set to ana" + by + "; before it was none ", "a link to enrol an authenticator for U0ZED was made" + by,
		"U0ZED (VCS login ana) was removed" + by, "U0ZED was added" + by + ", VCS login zed ",
		"the token ci-myapp (cicd, for myapp) was made" + by + ", to expire ", "the token ci-myapp was ended" + by + ", 20", "the token auditor (cicd, for all apps) was made", "the token auditor was ended" + by + ", at once",
	}
	const other = "the token ci-other (cicd, for other, third) was made"
	for app, title := range map[string]string{"": "People and tokens 14 ", "myapp": "People and tokens 13 "} {
		said := reportText(t, log, audit.Report{App: app})
		for _, want := range append([]string{title}, all...) {
			if !strings.Contains(said, want) {
				t.Errorf("the report of app %q does not say %q: %s", app, want, said)
			}
		}
		if got := strings.Contains(said, other); got != (app == "") {
			t.Errorf("the report of app %q names the token of another app: %t", app, got)
		}
	}
}

// reportPage is a report as people read it.
func reportPage(t *testing.T, log audit.Log, x audit.Report) string {
	t.Helper()
	read, err := log.Report(t.Context(), x)
	if err != nil {
		t.Fatal(err)
	}
	var page strings.Builder
	if err := reportpage.Write(&page, read); err != nil {
		t.Fatal(err)
	}
	return page.String()
}

// reportText is the text of its page, without its marks.
func reportText(t *testing.T, log audit.Log, x audit.Report) string {
	t.Helper()
	_, body, _ := strings.Cut(reportPage(t, log, x), "<body>")
	return strings.Join(strings.Fields(regexp.MustCompile(`<[^>]*>`).ReplaceAllString(body, " ")), " ")
}
