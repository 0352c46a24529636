package proof_test

import (
	"context"
	"flag"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/story"
)

var trace = flag.Bool("proof.trace", false, "tell of every story, not only of those that break a promise")

var stories = flag.Int("proof.stories", 60, "how many random stories are played; the more, the larger is the part of the tables of faults and crashes, and from 3000 on they are played whole")

// opening is when each world begins: bubbles start in 2000, when Slack's time
// stamps had a digit less.
var opening = time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC)

const (
	// settleTime is how long a world may need for all that is left, once no more
	// goes wrong: longer than every back-off that its faults can have caused, and
	// than the expiry of what nobody decides.
	settleTime = 20 * time.Minute
	settleStep = 3 * time.Second
	// afterwards is how long is looked for what must not come any more.
	afterwards = 3 * time.Second
)

// played is what became of a script.
type played struct {
	broken  []string // promises
	commits int
	ends    []approvals.Status // of each lane's newest request
}

// play runs a script in a bubble.
func play(t *testing.T, made template, s script) (p played) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(opening))
		w := newWorld(t, made, s)
		ctx, cancel := context.WithCancel(context.Background())
		var alive, playing sync.WaitGroup
		alive.Go(func() { w.run(ctx) })
		for _, l := range w.lanes {
			playing.Go(func() { w.play(ctx, l) })
		}
		playing.Wait()
		w.calm()
		w.settle(ctx)
		w.anchor(ctx)
		cancel()
		alive.Wait()
		w.inquest(context.Background())
		if *trace {
			for _, l := range w.lanes {
				t.Log(l.Told())
			}
		}
		w.slack.Close()
		p.ends = w.ends()
		if err := w.db.Close(); err != nil {
			w.violation(fmt.Sprintf("close the database: %v", err))
		}
		p.broken, p.commits = w.broken, int(w.commits.Load())
	})
	return p
}

// play does what the script says, and has the log signed after each act.
func (w *world) play(ctx context.Context, l *story.Lane) {
	for _, a := range l.Script.Acts {
		l.Do(ctx, a)
		w.anchor(ctx)
	}
}

// ends lists the last status of each lane's newest request.
func (w *world) ends() (all []approvals.Status) {
	for _, l := range w.lanes {
		end := approvals.Status("")
		if s := l.Newest(); s != nil {
			end = s.Status
		}
		all = append(all, end)
	}
	return all
}

// settle waits until nothing is still to come anywhere.
func (w *world) settle(ctx context.Context) {
	deadline := time.Now().Add(settleTime)
	judged := int64(-1)
	for time.Now().Before(deadline) {
		// What moves, moves by a commit of the product.
		commits := w.commits.Load()
		if commits == judged {
			approvals.Pause(ctx, settleStep)
			continue
		}
		judged = commits
		open := 0
		for _, l := range w.lanes {
			l.Nudge(ctx)
			open += len(l.Judge(ctx, false))
		}
		if open == 0 || len(w.broken) > 0 {
			break
		}
		approvals.Pause(ctx, settleStep)
	}
	approvals.Pause(ctx, afterwards)
	if len(w.broken) == 0 {
		for _, l := range w.lanes {
			l.Judge(ctx, true)
		}
	}
}

// TestStories plays random stories under random faults and crashes. -proof.stories
// says how many; a failure prints the seed that repeats its script.
func TestStories(t *testing.T) {
	made := newTemplate(t)
	for name, value := range map[string]string{"rapid.nofailfile": "true", "rapid.shrinktime": "60s"} {
		if err := flag.Set(name, value); err != nil {
			t.Fatal(err)
		}
	}
	parts := runtime.GOMAXPROCS(0)
	checks := (*stories + parts*maxLanes - 1) / (parts * maxLanes)
	if err := flag.Set("rapid.checks", fmt.Sprint(checks)); err != nil {
		t.Fatal(err)
	}
	var told, commits atomic.Int64
	t.Run("all", func(t *testing.T) {
		for part := range parts {
			t.Run(fmt.Sprint(part), func(t *testing.T) {
				t.Parallel()
				rapid.Check(t, func(rt *rapid.T) {
					s := drawScript(rt, maxLanes)
					p := play(t, made, s)
					told.Add(int64(len(s.Lanes)))
					commits.Add(int64(p.commits))
					if len(p.broken) > 0 {
						rt.Fatalf("%s", strings.Join(p.broken, "\n\n"))
					}
				})
			})
		}
	})
	t.Logf("%d stories, %d commits", told.Load(), commits.Load())
}

