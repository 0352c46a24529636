package proof_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/totp"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/proof"
	"github.com/rack-gateway/rack-gateway-approvals/store"
	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

const (
	circleToken = "circleci-machine-token"
	machine     = "rack-gateway-bot"
	gateName    = "approve_deploy"
	maxLanes    = 8
	admins      = 3 // of each lane
)

// template is a migrated database with the admins of all lanes, made once: each
// world gets a copy.
type template struct {
	file    []byte
	secrets map[string]totp.Secret
}

func newTemplate(t *testing.T) (made template) {
	made.secrets = map[string]totp.Secret{}
	synctest.Test(t, func(t *testing.T) { // so that its clock is that of the worlds
		path := filepath.Join(t.TempDir(), "template.db")
		db := open(t, path)
		a := approvals.Admin{Store: db}
		for l := range maxLanes {
			for n := range admins {
				id := adminID(l, n)
				if _, err := a.AddPerson(t.Context(), id, id, strings.ToLower(id)); err != nil {
					t.Fatal(err)
				}
				made.secrets[id] = totp.NewSecret()
				if err := a.Enrol(t.Context(), id, made.secrets[id], "", "import"); err != nil {
					t.Fatal(err)
				}
			}
		}
		tellNobody(t, db)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		var err error
		if made.file, err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	})
	return made
}

// tellNobody drops the messages about new admins: they are no part of a story.
func tellNobody(t *testing.T, db *store.DB) {
	err := db.Update(t.Context(), func(tx approvals.Tx) error {
		for {
			e, err := tx.Claim(approvals.FamilySlack, time.Now(), time.Minute)
			if errors.Is(err, approvals.ErrNotFound) {
				return nil
			}
			if err == nil {
				err = tx.Finish(e, time.Time{}, "")
			}
			if err != nil {
				return err
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

func adminID(lane, n int) string { return fmt.Sprintf("U0L%dA%d", lane, n) }

func open(t *testing.T, path string) *store.DB {
	t.Helper()
	keys, err := store.ParseKeys(storetest.Keys)
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), store.Config{Path: path, Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// memoryDir is a directory in memory where there is one: power cuts are not what
// these tests are about, and thousands of databases are written.
func memoryDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "proof-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// world is the product with its surroundings in one bubble of simulated time.
type world struct {
	slack    *slacktest.Server
	circle   *circlecitest.Server
	net      *network
	db       *store.DB
	settings approvals.Settings
	secrets  map[string]totp.Secret
	lanes    []*lane
	self     string
	blind    bool
	orderly  bool // cards come in the order of their requests
	codes    proof.Codes
	commits  atomic.Int64

	mu      sync.Mutex
	current *life
	crashes []int // after how many commits the coming lives end
	anchors [][]byte
	broken  []string
}

// newWorld builds what a script asks for.
func newWorld(t *testing.T, made template, s script) *world {
	t.Helper()
	path := filepath.Join(memoryDir(t), "proof.db")
	if err := os.WriteFile(path, made.file, 0o600); err != nil {
		t.Fatal(err)
	}
	scopes := slacktest.DefaultScopes()
	if s.Blind {
		scopes = scopes[:len(scopes)-2]
	}
	w := &world{
		slack: slacktest.New(slacktest.Config{Scopes: scopes, RateLimits: s.RateLimits}), circle: circlecitest.New(),
		db: open(t, path), secrets: made.secrets, blind: s.Blind, crashes: s.Crashes,
		orderly: s.orderly(),
	}
	w.net = &network{slack: w.slack, circle: w.circle, faults: s.Faults, counts: map[string]int{}}
	w.slack.SetBaseURL("http://" + slackHost)
	w.slack.SetRequestURL("http://" + botHost)
	w.circle.Configure(func(o *circlecitest.Options) {
		o.ListLagReads, o.HideBlockedRequestID, o.CancelBlocked = s.Lag, s.HideID, s.CancelBlocked
	})
	w.self = w.circle.AddUser(circlecitest.User{Login: machine}).ID
	for _, login := range []string{"alice", "mallory"} {
		w.circle.AddUser(circlecitest.User{Login: login})
	}
	w.circle.AddToken(circleToken, machine)
	var env []string
	for i, ls := range s.Lanes {
		l := newLane(w, i, ls)
		w.lanes = append(w.lanes, l)
		env = append(env, l.settings()...)
	}
	var bad []string
	if w.settings, bad = approvals.ParseSettings(env, w.lanes[0].channel); len(bad) > 0 {
		t.Fatal(bad)
	}
	return w
}

// run keeps the product alive until ctx ends: after each crash it is started
// anew on what is left.
func (w *world) run(ctx context.Context) {
	for ctx.Err() == nil {
		crashAt := 0
		w.mu.Lock()
		if len(w.crashes) > 0 {
			crashAt, w.crashes = w.crashes[0], w.crashes[1:]
		}
		w.mu.Unlock()
		l, err := w.live(ctx, crashAt)
		if err != nil {
			if ctx.Err() == nil {
				w.violation(fmt.Sprintf("the product does not start: %v", err))
			}
			return
		}
		w.mu.Lock()
		w.current = l
		w.mu.Unlock()
		select {
		case <-l.gone:
		case <-ctx.Done():
		}
		l.die()
		rest(ctx, 200*time.Millisecond)
		l.bot.Close()
		l.running.Wait()
	}
}

// now is the life that answers, nil while there is none.
func (w *world) now() *life {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.current == nil || w.current.dead.Load() {
		return nil
	}
	return w.current
}

// calm ends all trouble.
func (w *world) calm() {
	w.net.calm()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.crashes = nil
}

// mostBroken is how many findings of one world are kept: the first tell most.
const mostBroken = 3

func (w *world) violation(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.broken) < mostBroken {
		w.broken = append(w.broken, what)
	}
}

// anchor has the log signed as it is now.
func (w *world) anchor(ctx context.Context) {
	l := w.now()
	if l == nil {
		return
	}
	if text, err := l.service.Checkpoint(ctx, 0); err == nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.anchors = append(w.anchors, text)
	}
}

// inquest judges the log, the codes and the file when all is over.
func (w *world) inquest(ctx context.Context) {
	signer, err := approvals.OpenLog(ctx, w.db)
	if err != nil {
		w.violation(err.Error())
		return
	}
	events, found, err := proof.Log(ctx, w.db, signer.VerifierKey(), w.anchors)
	if err != nil {
		w.violation(err.Error())
	}
	for _, f := range append(found, w.codes.Broken(events)...) {
		w.violation(f)
	}
}
