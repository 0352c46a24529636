package soak_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

const (
	// olderEnds is how long an older daemon may go on without writing anything.
	olderEnds = 10 * time.Second
	// exitNewer is the exit code of a daemon whose database is newer.
	exitNewer = 3
)

// TestVersions deploys a newer version, with one migration more, on two daemons that
// serve: two daemons at a time start at the same moment, on an empty database and on
// one whose schema is older; the older ones end by themselves, and the newer ones go
// on with what was open.
func TestVersions(t *testing.T) {
	begin(t)
	database := storetest.Server(t)
	newer := newerVersion(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	d, err := newDeploy(t, database)
	if err != nil {
		t.Fatal(err)
	}
	old, err := d.start(ctx, [2]int{0, 1}, d.Spawn)
	if err == nil {
		err = d.People(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	workflow := d.Pipeline(1)
	id, err := d.Request(ctx, workflow)
	if err != nil {
		t.Fatal(err)
	}
	card, err := d.Card(ctx, id)
	if err == nil {
		err = newCaller(d.URL, d.Token).recorded(ctx, id)
	}
	if err != nil {
		t.Fatal(err)
	}
	before := d.show(ctx, t, id)

	began := time.Now()
	_, err = d.start(ctx, [2]int{2, 3}, func(out *os.File, env ...string) (*stage.Process, error) {
		return d.SpawnProgram(newer, out, env...)
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range old {
		select {
		case <-p.Ended():
		case <-time.After(olderEnds):
			t.Fatalf("the older daemon %d did not end within %s", i, olderEnds)
		}
		d.wantNewer(t, i, p)
	}
	t.Logf("two newer daemons work, and the older ones have ended, after %s", short(time.Since(began)))
	if after := d.show(ctx, t, id); after != before {
		t.Errorf("the request is now\n%s\nand was\n%s", after, before)
	}
	late, err := d.Spawn(d.log, "RGW_LISTEN="+d.balancer.Address(0), "RGW_METRICS_LISTEN=")
	if err != nil {
		t.Fatal(err)
	}
	d.all = append(d.all, late)
	<-late.Ended()
	d.wantNewer(t, 0, late)

	view, err := d.Press(ctx, stage.Ana, card, "approve")
	if err != nil {
		t.Fatal(err)
	}
	got, err := d.Submit(ctx, stage.Ana, view, d.Code(stage.Ana, time.Now()))
	if err != nil || !got.Closed {
		t.Fatalf("approve: got %+v, %v; want the modal closed", got, err)
	}
	if err := d.Circle.Succeed(workflow, "request_approval"); err != nil {
		t.Fatal(err)
	}
	if err := again(ctx, func() bool { return strings.Contains(d.show(ctx, t, id), `"status":"released"`) }); err != nil {
		t.Errorf("it is not released: %s", d.show(ctx, t, id))
	}
	if n := len(d.Circle.Approvals(workflow)); n != 1 {
		t.Errorf("got %d approve calls; want 1", n)
	}
}

// newerVersion builds the daemon with one migration more.
func newerVersion(t *testing.T) (program string) {
	t.Helper()
	migrations := filepath.Join(moduleRoot(t), "store", "postgres", "migrations")
	known, err := os.ReadDir(migrations)
	if err != nil {
		t.Fatal(err)
	}
	return buildWith(t, map[string]string{
		filepath.Join(migrations, fmt.Sprintf("%04d_newer.sql", len(known)+1)): `ALTER TABLE requests ADD COLUMN newer text COLLATE "C" NOT NULL DEFAULT ''`,
	})
}

func moduleRoot(t *testing.T) string {
	t.Helper()
	mod, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Dir(strings.TrimSpace(string(mod)))
}

// buildWith builds the daemon with other texts in place of files, or beside them.
func buildWith(t *testing.T, texts map[string]string) (program string) {
	t.Helper()
	dir := t.TempDir()
	replace := map[string]string{}
	for file, text := range texts {
		replace[file] = filepath.Join(dir, filepath.Base(file))
		if err := os.WriteFile(replace[file], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	overlay := filepath.Join(dir, "overlay.json")
	text, err := json.Marshal(map[string]map[string]string{"Replace": replace})
	if err == nil {
		err = os.WriteFile(overlay, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	program = filepath.Join(dir, "rack-gatewayd")
	build := exec.Command("go", "build", "-buildvcs=false", "-overlay", overlay, "-o", program, "./cmd/rack-gatewayd")
	build.Dir = moduleRoot(t)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the daemon: %v\n%s", err, out)
	}
	return program
}

// deploy is four places for daemons behind a balancer.
type deploy struct {
	*stage.Stage
	balancer *stage.Balancer
	log      *os.File
	all      []*stage.Process
}

func newDeploy(t *testing.T, database string) (*deploy, error) {
	dir := t.TempDir()
	s, err := stage.New(dir, stage.Options{Env: []string{"RGW_DATABASE_URL=" + database}})
	if err != nil {
		return nil, err
	}
	d := &deploy{Stage: s}
	t.Cleanup(func() {
		for _, p := range d.all {
			p.Kill()
		}
		s.Close()
	})
	if d.balancer, err = s.NewBalancer(4); err != nil {
		return nil, err
	}
	t.Cleanup(d.balancer.Close)
	d.log, err = os.Create(filepath.Join(dir, "daemon.log"))
	t.Cleanup(func() { d.log.Close() })
	return d, err
}

// start starts two daemons at the same moment and waits until both work.
func (d *deploy) start(ctx context.Context, slots [2]int, spawn func(*os.File, ...string) (*stage.Process, error)) (procs [2]*stage.Process, err error) {
	for i, slot := range slots {
		if procs[i], err = spawn(d.log, "RGW_LISTEN="+d.balancer.Address(slot), "RGW_METRICS_LISTEN="); err != nil {
			return procs, err
		}
		d.all = append(d.all, procs[i])
	}
	own, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for _, slot := range slots {
		newCaller("http://"+d.balancer.Address(slot), "").untilReady(own, time.Now())
	}
	return procs, errors.Join(own.Err(), d.Slack.WaitSockets(own, len(slots)))
}

// wantNewer judges how an older daemon ended.
func (d *deploy) wantNewer(t *testing.T, i int, p *stage.Process) {
	t.Helper()
	text, err := os.ReadFile(d.log.Name())
	if err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if !errors.As(p.Err(), &exit) || exit.ExitCode() != exitNewer || !strings.Contains(string(text), "database is newer than this program") {
		t.Errorf("the older daemon %d ended with %v; want exit code %d and why:\n%s", i, p.Err(), exitNewer, text)
	}
}

// show is a request as the API has it.
func (d *deploy) show(ctx context.Context, t *testing.T, id string) string {
	t.Helper()
	client, err := webhook.NewClient(webhook.ClientConfig{URL: d.URL, Token: d.Token, UserAgent: "soak"})
	if err != nil {
		t.Fatal(err)
	}
	r, err := client.Get(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
