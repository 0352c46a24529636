package approvals_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// fakeCode is a code host.
type fakeCode struct {
	mu    sync.Mutex
	says  approvals.Commits
	fails error
	slow  time.Duration
	asked []approvals.CommitQuery
	rests time.Time
}

func (c *fakeCode) Commits(ctx context.Context, q approvals.CommitQuery) (approvals.Commits, error) {
	c.mu.Lock()
	c.asked = append(c.asked, q)
	says, fails, slow := c.says, c.fails, c.slow
	c.mu.Unlock()
	select {
	case <-time.After(slow):
	case <-ctx.Done():
		return approvals.Commits{}, &approvals.CIError{Message: "no answer"}
	}
	return says, fails
}

func (c *fakeCode) Rest(d time.Duration) {
	c.set(func(c *fakeCode) { c.rests = time.Now().Add(d) })
}

func (c *fakeCode) set(change func(*fakeCode)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(c)
}

func (c *fakeCode) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.asked)
}

// codeBubble is a bubble with a code host.
func codeBubble(t *testing.T, settings string, fn func(w *world, code *fakeCode)) {
	t.Helper()
	bubble(t, settings, func(w *world) {
		code := &fakeCode{}
		w.cfg.Code = code
		w.restart()
		fn(w, code)
	})
}

var three = approvals.Commits{
	Count: 3, Authors: []string{"Login-U01", "dev"}, Config: approvals.ConfigSame,
	Newest: []approvals.Commit{{Hash: "ab", Subject: "Fix", Author: "dev"}},
}

func TestCommitsOnTheCard(t *testing.T) {
	codeBubble(t, "", func(w *world, code *fakeCode) {
		code.says = three
		w.deploy(w.file(1, func(*approvals.Facts) {}), "U02")
		r := w.file(2, func(f *approvals.Facts) { f.Config, f.SetupConfig, f.ConfigPath = "run", "begun", "ci.yml" })
		if c := w.card(r).Request.Commits; c == nil || c.Count != 3 {
			t.Errorf("the first card shows the commits %+v; want three", c)
		}
		want := approvals.CommitQuery{Repository: "acme/shop", Commit: r.Facts.Revision, Since: r.Last.Revision, ConfigPath: "ci.yml", Config: "begun"}
		if got := code.asked[len(code.asked)-1]; got != want || r.Last.Revision == "" {
			t.Errorf("asked for %+v; want %+v", got, want)
		}
		if w.count(r, approvals.EventCommitsRead) != 1 || code.count() != 2 {
			t.Errorf("got %d events after %d questions; want one for each request", w.count(r, approvals.EventCommitsRead), code.count())
		}
		for _, told := range w.told {
			if told == approvals.EventCommitsRead {
				t.Error("the thread tells the commits twice")
			}
		}
	})
}

// A code host that is slow or down never holds up a card, which is completed when it answers.
func TestCommitsComeLate(t *testing.T) {
	for name, tt := range map[string]struct {
		trouble func(*fakeCode)
		wait    time.Duration // until its word is there
	}{
		"slow":    {func(c *fakeCode) { c.slow = 3 * time.Second }, 5 * time.Second},
		"down":    {func(c *fakeCode) { c.fails = &approvals.CIError{Message: "no answer"} }, 10 * time.Second},
		"limited": {func(c *fakeCode) { c.fails = &approvals.CIError{Status: 429, RetryAfter: 20 * time.Minute} }, 25 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			codeBubble(t, "", func(w *world, code *fakeCode) {
				code.says = three
				code.set(tt.trouble)
				begun := time.Now()
				r := w.file(1, func(*approvals.Facts) {})
				if took := time.Since(begun); took > time.Second || w.card(r).Request.ID == "" || w.card(r).Request.Commits != nil {
					t.Fatalf("after %v the card shows %+v; want one without commits within a second", took, w.card(r).Request.Commits)
				}
				code.set(func(c *fakeCode) { c.fails = nil })
				w.wait(tt.wait)
				if c := w.card(r).Request.Commits; c == nil || c.Count != 3 {
					t.Errorf("later the card shows the commits %+v; want three", c)
				}
				if n := w.count(r, approvals.EventCommitsRead); n != 1 {
					t.Errorf("got %d events; want one", n)
				}
				w.mu.Lock()
				defer w.mu.Unlock()
				if w.told[len(w.told)-1] != approvals.EventCommitsRead {
					t.Errorf("the thread tells %v; want the commits last", w.told)
				}
			})
		})
	}
}

