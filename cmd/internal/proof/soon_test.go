package proof_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/github/githubtest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/proof"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/story"
)

// Each call takes as long as to a service on the same continent. The card of a request
// waits for three of them at CircleCI and one at Slack, whatever GitHub does.
const (
	callTime  = 100 * time.Millisecond
	cardAlone = 4 * callTime
)

// soonCase is what GitHub does while a request is filed.
type soonCase struct {
	fault  githubtest.Fault
	within time.Duration // how much later the card may stand than without GitHub
	before time.Duration // ago, a request met the same; 0 = none did
	commit func(hub *githubtest.Server, sha, parent string)
}

func plainCommit(hub *githubtest.Server, sha, parent string) {
	hub.AddCommit(soonRepo, githubtest.Commit{
		SHA: sha, Parent: parent, Message: "Fix", Login: "alice", Files: map[string]string{".circleci/config.yml": "version: 2.1\n"},
	})
}

const soonRepo = "MyOrg/app0"

// Whatever GitHub does, the card stands well within the two seconds that are promised:
// as soon as GitHub answers, at once where it is known to be down or to limit the rate,
// and else without its word. That the channel was just told of another deploy does not
// hold it up.
func TestCardsStandSoonWhateverGitHubDoes(t *testing.T) {
	made := newTemplate(t)
	down, slow := githubtest.Fault{Count: -1, Drop: true}, githubtest.Fault{Count: -1, Delay: 30 * time.Second}
	limited := githubtest.Fault{Count: -1, Status: 429, Header: map[string]string{"Retry-After": "60"}}
	answers, waits := 2*callTime, 800*time.Millisecond
	for name, tt := range map[string]soonCase{
		"answers":           {within: answers},
		"down":              {fault: down, within: callTime},
		"known to be down":  {fault: down, before: time.Second},
		"slow":              {fault: slow, within: waits},
		"known to be slow":  {fault: slow, before: 12 * time.Second},
		"slow in one thing": {fault: githubtest.Fault{Count: -1, Delay: 30 * time.Second, Path: "/pulls"}, within: waits},
		"forbidden":         {fault: githubtest.Fault{Count: -1, Status: 403, Body: `{"message":"Resource not accessible"}`}, within: callTime},
		"limits":            {fault: limited, within: callTime},
		"known to limit":    {fault: limited, before: time.Second},
		"answers in pieces": {fault: githubtest.Fault{Count: -1, Status: 200, Body: `{"total_commits": 3, "commits": [{"sha": "bb`}, within: callTime},
		"ten thousand": {within: answers + callTime, commit: func(hub *githubtest.Server, sha, parent string) {
			plainCommit(hub, sha, hub.AddHistory(soonRepo, parent, 10_000))
		}},
		"a megabyte of text": {within: answers, commit: func(hub *githubtest.Server, sha, parent string) {
			hub.AddCommit(soonRepo, githubtest.Commit{SHA: sha, Parent: parent, Message: "<!channel> \u202e\x1b[31m" + strings.Repeat("x", 1<<20), Login: "alice"})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			if tt.commit == nil {
				tt.commit = plainCommit
			}
			took := timeToCard(t, made, tt)
			if most := cardAlone + tt.within; took > most {
				t.Errorf("the card stands after %v; want %v at the most", took, most)
			}
		})
	}
}

// timeToCard deploys one request, and tells how long after the create of the next one
// its card stands.
func timeToCard(t *testing.T, made template, tt soonCase) (took time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(opening))
		w := newWorld(t, made, script{RateLimits: true, Lanes: []story.Script{{Required: 1, Auto: true, OnHold: true, OnClose: approvals.CloseCancelJob}}})
		hub := githubtest.New()
		w.net.github, w.net.latency = hub, callTime
		l := w.lanes[0]
		ctx, cancel := context.WithCancel(context.Background())
		var alive sync.WaitGroup
		alive.Go(func() { w.run(ctx) })
		approvals.Pause(ctx, 5*time.Second)

		push := func(parent string, commit func(hub *githubtest.Server, sha, parent string)) *story.Story {
			s := l.Push()
			commit(hub, s.Revision, parent)
			return s
		}
		first := push("", plainCommit)
		l.File(ctx, first)
		l.Decide(ctx, first, 0, story.Approve)
		for range 600 { // a minute
			l.End(first, "deploy")
			if c, err := l.Evidence(ctx, first); err == nil && c.Status == approvals.Deployed {
				break
			}
			approvals.Pause(ctx, callTime)
		}

		hub.Inject(tt.fault)
		if tt.before > 0 {
			l.File(ctx, push(first.Revision, plainCommit))
			approvals.Pause(ctx, tt.before)
		}
		s := push(first.Revision, tt.commit)
		begun := time.Now()
		l.File(ctx, s)
		approvals.Pause(ctx, time.Minute)
		at, err := posted(w, s)
		if err != nil {
			t.Errorf("%v\n%s", err, l.Told())
		}
		took = at.Sub(begun).Round(time.Millisecond) // messages of the same moment are a microsecond apart

		cancel()
		alive.Wait()
		w.slack.Close()
		if err := w.db.Close(); err != nil {
			t.Error(err)
		}
	})
	return took
}

// posted is when the first card of a request came to stand.
func posted(w *world, s *story.Story) (time.Time, error) {
	for _, m := range w.slack.Messages(w.lanes[0].Channel) {
		if proof.IsCard(m, s.ID) {
			seconds, err := strconv.ParseFloat(m.TS, 64)
			return time.UnixMicro(int64(seconds * 1e6)), err
		}
	}
	return time.Time{}, fmt.Errorf("the request %q has no card", s.ID)
}
