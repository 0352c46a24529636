package attack_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
	"github.com/rack-gateway/rack-gateway-approvals/store"
)

const worldKey = "world"

// world is one product under attack and what the attacker saw last.
type world struct {
	*stage.Stage
	ctx context.Context
	log buffer // of the daemon
	db  *store.DB

	flows    map[string]*flow
	stepOf   map[string]time.Time // of each person's last right code
	lastCode map[string]string

	exit   int    // of the last program
	status int    // of the last call
	body   string // of its answer
	answer string // what the last click or submission led to
	said   string // and what it said
	sent   slacktest.Delivery
	link   string // of the enrolment page
	key    string // that it showed

	trapped atomic.Int64 // calls to where nobody may be sent
}

// flow is a workflow, and its request once it stands.
type flow struct {
	workflow, id string
	card         slacktest.Message
}

// buffer collects what several goroutines write.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func (w *world) end() {
	if w.db != nil {
		w.db.Close()
	}
	if w.Stage != nil {
		w.Close()
		os.RemoveAll(w.Dir)
	}
}

// open sets the stage, people included, and starts the daemon.
func (w *world) open(o stage.Options) error {
	dir, err := os.MkdirTemp("", "attack")
	if err != nil {
		return err
	}
	if o.Log == nil {
		o.Log = &w.log
	}
	if w.Stage, err = stage.New(dir, o); err != nil {
		return err
	}
	if err := w.Enrol(w.ctx); err != nil {
		return err
	}
	return w.start()
}

func (w *world) start() error {
	if err := w.Start(w.ctx); err != nil {
		return err
	}
	return w.Confirmed(w.ctx)
}

// database is the daemon's store, opened beside it.
func (w *world) database() (*store.DB, error) {
	if w.db != nil {
		return w.db, nil
	}
	keys, err := store.ParseKeys(w.Variable("RGW_SECRET_KEYS"))
	if err != nil {
		return nil, err
	}
	w.db, err = store.Open(w.ctx, store.Config{URL: "sqlite:" + w.file(), Keys: keys})
	return w.db, err
}

func (w *world) file() string { return strings.TrimPrefix(w.Variable("RGW_DATABASE_URL"), "sqlite:") }

func (w *world) view(read func(tx approvals.Tx) error) error {
	db, err := w.database()
	if err != nil {
		return err
	}
	return db.View(w.ctx, read)
}

func (w *world) update(change func(tx approvals.Tx) error) error {
	db, err := w.database()
	if err != nil {
		return err
	}
	return db.Update(w.ctx, change)
}

func (w *world) request(f *flow) (r approvals.Request, err error) {
	err = w.view(func(tx approvals.Tx) (err error) { r, err = tx.Request(f.id); return err })
	return r, err
}

// events reads the whole log.
func (w *world) events() (all []approvals.Event, err error) {
	err = w.view(func(tx approvals.Tx) error {
		for leaf, err := range tx.Leaves(0) {
			if err != nil {
				return err
			}
			var e approvals.Event
			if err := json.Unmarshal(leaf, &e); err != nil {
				return err
			}
			all = append(all, e)
		}
		return nil
	})
	return all, err
}

// until asks until the answer is yes.
func (w *world) until(yes func() (bool, error)) error {
	for {
		ok, err := yes()
		if ok || err != nil {
			return err
		}
		select {
		case <-w.ctx.Done():
			return w.ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// becomes waits for a status.
func (w *world) becomes(f *flow, want approvals.Status) error {
	var r approvals.Request
	err := w.until(func() (_ bool, err error) { r, err = w.request(f); return r.Status == want, err })
	if err != nil {
		return fmt.Errorf("got %s; want %s: %w", r.Status, want, err)
	}
	return nil
}

// pipeline adds a workflow whose tests and build are done.
func (w *world) pipeline(p circlecitest.Pipeline) (*flow, error) {
	f := &flow{workflow: w.Circle.AddWorkflow(circlecitest.Workflow{
		Pipeline: w.Circle.AddPipeline(p).ID, Name: "deploy", Jobs: circlecitest.DeployJobs(stage.Gate),
	})}
	for _, job := range []string{"test", "build"} {
		if err := w.Circle.Succeed(f.workflow, job); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// file files the request of a workflow as the documentation does.
func (w *world) fileRequest(f *flow) (err error) {
	if f.id, err = w.Request(w.ctx, f.workflow); err != nil {
		return err
	}
	f.card, err = w.Card(w.ctx, f.id)
	return err
}

// code makes the code that a script names.
func (w *world) code(user, kind string) string {
	const step = 30 * time.Second
	now := time.Now()
	switch {
	case kind == "right":
		// The next code counts already, so that nobody has to wait for it.
		at := now
		if last, ok := w.stepOf[user]; ok && !at.Truncate(step).After(last) {
			at = last.Add(step)
		}
		w.stepOf[user] = at.Truncate(step)
		w.lastCode[user] = w.Code(user, at)
		return w.lastCode[user]
	case kind == "used":
		return w.lastCode[user]
	case kind == "enrolment":
		return w.lastCode[kind]
	case kind == "wrong":
		return w.WrongCode(user, now)
	case kind == "old":
		return w.Code(user, now.Add(-2*step))
	case kind == "future":
		return w.Code(user, now.Add(3*step))
	case strings.HasPrefix(kind, "of:"):
		return w.Code(strings.TrimPrefix(kind, "of:"), now)
	}
	return kind
}

// saw keeps what a submission led to.
func (w *world) saw(got slacktest.SubmitResult) {
	switch {
	case got.Closed:
		w.answer, w.said = "accepted", ""
	case got.Updated != nil:
		w.answer, w.said = "refused", slacktest.Text(got.Updated.Blocks)
		if slices.ContainsFunc(got.Updated.Blocks, func(b slacktest.Block) bool { return b["type"] == "input" }) {
			w.answer = "asked again"
		}
	default:
		w.answer, w.said = "inline", ""
		for _, text := range got.Errors {
			w.said += text + "\n"
		}
	}
}

func of(ts *testscript.TestScript) *world { return ts.Value(worldKey).(*world) }
