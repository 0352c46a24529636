package audit_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/audit"
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
			var page bytes.Buffer
			if _, err := log.WriteReport(t.Context(), audit.Report{}, &page); err != nil {
				t.Fatal(err)
			}
			shown := 0
			for line := range strings.SplitSeq(page.String(), "Week of ") {
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
