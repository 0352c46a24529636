package gateway

import (
	"bytes"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli"
)

// CircleCI ends a step that prints nothing for 10 minutes, so a log hears of a wait
// now and then, also while polls fail.
func TestALogHearsOfAWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		c := &program{Program: cli.Program{Console: cli.Console{Err: &log}}}
		p := &progress{program: c, began: time.Now(), said: time.Now(), status: approvals.Pending}
		polls := func(d time.Duration, err error) {
			for over := time.Now().Add(d); time.Now().Before(over); {
				time.Sleep(30 * time.Second)
				p.told(webhook.Request{Status: approvals.Pending}, err)
			}
		}
		polls(9*time.Minute, nil)
		polls(6*time.Minute, errors.New("no answer"))
		const want = `Still waiting for approval (status: pending, 4m)
Still waiting for approval (status: pending, 8m)
no answer; still waiting
Still waiting for approval (status: pending, 13m30s)
`
		if log.String() != want {
			t.Errorf("got\n%s\nwant\n%s", log.String(), want)
		}
	})
}
