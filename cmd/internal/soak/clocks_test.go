package soak_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/proof"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

const (
	// claimTime is for how long a node has what it claimed to itself.
	claimTime = 90 * time.Second
	// longPost is how long Slack takes for a card, so that another node could take the
	// claim for one that has expired.
	longPost = 4 * time.Second
	// tolerated is by how much a node's clock may be off that still decides.
	tolerated = 25 * time.Second
)

// TestClocks has two daemons work on one PostgreSQL database, of which the clock of the
// second one is wrong: times, claims and codes go by the server's clock, and a node
// whose clock is off by more than 30 seconds decides nothing.
func TestClocks(t *testing.T) {
	only(t, "clocks")
	storetest.Server(t)
	program := otherClock(t)
	// Only a clock that is further ahead than claimTime would take a claim early.
	for _, off := range []time.Duration{time.Minute, -time.Minute, 2 * time.Minute} {
		t.Run(off.String(), func(t *testing.T) { newClocks(t, program, off, "503").apart() })
	}
	for _, off := range []time.Duration{tolerated, -tolerated} {
		t.Run(off.String(), func(t *testing.T) { newClocks(t, program, off, "200").codes() })
	}
}

// otherClock builds the daemon with a wall clock that is off by the time that the
// variable CLOCK_OFFSET says.
func otherClock(t *testing.T) (program string) {
	t.Helper()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(strings.TrimSpace(string(root)), "src", "time")
	text, err := os.ReadFile(filepath.Join(source, "time.go"))
	if err != nil {
		t.Fatal(err)
	}
	const reading = "sec, nsec, mono := runtimeNow()\n"
	if n := strings.Count(string(text), reading); n != 1 {
		t.Fatalf("the clock is read in %d places of time.go; want one", n)
	}
	return buildWith(t, map[string]string{
		filepath.Join(source, "time.go"): strings.Replace(string(text), reading, reading+"\tsec += clockOffset\n", 1),
		filepath.Join(source, "offset.go"): `package time

import "syscall"

var clockOffset int64

func init() {
	text, _ := syscall.Getenv("CLOCK_OFFSET")
	off, err := ParseDuration(text)
	if err != nil {
		panic(err)
	}
	clockOffset = int64(off / Second)
}
`,
	})
}

// clocks are two nodes, of which the second one has another clock.
type clocks struct {
	*stage.Nodes
	*stage.Stage
	t     *testing.T
	ctx   context.Context
	off   time.Duration
	began time.Time
}

