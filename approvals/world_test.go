package approvals_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/totp"
	"github.com/rack-gateway/rack-gateway-approvals/store"
	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

const (
	team           = "T0RACK" // as that of the simulator of Slack, which can take over such a database
	defaultChannel = "CDEFAULT"
)

// tb is what the world needs of a *testing.T or a *rapid.T.
type tb interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// world is a whole gateway in memory: store, CI, workspace, people.
type world struct {
	t       tb
	ctx     context.Context
	db      *store.DB
	store   *brokenStore
	ci      *fakeCI
	dir     *fakeDirectory
	svc     *approvals.Service
	worker  *approvals.Worker
	admin   approvals.Admin
	token   approvals.Token
	cfg     approvals.Config
	secrets map[string]totp.Secret
	stop    func()

	mu      sync.Mutex
	told    []approvals.EventType // thread lines, in order
	merged  []approvals.EventType // what these lines tell, too
	notices []approvals.EventType // what the channel is told
	alarms  []string
	cards   map[string]approvals.Card
}

// card is what a request's card shows.
func (w *world) card(r approvals.Request) approvals.Card {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cards[r.ID]
}

type fakeDirectory struct {
	mu       sync.Mutex
	down     bool
	problems map[string]string
	limited  bool // only left more people are told of
	left     int

	unconnected bool
}

func (d *fakeDirectory) User(_ context.Context, id string) (string, string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.unconnected {
		return "", "", fmt.Errorf("slack: %w", approvals.ErrNotConnected)
	}
	if d.down || d.limited && d.left == 0 {
		return "", "", errors.New("slack does not answer")
	}
	d.left--
	return "Name " + id, d.problems[id], nil
}

func (d *fakeDirectory) Groups(_ context.Context, ids []string) (groups []approvals.Group, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.down {
		return nil, errors.New("slack does not answer")
	}
	for _, id := range ids {
		groups = append(groups, approvals.Group{ID: id, Members: []string{"U02"}})
	}
	return groups, nil
}

func (d *fakeDirectory) set(down bool) { d.mu.Lock(); defer d.mu.Unlock(); d.down = down }

// bubble runs fn in a synctest bubble with a world. Settings are KEY=value of
// the app shop, or whole variables, with ~ for a blank in a value.
func bubble(t *testing.T, settings string, fn func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, settings)
		defer w.close()
		w.run()
		fn(w)
	})
}

func parse(t tb, settings string) approvals.Settings {
	environ := []string{"RGW_APP_SHOP_SETTING_VCS_REPO=acme/shop", "RGW_APP_SHOP_SETTING_CIRCLECI_APPROVAL_JOB_NAME=hold",
		"RGW_APP_SHOP_SETTING_CIRCLECI_AUTO_APPROVE_ON_APPROVAL=true", "RGW_APP_SHOP_SETTING_PENDING_TTL=2h"}
	for f := range strings.FieldsSeq(settings) {
		if !strings.HasPrefix(f, "RGW_") {
			f = "RGW_APP_SHOP_SETTING_" + f
		}
		f = strings.ReplaceAll(f, "~", " ")
		name, _, _ := strings.Cut(f, "=")
		environ = slices.DeleteFunc(environ, func(e string) bool { return strings.HasPrefix(e, name+"=") })
		environ = append(environ, f)
	}
	s, faults := approvals.ParseSettings(environ, defaultChannel)
	if len(faults) > 0 {
		t.Fatalf("settings: %q", faults)
	}
	return s
}