func TestForeignConfiguration(t *testing.T) {
	codeBubble(t, "", func(w *world, code *fakeCode) {
		code.says = approvals.Commits{Config: approvals.ConfigOther}
		_, _, err := w.ask(w.flowOf(1, func(*approvals.Facts) {}))
		w.fails(err, approvals.CodeConfigNotFromCommit)

		// It comes out after the card was posted: nothing is released any more.
		code.set(func(c *fakeCode) { c.slow = 5 * time.Second })
		pending := w.file(2, func(*approvals.Facts) {})
		w.is(pending, approvals.Pending)
		w.wait(10 * time.Second)
		w.is(pending, approvals.Canceled, approvals.FailForeignConfig)

		// Even a decision that came before waits no longer for its gate.
		code.set(func(c *fakeCode) { c.slow = 8 * time.Second })
		id := w.ci.newFlow(3, 3, "blocked")
		decided, _, err := w.ask(id)
		w.must(err)
		w.must(w.approve("U01", decided))
		w.is(decided, approvals.Approved)
		w.wait(20 * time.Second)
		w.is(decided, approvals.Canceled, approvals.FailForeignConfig)
		w.ci.mu.Lock()
		defer w.ci.mu.Unlock()
		if len(w.ci.posts) != 0 {
			t.Errorf("CircleCI was asked to approve %v", w.ci.posts)
		}
	})
}

// Until somebody on record is known to have started a workflow, each author of its
// commits counts as a possible starter.
func TestAuthorsAsStarters(t *testing.T) {
	bot := func(f *approvals.Facts) { f.Actor, f.StartedBy = "github-merge-queue[bot]", "" }
	for name, tt := range map[string]struct {
		settings string
		change   func(*approvals.Facts)
		authors  []string
		whole    bool
		stranger bool
		refused  approvals.RefusalCode // of U01
		self     string                // when U02 approves
	}{
		"an author":                        {"", bot, []string{"LOGIN-u01", "dev"}, true, true, "self_approval", "unknown"},
		"an author, all on record":         {"", bot, []string{"login-U01"}, true, false, "self_approval", "false"},
		"an author, perhaps others":        {"", bot, []string{"login-U01"}, false, true, "self_approval", "unknown"},
		"no author":                        {"", bot, []string{"login-U03"}, true, false, "", "false"},
		"no authors":                       {"", bot, nil, true, true, "", "unknown"},
		"a starter on record":              {"", func(f *approvals.Facts) { f.Actor, f.StartedBy = "login-U03", "" }, []string{"login-U01"}, true, false, "", "false"},
		"refused, but all are on record":   {"UNKNOWN_STARTER=refuse", bot, []string{"login-U03"}, true, false, "", "false"},
		"refused, and one is not":          {"UNKNOWN_STARTER=refuse", bot, []string{"login-U03", "dev"}, true, true, "unknown_starter", ""},
		"an author, with self allowed too": {"ALLOW_SELF_APPROVAL=true", bot, []string{"login-U02"}, true, false, "", "true"},
	} {
		t.Run(name, func(t *testing.T) {
			codeBubble(t, tt.settings, func(w *world, code *fakeCode) {
				code.says = approvals.Commits{Count: 2, Authors: tt.authors, Everybody: tt.whole}
				r := w.file(1, tt.change)
				if got := w.card(r).Stranger; got != tt.stranger {
					t.Errorf("the card says that the starter is unknown: %v; want %v", got, tt.stranger)
				}
				_, err := w.svc.MayDecide(w.ctx, approvals.Clicker{Team: team, User: "U01"}, r.ID, approvals.ActionApprove)
				w.refused(err, tt.refused)
				err = w.approve("U02", r)
				if tt.self == "" {
					w.refused(err, tt.refused)
					return
				}
				w.must(err)
				w.is(r, approvals.Released)
				if got := w.selfApproval(r); got != tt.self {
					t.Errorf("the log says self_approval=%q; want %q", got, tt.self)
				}
			})
		})
	}
}