func newClocks(t *testing.T, program string, off time.Duration, readyz string) *clocks {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	s, err := stage.New(t.TempDir(), stage.Options{HTTP: true, Env: []string{"RGW_SETTING_SUPERSEDE=off"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	c := &clocks{Stage: s, t: t, ctx: ctx, off: off, began: time.Now()}
	log, err := os.Create(filepath.Join(s.Dir, "nodes.log"))
	c.ok(err)
	t.Cleanup(func() { log.Close() })
	c.Nodes, err = s.NewNodes(2, storetest.Server(t), log)
	c.ok(err)
	t.Cleanup(c.Nodes.Close)
	c.Change(1, program, "CLOCK_OFFSET="+off.String())
	c.ok(c.Enrol(ctx))
	c.ok(c.Nodes.Start(ctx, 0))
	c.ok(c.Nodes.StartUntil(ctx, 1, readyz))
	c.ok(c.Confirmed(ctx))
	return c
}

func (c *clocks) ok(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// asked files a request at a node and waits for its card.
func (c *clocks) asked(node int, number int64) (workflow, id string, card slacktest.Message) {
	c.t.Helper()
	c.Prefer(node)
	workflow = c.Pipeline(number)
	id, err := c.Request(c.ctx, workflow)
	c.ok(err)
	c.ok(c.Circle.Succeed(workflow, "request_approval"))
	card, err = c.Card(c.ctx, id)
	c.ok(err)
	return workflow, id, card
}

// apart plays a deploy with a node whose clock is too far away to decide.
func (c *clocks) apart() {
	t, ctx := c.t, c.ctx
	if says := c.clockPart(); !strings.Contains(says, "differs from the database server's by ") {
		t.Errorf("/readyz of node 2 says of its clock %q; want by how much it differs", says)
	}
	workflow, id, card := c.asked(1, 1)
	c.Prefer(1)
	var refused *stage.Refused
	if _, err := c.Press(ctx, stage.Ana, card, "approve"); !errors.As(err, &refused) || !strings.Contains(refused.Text, "clock") {
		t.Errorf("approve at node 2: got %v; want it refused because of the clock", err)
	}
	c.Prefer(0)
	view, err := c.Press(ctx, stage.Ana, card, "approve")
	c.ok(err)
	c.Prefer(1)
	got, err := c.Submit(ctx, stage.Ana, view, c.Code(stage.Ana, time.Now()))
	c.ok(err)
	if got.Updated == nil || !strings.Contains(fmt.Sprint(got.Updated.Blocks), "clock") {
		t.Errorf("a code at node 2: got %+v; want it refused because of the clock", got)
	}
	c.ok(c.Slack.CloseView(stage.Ana))
	c.Prefer(0)
	view, err = c.Press(ctx, stage.Ana, card, "approve")
	c.ok(err)
	got, err = c.Submit(ctx, stage.Ana, view, c.Code(stage.Ana, time.Now()))
	c.ok(err)
	if !got.Closed {
		t.Errorf("the same code at node 1: got %+v; want it taken", got)
	}
	c.ok(c.Circle.Wait(ctx, func() bool { return c.Circle.JobStatus(workflow, stage.Gate) == "success" }))
	c.Prefer(1)
	c.ok(again(ctx, func() bool {
		return strings.Contains(c.Client(ctx, workflow, "deploy-approval", "show", id).Stdout, "released")
	}))
	c.rejected(1)
	if c.off > claimTime {
		c.claims()
	}
	c.times()
}

// rejected has a request rejected at a node.
func (c *clocks) rejected(node int) {
	c.t.Helper()
	workflow, _, card := c.asked(node, 2)
	view, err := c.Press(c.ctx, stage.Bea, card, "reject")
	c.ok(err)
	got, err := c.Slack.Submit(c.ctx, stage.Bea, view.ID, slacktest.Values{"reason": {"text": "no"}})
	c.ok(err)
	if !got.Closed {
		c.t.Errorf("reject at node %d: got %+v; want it taken", node+1, got)
	}
	c.ok(c.Circle.Wait(c.ctx, func() bool { return c.Circle.JobStatus(workflow, stage.Gate) == "canceled" }))
}

// claims has Slack take long for each card: no node posts what another one is posting.
func (c *clocks) claims() {
	c.t.Helper()
	c.Slack.SetHook(func(method string, phase slacktest.Phase) {
		if method == "chat.postMessage" && phase == slacktest.Before {
			time.Sleep(longPost)
		}
	})
	defer c.Slack.SetHook(nil)
	var ids []string
	for i := range 4 {
		_, id, _ := c.asked(i%2, int64(3+i))
		ids = append(ids, id)
	}
	for _, id := range ids {
		cards := 0
		for _, m := range c.Slack.AllMessages(stage.Channel) {
			if m.ThreadTS == "" && proof.IsCard(m, id) {
				cards++
			}
		}
		if cards != 1 {
			c.t.Errorf("got %d cards of a request; want 1", cards)
		}
	}
}

// times judges the times of the log, and an export that ends in the middle of it.
func (c *clocks) times() {
	c.t.Helper()
	all := c.export()
	var last time.Time
	for i, e := range all {
		if at := e.At(); at.Before(last) || at.Before(c.began.Truncate(time.Millisecond)) || at.After(time.Now()) {
			c.t.Errorf("event %d is of %s, after one of %s; want times by the server's clock that do not go back", i, at, last)
		}
		last = e.At()
	}
	to := all[len(all)/2].At()
	want := 0
	for _, e := range all {
		if !e.At().After(to) {
			want++
		}
	}
	if got := len(c.export("--to", to.Format(time.RFC3339Nano))); got != want {
		c.t.Errorf("an export to %s has %d events; want %d", to, got, want)
	}
}

func (c *clocks) export(args ...string) (events []approvals.Event) {
	c.t.Helper()
	r := c.Operator(c.ctx, "", append([]string{"audit", "export"}, args...)...)
	for line := range strings.Lines(r.Stdout) {
		e, err := approvals.ParseEvent([]byte(strings.TrimSuffix(line, "\n")))
		c.ok(err)
		events = append(events, e)
	}
	if r.Code != 0 || len(events) == 0 {
		c.t.Fatalf("audit export: exit %d: %s", r.Code, r.Stderr)
	}
	return events
}

// clockPart waits until node 2 says something of its clock.
func (c *clocks) clockPart() (says string) {
	c.t.Helper()
	c.ok(again(c.ctx, func() bool {
		var ready struct {
			Parts map[string]struct{ Detail string } `json:"parts"`
		}
		resp, err := http.Get(c.Nodes.Health(1) + "/readyz")
		c.ok(err)
		defer resp.Body.Close()
		c.ok(json.NewDecoder(resp.Body).Decode(&ready))
		says = ready.Parts["clock"].Detail
		return says != ""
	}))
	return says
}

// codes plays codes of other moments at the node whose clock is off, but not by too
// much: one step before and after now is taken by the server's clock, and no more.
func (c *clocks) codes() {
	t := c.t
	const step = 30 * time.Second
	taken, refused := -step, 2*step
	from, to := step-tolerated+time.Second, step/2 // of a step: then the node is in the next one
	if c.off < 0 {
		taken, refused = step, -2*step
		from, to = 0, step/3 // or in the one before
	}
	_, _, card := c.asked(1, 1)
	view, err := c.Press(c.ctx, stage.Ana, card, "approve")
	c.ok(err)
	c.ok(again(c.ctx, func() bool {
		into := time.Duration(time.Now().UnixNano()) % step
		return from < into && into < to
	}))
	now := time.Now()
	got, err := c.Submit(c.ctx, stage.Ana, view, c.Code(stage.Ana, now.Add(refused)))
	c.ok(err)
	if got.Closed || got.Errors["totp"] == "" {
		t.Fatalf("a code of %s from now: got it taken (%t), errors %v; want it refused", refused, got.Closed, got.Errors)
	}
	got, err = c.Submit(c.ctx, stage.Ana, view, c.Code(stage.Ana, now.Add(taken)))
	c.ok(err)
	if !got.Closed {
		t.Errorf("a code of %s from now: got errors %v; want it taken", taken, got.Errors)
	}
	c.times()
}
