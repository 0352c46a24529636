// Package attack_test plays attacks on the whole product: real daemon, client and
// operator's commands between a simulated Slack and CircleCI on loopback. Each
// script in testdata/script tells its story on top. What the parts promise one by
// one is tested beside them; [TestEveryThreatHasATest] says where.
package attack_test

import (
	"context"
	"flag"
	"os"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

func TestMain(m *testing.M) {
	if code, yes := stage.BeProgram(); yes {
		os.Exit(code)
	}
	flag.Parse()
	// An attack mostly waits: for the next poll, or for Slack.
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

const scripts = "testdata/script"

func TestAttack(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: scripts,
		Setup: func(env *testscript.Env) error {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			w := &world{ctx: ctx, flows: map[string]*flow{}, stepOf: map[string]time.Time{}, lastCode: map[string]string{}}
			env.Values[worldKey] = w
			env.Defer(func() { w.end(); cancel() })
			return nil
		},
		Cmds:                commands(),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}