func newWorld(t tb, settings string) *world {
	db := openDB(t)
	w := &world{t: t, ctx: context.Background(), cards: map[string]approvals.Card{}, db: db, store: &brokenStore{Store: db}, dir: &fakeDirectory{problems: map[string]string{}}, secrets: map[string]totp.Secret{},
		ci: &fakeCI{flows: map[string]*flow{}, faults: map[string]*fault{}}}
	w.admin = approvals.Admin{Store: w.store}
	signer, err := approvals.OpenLog(w.ctx, w.store)
	w.must(err)
	w.cfg = approvals.Config{Store: w.store, CI: w.ci, Directory: w.dir, Settings: parse(t, settings), Signer: signer}
	for _, id := range []string{"U01", "U02", "U03"} {
		_, err := w.admin.AddPerson(w.ctx, id, "", "login-"+id)
		w.must(err)
		w.secrets[id] = totp.NewSecret()
		w.must(w.admin.Enrol(w.ctx, id, w.secrets[id], "", approvals.EnrolledByImport))
	}
	_, w.token, err = w.admin.CreateToken(w.ctx, "ci", approvals.RoleCICD, []string{"shop"}, 1000*time.Hour)
	w.must(err)
	w.start()
	w.must(w.svc.Bind(w.ctx, team))
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// start makes a new process on the same store.
func (w *world) start() {
	w.svc = approvals.New(w.cfg)
	w.worker = &approvals.Worker{Service: w.svc, Slack: w}
	w.must(w.svc.Start(w.ctx, defaultChannel, "test"))
}

// run starts the worker, halt stops it, as a process that ends.
func (w *world) run() {
	ctx, cancel := context.WithCancel(w.ctx)
	done := make(chan struct{})
	go func() { w.worker.Run(ctx); close(done) }()
	w.stop = func() { cancel(); <-done }
	w.wait(0)
}

func (w *world) halt() {
	if w.stop != nil {
		w.stop()
		w.stop = nil
	}
}

func (w *world) restart() { w.halt(); w.must(w.db.Leave(w.ctx)); w.start(); w.run() }

// close ends the world.
func (w *world) close() {
	w.halt()
	w.must(w.db.Close())
}

// openDB opens a new database in memory that is a file all the same.
func openDB(t tb) *store.DB {
	dir, err := os.MkdirTemp("/dev/shm", "approvals-")
	if err != nil {
		dir, err = os.MkdirTemp("", "approvals-")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	keys, err := store.ParseKeys(storetest.Keys)
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(context.Background(), store.Config{URL: "sqlite:" + filepath.Join(dir, "test.db"), Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

var errCrash = errors.New("the process died")

// brokenStore is a store whose process dies before or after a commit, when crash
// says so.
type brokenStore struct {
	approvals.Store
	crash func() (before, after bool)
}

func (s *brokenStore) Update(ctx context.Context, fn func(approvals.Tx) error) error {
	if s.crash == nil {
		return s.Store.Update(ctx, fn)
	}
	var after bool
	err := s.Store.Update(ctx, func(tx approvals.Tx) error {
		if err := fn(tx); err != nil {
			return err
		}
		var before bool
		if before, after = s.crash(); before {
			return errCrash
		}
		return nil
	})
	if err == nil && after {
		return errCrash
	}
	return err
}

// wait lets time pass and everything come to rest. A long time passes from one
// piece of work to the next, for the worker's own ticks would fill it.
func (w *world) wait(d time.Duration) {
	if w.stop != nil && d >= 3*time.Minute {
		w.halt()
		step := 2 * time.Second
		if d >= 12*time.Hour {
			step = time.Minute
		}
		w.worker.Pass(w.ctx, d-time.Second, step)
		w.run()
		d = time.Second
	}
	time.Sleep(d + time.Millisecond)
	synctest.Wait()
}

// Turn lets Slack take everything at once.
func (w *world) Turn(string) time.Time { return time.Time{} }

// Rest is Slack asking for fewer calls.
func (w *world) Rest(string, time.Duration) {}

// Deliver is Slack: it takes everything.
func (w *world) Deliver(ctx context.Context, work approvals.Work) approvals.Outcome {
	out := approvals.Done()
	switch work.Kind {
	case approvals.WorkCard:
		card, err := w.svc.Card(ctx, work.Subject)
		if err != nil {
			return approvals.Again(time.Second, err)
		}
		w.mu.Lock()
		w.cards[work.Subject] = card
		w.mu.Unlock()
		if card.Request.Slack.TS == "" {
			out.Record = w.svc.Posted(card.Request, approvals.SlackRef{Channel: defaultChannel, TS: "1", Permalink: "https://slack/" + work.Subject}, "")
		}
	case approvals.WorkThread:
		thread, err := w.svc.Untold(ctx, work.Subject)
		if err != nil {
			return approvals.Again(time.Second, err)
		}
		if len(thread.Lines) > 0 && thread.Card.TS == "" {
			return approvals.Outcome{Due: time.Now().Add(time.Second), Rank: work.Rank} // there is no thread yet
		}
		w.mu.Lock()
		for _, t := range thread.Lines {
			for _, e := range t.With {
				w.merged = append(w.merged, e.Type)
			}
			w.told = append(w.told, t.Event.Type)
		}
		w.mu.Unlock()
		out.Due = thread.Due
		out.Record = w.svc.TellUntil(work.Subject, thread.Card, thread.Newest, false)
	case approvals.WorkNotice:
		seq, _, err := approvals.ParseNotice(work.Subject)
		if err == nil {
			var t approvals.Told
			t, err = w.svc.Tell(ctx, seq)
			w.mu.Lock()
			w.notices = append(w.notices, t.Event.Type)
			w.mu.Unlock()
		}
		if err != nil {
			return approvals.Again(time.Second, err)
		}
	case approvals.WorkAlarm:
		fault, err := w.svc.Alarm(ctx)
		if err != nil {
			return approvals.Again(time.Second, err)
		}
		if fault != "" {
			w.mu.Lock()
			w.alarms = append(w.alarms, fault)
			w.mu.Unlock()
		}
	}
	return out
}

func (w *world) ask(workflow string) (approvals.Request, bool, error) {
	w.ci.mu.Lock()
	commit := "0000000"
	if f := w.ci.flows[workflow]; f != nil {
		commit = f.facts.Revision
	}
	w.ci.mu.Unlock()
	return w.svc.Request(w.ctx, w.token, approvals.NewRequest{App: "shop", GitCommit: commit, WorkflowID: workflow})
}

// request files one for a new workflow whose gate has the status.
func (w *world) request(n int, gate approvals.JobStatus) approvals.Request {
	w.t.Helper()
	r, created, err := w.ask(w.ci.newFlow(n, int64(n), gate))
	if err != nil || !created {
		w.t.Fatalf("create: got %v, %v", created, err)
	}
	w.wait(0)
	return r
}

func (w *world) code(user string) string { return w.secrets[user].At(time.Now()) }

func (w *world) approve(user string, r approvals.Request) error {
	err := w.svc.Decide(w.ctx, approvals.Clicker{Team: team, User: user}, r.ID, approvals.ActionApprove, "", w.code(user))
	w.wait(0)
	return err
}

func (w *world) reject(user string, r approvals.Request) error {
	err := w.svc.Decide(w.ctx, approvals.Clicker{Team: team, User: user}, r.ID, approvals.ActionReject, "no", "")
	w.wait(0)
	return err
}

func (w *world) get(r approvals.Request) approvals.Request {
	w.t.Helper()
	got, _, err := w.svc.Story(w.ctx, r.ID)
	w.must(err)
	return got
}

// is checks the status, and the failure when one is given.
func (w *world) is(r approvals.Request, want approvals.Status, failure ...string) approvals.Request {
	w.t.Helper()
	got := w.get(r)
	if got.Status != want || len(failure) > 0 && got.Failure.Code != failure[0] {
		w.t.Fatalf("request #%d: got %s (%s: %s); want %s %s", got.Number, got.Status, got.Failure.Code, got.Failure.Detail, want, failure)
	}
	return got
}

func (w *world) count(r approvals.Request, types ...approvals.EventType) (n int) {
	_, events, err := w.svc.Story(w.ctx, r.ID)
	w.must(err)
	for _, e := range events {
		if slices.Contains(types, e.Type) {
			n++
		}
	}
	return n
}

func (w *world) refused(err error, want approvals.RefusalCode) {
	w.t.Helper()
	if why(err) != want {
		w.t.Fatalf("got %v; want refusal %q", err, want)
	}
}

func (w *world) fails(err error, want approvals.Code) {
	w.t.Helper()
	if code(err) != want {
		w.t.Fatalf("got %v; want code %q", err, want)
	}
}

// events lists the whole log.
func (w *world) events() (all []approvals.Event) {
	w.t.Helper()
	w.must(w.db.View(w.ctx, func(tx approvals.Tx) error {
		for line, err := range tx.Leaves(0) {
			if err != nil {
				return err
			}
			e, err := approvals.ParseEvent(line)
			if err != nil {
				return err
			}
			all = append(all, e)
		}
		return nil
	}))
	return all
}

// factor is a person's authenticator, zero without one.
func (w *world) factor(user string) (a approvals.Authenticator) {
	w.t.Helper()
	w.must(w.db.View(w.ctx, func(tx approvals.Tx) (err error) {
		if a, err = approvals.AuthenticatorOf(tx, user); errors.Is(err, approvals.ErrNotFound) {
			err = nil
		}
		return err
	}))
	return a
}

// write changes the store behind the product's back.
func (w *world) write(fn func(approvals.Tx) error) {
	w.t.Helper()
	w.must(w.db.Update(w.ctx, fn))
}

// wall is the time at the precision that is stored.
func wall() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