// A vote of somebody who turns out to be an author counts no more.
func TestVoteOfALateAuthor(t *testing.T) {
	codeBubble(t, "REQUIRED_APPROVALS=2", func(w *world, code *fakeCode) {
		code.says = approvals.Commits{Count: 1, Authors: []string{"login-U01"}, Everybody: true}
		code.set(func(c *fakeCode) { c.slow = 5 * time.Second })
		r := w.file(1, func(f *approvals.Facts) { f.Actor, f.StartedBy = "bot[bot]", "" })
		w.must(w.approve("U01", r))
		w.wait(20 * time.Second)
		w.must(w.approve("U02", r))
		w.is(r, approvals.Pending)
		if got := w.card(r).Valid; got != 1 {
			t.Errorf("the card counts %d votes; want one", got)
		}
		w.must(w.approve("U03", r))
		w.is(r, approvals.Released)
	})
}

// What is over is not asked about any more, and what is elsewhere never.
func TestCommitsOfOthers(t *testing.T) {
	codeBubble(t, "", func(w *world, code *fakeCode) {
		code.set(func(c *fakeCode) { c.fails = &approvals.CIError{Status: 401, Message: "401"} })
		r := w.file(1, func(*approvals.Facts) {})
		w.must(w.reject("U01", r))
		w.wait(10 * time.Minute)
		if n := code.count(); n > 3 {
			t.Errorf("the code host was asked %d times about a request that was rejected", n)
		}
	})
	codeBubble(t, "VCS_PROVIDER=bitbucket CIRCLECI_PROJECT_SLUG=gh/acme/shop", func(w *world, code *fakeCode) {
		w.file(1, func(*approvals.Facts) {})
		w.wait(time.Minute)
		if n := code.count(); n != 0 {
			t.Errorf("GitHub was asked %d times about a repository on Bitbucket", n)
		}
	})
}

// When the code host asks one node for fewer calls, the others do not call it either,
// whether it was asked while a request was filed or later.
func TestNodesLeaveTheCodeHostAlone(t *testing.T) {
	limited := func(c *fakeCode) { c.fails = &approvals.CIError{Status: 429, RetryAfter: 20 * time.Minute} }
	for name, tt := range map[string]func(*fakeCode){
		"while filing": limited,
		"later":        func(c *fakeCode) { limited(c); c.slow = 3 * time.Second },
	} {
		t.Run(name, func(t *testing.T) {
			codeBubble(t, "", func(w *world, code *fakeCode) {
				other := &fakeCode{}
				stop := w.secondNode(func(c *approvals.Config, worker *approvals.Worker) { c.Code, worker.Slack = other, w })
				defer stop()
				code.set(tt)
				other.set(tt)
				begun := time.Now()
				w.file(1, func(*approvals.Facts) {})
				w.wait(5 * time.Second)
				for i, c := range []*fakeCode{code, other} {
					c.set(func(c *fakeCode) {
						if rest := c.rests.Sub(begun); rest < 20*time.Minute || rest > 20*time.Minute+5*time.Second {
							t.Errorf("node %d rests for %s; want 20 minutes", i+1, rest)
						}
					})
				}
			})
		})
	}
}
