package soak_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/proof"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
	"github.com/rack-gateway/rack-gateway-approvals/store"
)

// startTime is how long a daemon may take to be ready.
const startTime = 15 * time.Second

// rig is the daemon as a process on a stage of its own, and what is found about it.
type rig struct {
	*stage.Stage
	self       string          // our user id at CircleCI
	quick      *webhook.Client // gives up at once
	codes      proof.Codes
	answerTime time.Duration // how long a person looks at a window that does not react
	log        *os.File
	out        io.Writer // what is told while it goes on

	mu      sync.Mutex
	broken  []string
	anchors [][]byte
}

// newRig prepares everything but the daemon and its people, with a token for all apps.
func newRig(ctx context.Context, dir string, out io.Writer, env []string) (*rig, error) {
	s, err := stage.New(dir, stage.Options{Env: append([]string{"RGW_RATE_LIMIT=0"}, env...)})
	if err != nil {
		return nil, err
	}
	r := &rig{Stage: s, out: out}
	if r.self, err = s.MachineID(ctx); err == nil {
		s.Token, err = s.NewToken(ctx, "soak", "--role", "cicd", "--all-apps")
	}
	if err == nil {
		r.quick, err = webhook.NewClient(webhook.ClientConfig{URL: s.URL, Token: s.Token, UserAgent: "soak", RetryFor: -1})
	}
	if err == nil {
		r.log, err = os.Create(filepath.Join(dir, "daemon.log"))
	}
	if err != nil {
		s.Close()
	}
	return r, err
}

// live starts a daemon and waits until Slack reaches it.
func (r *rig) live(ctx context.Context) (*stage.Process, error) {
	proc, err := r.Spawn(r.log)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	if err := r.Ready(ctx, proc); err != nil {
		proc.Kill()
		return nil, fmt.Errorf("the daemon is not ready: %w", err)
	}
	return proc, nil
}

// close ends all but the daemon.
func (r *rig) close() {
	r.Close()
	r.log.Close()
}

// violation keeps a broken promise with all that tells of its cause.
func (r *rig) violation(what string) {
	fmt.Fprintf(r.out, "VIOLATION %s\n", what)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken = append(r.broken, what)
}

// found counts the promises that were broken.
func (r *rig) found() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.broken)
}

// keepAnchor keeps what the daemon last signed.
func (r *rig) keepAnchor() {
	text, err := os.ReadFile(r.Variable("RGW_ANCHOR_FILE"))
	if err != nil {
		return // not written yet
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.anchors); n == 0 || !slices.Equal(r.anchors[n-1], text) {
		r.anchors = append(r.anchors, text)
	}
}

// autopsy opens the database while no daemon runs, and judges log and file.
func (r *rig) autopsy(ctx context.Context) ([]approvals.Event, error) {
	keys, err := store.ParseKeys(r.Variable("RGW_SECRET_KEYS"))
	if err != nil {
		return nil, err
	}
	db, err := store.Open(ctx, store.Config{URL: r.Variable("RGW_DATABASE_URL"), Keys: keys})
	if err != nil {
		return nil, err
	}
	defer db.Close()
	signer, err := approvals.OpenLog(ctx, db)
	if err != nil {
		return nil, err
	}
	events, found, err := proof.Log(ctx, db, signer.VerifierKey(), r.anchors)
	for _, f := range found {
		r.violation(f)
	}
	return events, err
}

// last stops the daemons and judges what they left, and every code that was sent.
func (r *rig) last(ctx context.Context, procs ...*stage.Process) error {
	for _, proc := range procs {
		if err := proc.Stop(); err != nil {
			r.violation(fmt.Sprintf("a daemon did not stop well: %v", err))
		}
	}
	r.keepAnchor()
	events, err := r.autopsy(ctx)
	for _, f := range r.codes.Broken(events) {
		r.violation(f)
	}
	return err
}
