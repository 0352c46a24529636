package proof_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
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
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/story"
	"github.com/rack-gateway/rack-gateway-approvals/store"
	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

const (
	circleToken = "circleci-machine-token"
	machine     = "rack-gateway-bot"
	maxLanes    = 8
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
			for n := range story.Admins {
				id := story.Admin(l, n)
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
		lanes, err := tx.Lanes(approvals.FamilySlack)
		if err != nil {
			return err
		}
		for _, l := range lanes {
			all, err := tx.Claim(l.Name, 1000, time.Minute)
			if err != nil {
				return err
			}
			for _, w := range all {
				w.Due = time.Time{}
				if err := tx.Finish(w); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, path string) *store.DB {
	t.Helper()
	db, err := openAt(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func openAt(ctx context.Context, path string) (*store.DB, error) {
	keys, err := store.ParseKeys(storetest.Keys)
	if err != nil {
		return nil, err
	}
	return store.Open(ctx, store.Config{URL: "sqlite:" + path, Keys: keys})
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
	path     string    // of the database
	db       *store.DB // the judge's own opening of it
	settings approvals.Settings
	secrets  map[string]totp.Secret
	lanes    []*story.Lane
	self     string
	codes    proof.Codes
	commits  atomic.Int64

	processes int

	mu      sync.Mutex
	alive   []*life // by process
	turn    int     // of the processes, to answer
	crashes []int   // after how many commits the coming lives end
	lost    []lostAnswer
	anchors [][]byte
	broken  []string
	read    map[string][]approvals.Event // the histories as they were read, by request
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
		path: path, db: open(t, path), secrets: made.secrets, crashes: s.Crashes, lost: slices.Clone(s.Lost),
		processes: max(s.Processes, 1), read: map[string][]approvals.Event{},
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
	all := &story.World{
		Slack: w.slack, Circle: w.circle, Gateway: w, Codes: &w.codes, Secret: func(user string) totp.Secret { return w.secrets[user] },
		Self: w.self, Blind: s.Blind, Orderly: s.orderly(), Violation: w.violation,
	}
	env := []string{"RGW_SETTING_PENDING_TTL=2m", "RGW_SETTING_REMIND_AFTER=1m", "RGW_SETTING_DEPLOY_APPROVAL_WINDOW_MINUTES=1"}
	for i, ls := range s.Lanes {
		l := story.NewLane(all, i, ls)
		w.lanes = append(w.lanes, l)
		env = append(env, l.Settings()...)
	}
	var bad []string
	if w.settings, bad = approvals.ParseSettings(env, w.lanes[0].Channel); len(bad) > 0 {
		t.Fatal(bad)
	}
	return w
}

// run keeps the product alive until ctx ends, in as many processes as the script
// asks for: after each crash it is started anew on what is left.
func (w *world) run(ctx context.Context) {
	w.mu.Lock()
	w.alive = make([]*life, w.processes)
	w.mu.Unlock()
	var all sync.WaitGroup
	for n := range w.processes {
		all.Go(func() { w.runProcess(ctx, n) })
	}
	all.Wait()
}

func (w *world) runProcess(ctx context.Context, n int) {
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
		w.alive[n] = l
		w.mu.Unlock()
		select {
		case <-l.gone:
		case <-ctx.Done():
		}
		l.die()
		approvals.Pause(ctx, 200*time.Millisecond)
		l.bot.Close()
		l.running.Wait()
		if why := l.service.Fault(); why != "" {
			w.violation("I9: a false alarm: " + why)
		}
		if err := l.db.Close(); err != nil {
			w.violation(fmt.Sprintf("close the database: %v", err))
		}
	}
}

// now is the life that answers, nil while there is none. Several take turns.
func (w *world) now() *life {
	w.mu.Lock()
	defer w.mu.Unlock()
	for range w.alive {
		w.turn = (w.turn + 1) % len(w.alive)
		if l := w.alive[w.turn]; l != nil && !l.dead.Load() {
			return l
		}
	}
	return nil
}

// loses takes the fault of a commit, nil when its answer arrives.
func (w *world) loses() *lostAnswer {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, l := range w.lost {
		if int64(l.At) <= w.commits.Load() {
			w.lost = slices.Delete(w.lost, i, i+1)
			return &l
		}
	}
	return nil
}

// calm ends all trouble.
func (w *world) calm() {
	w.net.calm()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.crashes, w.lost = nil, nil
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
	logged := map[string][]approvals.Event{}
	for _, e := range events {
		logged[e.Request] = append(logged[e.Request], e)
	}
	for id, had := range w.read {
		if now := logged[id]; len(now) < len(had) || !reflect.DeepEqual(now[:len(had)], had) {
			w.violation(fmt.Sprintf("I7: the history of request %s is not what it was", id))
		}
	}
}