// plain are stories without chance that together make every call.
func plain() []story.Script {
	vote := []story.Act{{What: story.Request}, {What: story.WrongCode, Who: 1}, {What: story.Approve}, {What: story.Approve, Who: 1}, {What: story.Hold, Pause: time.Second}, {What: story.Deploy, Pause: 5 * time.Second}}
	return []story.Script{
		{Required: 1, Auto: true, OnClose: approvals.CloseCancelJob, Acts: vote},
		{Required: 2, Auto: true, OnHold: true, OnClose: approvals.CloseCancelJob, Acts: vote},
		{Required: 1, Auto: true, OnHold: true, OnClose: approvals.CloseCancelJob, Acts: []story.Act{{What: story.Request}, {What: story.Reject, Pause: time.Second}}},
		{Required: 1, Auto: true, OnClose: approvals.CloseCancelWorkflow, Acts: []story.Act{{What: story.Request}, {What: story.Withdraw, Pause: 2 * time.Second}}},
		{Required: 1, Auto: false, OnHold: true, OnClose: approvals.CloseNothing, Acts: vote},
		{Required: 1, Auto: true, OnHold: true, OnClose: approvals.CloseCancelJob, Acts: []story.Act{{What: story.Request}, {What: story.Bypass, Pause: 2 * time.Second}}},
	}
}

// every says which part of a table is played: with 200 stories one entry of n, and
// each of them in long runs only.
func every(n int) int { return max(1, n*200/max(1, *stories)) }

// TestFaultTable breaks every call in every way.
func TestFaultTable(t *testing.T) {
	made := newTemplate(t)
	for i, op := range operations() {
		for j, kind := range faultKinds() {
			if (i*len(faultKinds())+j)%every(7) != 0 {
				continue
			}
			t.Run(op+"/"+kind, func(t *testing.T) {
				t.Parallel()
				p := play(t, made, script{Lanes: plain(), Faults: []fault{{op, 1, kind}, {op, 2, kind}, {op, 5, kind}}})
				for _, b := range p.broken {
					t.Error(b)
				}
			})
		}
	}
}

// TestLostAnswers lets the answer to the first commit be lost, to the second, and
// so on: of commits that were made, and of those that were not. It does so to one
// process, and to two that live on one database.
func TestLostAnswers(t *testing.T) {
	made := newTemplate(t)
	for processes, lanes := range map[int][]story.Script{1: plain()[:3], 2: plain()} {
		whole := play(t, made, script{Lanes: lanes, Processes: processes})
		for _, b := range whole.broken {
			t.Error(b)
		}
		for n := 0; n <= whole.commits; n += every(7 * processes) {
			for _, happened := range []bool{true, false} {
				t.Run(fmt.Sprintf("%d processes/%d/made %t", processes, n, happened), func(t *testing.T) {
					t.Parallel()
					p := play(t, made, script{Lanes: lanes, Processes: processes, Lost: []lostAnswer{{At: n, Made: happened}}})
					for _, b := range p.broken {
						t.Error(b)
					}
				})
			}
		}
	}
}

// TestTwoProcesses has two processes live on one database, of which the first ends
// after every commit in turn.
func TestTwoProcesses(t *testing.T) {
	made := newTemplate(t)
	lanes := plain()
	whole := play(t, made, script{Lanes: lanes, Processes: 2})
	for _, b := range whole.broken {
		t.Error(b)
	}
	for n := 1; n <= whole.commits; n += every(14) {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			p := play(t, made, script{Lanes: lanes, Processes: 2, Crashes: []int{n}})
			for _, b := range p.broken {
				t.Error(b)
			}
		})
	}
}

// TestCrashAfterEveryCommit ends the process after the first commit, after the
// second, and so on, of stories that without a crash make about as many.
func TestCrashAfterEveryCommit(t *testing.T) {
	made := newTemplate(t)
	lanes := plain()[:3]
	whole := play(t, made, script{Lanes: lanes})
	for _, b := range whole.broken {
		t.Error(b)
	}
	for n := 1; n <= whole.commits; n += every(7) {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			p := play(t, made, script{Lanes: lanes, Crashes: []int{n}})
			for _, b := range p.broken {
				t.Error(b)
			}
		})
	}
}
