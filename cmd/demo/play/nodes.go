package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// team is the daemons of a demo with --nodes 2, and their database.
type team struct {
	*stage.Nodes
	remove func() error
	log    *os.File
	dir    string
}

// assemble prepares two nodes on a PostgreSQL database. None of them runs yet.
func assemble(ctx context.Context, s *stage.Stage) (*team, error) {
	database, remove, err := stage.Postgres(ctx)
	if err != nil {
		return nil, err
	}
	t := &team{remove: remove, dir: s.Dir}
	if t.log, err = os.Create(filepath.Join(s.Dir, "nodes.log")); err == nil {
		t.Nodes, err = s.NewNodes(2, database, t.log)
	}
	if err != nil {
		return nil, errors.Join(err, remove())
	}
	return t, nil
}

// start starts both nodes, with their people made before.
func (t *team) start(ctx context.Context, s *stage.Stage) error {
	if err := s.Enrol(ctx); err != nil {
		return err
	}
	for i := range 2 {
		if err := t.Start(ctx, i); err != nil {
			return err
		}
	}
	return s.Confirmed(ctx)
}

// tail is the end of the nodes' log, as an error.
func (t *team) tail() error {
	const most = 4 << 10
	text, err := os.ReadFile(t.log.Name())
	return errors.Join(err, errors.New(string(text[max(0, len(text)-most):])))
}

// dismiss ends both nodes and the database.
func (t *team) dismiss() error {
	t.Close()
	return errors.Join(t.log.Close(), t.remove())
}

// playNodes runs the story of two nodes. It fails unless every step of it was seen.
func playNodes(ctx context.Context, out io.Writer, http bool) error {
	return onStage(ctx, out, http, func(ctx context.Context, player *player) (_ string, err error) {
		t, err := assemble(ctx, player.Stage)
		if err != nil {
			return "", err
		}
		defer func() { err = errors.Join(err, t.dismiss()) }()
		player.silence = 3 * time.Second
		p := &pair{player: player, team: t}
		t.OnAnswer(p.answered)
		if err := p.story(ctx); err != nil {
			return "", errors.Join(err, t.tail())
		}
		return "a node was killed in the middle of two approvals, each deploy was decided once, and each gate was approved once", nil
	})
}

// pair tells what two nodes do.
type pair struct {
	*player
	team *team

	mu     sync.Mutex
	window chan int // gets the node that opens the next window; nil = nobody asks
	deadly chan int // gets the node that opens the next gate, which is killed; nil = none is
}

// answered takes in whom Slack and CircleCI answered. The node that opened a gate is
// killed before it gets to know, if the story is there.
func (p *pair) answered(node int, path string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case strings.HasSuffix(path, "/views.open") && p.window != nil:
		p.window <- node
		p.window = nil
	case strings.Contains(path, "/approve/") && p.deadly != nil:
		p.team.Kill(node)
		p.deadly <- node
		p.deadly = nil
		return errors.New("whom it is for does not live any more")
	}
	return nil
}

// next has one of the channels above tell which node is the next.
func (p *pair) next(told *chan int) <-chan int {
	p.mu.Lock()
	defer p.mu.Unlock()
	*told = make(chan int, 1)
	return *told
}

func (p *pair) story(ctx context.Context) error {
	p.say("The operator starts two daemons, node-1 and node-2, on one PostgreSQL database, with one Slack app and a balancer in front of them.")
	if err := p.team.start(ctx, p.Stage); err != nil {
		return err
	}
	if err := p.seen(ctx); err != nil {
		return err
	}
	if err := p.chapters(ctx, p.windowOpen, p.gateOpen); err != nil {
		return err
	}
	p.say("The operator stops both nodes.")
	for i := range 2 {
		if err := p.team.Stop(i); err != nil {
			return fmt.Errorf("stop %s: %w", p.team.Name(i), err)
		}
	}
	return nil
}

// seen waits until each node sees both, and shows what they say.
func (p *pair) seen(ctx context.Context) error {
	for i := range 2 {
		for {
			says, err := p.nodesPart(ctx, i)
			if err != nil {
				return err
			}
			if strings.Contains(says, p.team.Name(0)) && strings.Contains(says, p.team.Name(1)) {
				p.indent("   > ", fmt.Sprintf("%s /readyz: nodes: %s", p.team.Name(i), says))
				break
			}
			if !approvals.Pause(ctx, 100*time.Millisecond) {
				return fmt.Errorf("%s sees %q; want both nodes: %w", p.team.Name(i), says, ctx.Err())
			}
		}
	}
	return nil
}

// nodesPart is what /readyz of a node says of the nodes.
func (p *pair) nodesPart(ctx context.Context, i int) (string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.team.Health(i)+"/readyz", nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var ready struct {
		Parts map[string]struct{ Detail string } `json:"parts"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&ready); err != nil {
		return "", fmt.Errorf("readyz of %s: %w", p.team.Name(i), err)
	}
	return ready.Parts["nodes"].Detail, nil
}

// windowOpen is a deploy during which the node that opened Ana's window is killed.
func (p *pair) windowOpen(ctx context.Context) error {
	p.say("Alice pushes a commit:")
	workflow, card, err := p.ask(ctx)
	if err != nil {
		return err
	}
	opened := p.next(&p.window)
	view, err := p.Press(ctx, stage.Ana, card, "approve")
	if err != nil {
		return err
	}
	// Slack shows the window a moment before it is known who opened it.
	var dead int
	select {
	case dead = <-opened:
	case <-ctx.Done():
		return fmt.Errorf("no node opened the window: %w", ctx.Err())
	}
	p.say("Ana presses Approve deploy. %s got the click and opened the window. While she looks for her phone, it is killed (kill -9).", p.team.Name(dead))
	p.team.Kill(dead)
	got, err := p.Submit(ctx, stage.Ana, view, p.Code(stage.Ana, time.Now()))
	if err != nil {
		return err
	}
	if !got.Closed {
		return fmt.Errorf("the code was refused by the other node: %+v", got)
	}
	decided := time.Now()
	p.say("She types the code. %s gets it, has never seen the window, and takes the approval.", p.team.Name(1-dead))
	if err := p.gate(ctx, workflow, "success"); err != nil {
		return err
	}
	p.say("%s opened the gate %s after her code.", p.team.Name(1-dead), time.Since(decided).Round(10*time.Millisecond))
	if err := p.deployed(ctx, workflow, card); err != nil {
		return err
	}
	return p.back(ctx, dead)
}

// gateOpen is a deploy during which the node that opens the gate is killed before it
// gets to know that CircleCI took the call.
func (p *pair) gateOpen(ctx context.Context) error {
	p.say("Alice pushes another commit:")
	workflow, card, err := p.ask(ctx)
	if err != nil {
		return err
	}
	fell := p.next(&p.deadly)
	view, err := p.Press(ctx, stage.Bea, card, "approve")
	if err != nil {
		return err
	}
	got, err := p.Submit(ctx, stage.Bea, view, p.Code(stage.Bea, time.Now()))
	if err != nil || !got.Closed {
		return errors.Join(err, fmt.Errorf("the approval was not taken: %+v", got))
	}
	if err := p.gate(ctx, workflow, "success"); err != nil {
		return err
	}
	var dead int
	select {
	case dead = <-fell:
	case <-ctx.Done():
		return fmt.Errorf("the node that opened the gate was not killed: %w", ctx.Err())
	}
	killed := time.Now()
	p.say("Bea approves. %s calls CircleCI, which opens the gate. At that moment the node is killed (kill -9), before it gets the answer.", p.team.Name(dead))
	err = p.Slack.Wait(ctx, func() bool {
		m, _ := p.Slack.Message(card.Channel, card.TS)
		return strings.HasPrefix(m.Text, "Released") || strings.HasPrefix(m.Text, "Deployed")
	})
	if err != nil {
		return fmt.Errorf("%s did not take over: %w", p.team.Name(1-dead), err)
	}
	p.say("After %s %s took over: it looked at CircleCI, saw that the gate is open by the gateway's own call, and made no second one.",
		time.Since(killed).Round(100*time.Millisecond), p.team.Name(1-dead))
	if err := p.deployed(ctx, workflow, card); err != nil {
		return err
	}
	return p.back(ctx, dead)
}

// back starts a node again that was killed.
func (p *pair) back(ctx context.Context, node int) error {
	if err := p.team.Start(ctx, node); err != nil {
		return err
	}
	p.say("The operator starts %s again. The nodes see each other:", p.team.Name(node))
	return p.seen(ctx)
}

// deployed waits for the end of a deploy, shows it, and fails unless it was decided
// once, its gate was approved once, and everything was told once.
func (p *pair) deployed(ctx context.Context, workflow string, card slacktest.Message) error {
	if _, err := p.job(ctx, workflow, deployJob, 0); err != nil {
		return err
	}
	if err := p.ended(ctx, card, "Deployed"); err != nil {
		return err
	}
	if err := p.gateBy(workflow, stage.MachineUser, 1); err != nil {
		return err
	}
	request := fmt.Sprint(card.Metadata.EventPayload["request_id"])
	decisions := 0
	export := p.Operator(ctx, "", "audit", "export")
	for line := range strings.Lines(export.Stdout) {
		e, err := approvals.ParseEvent([]byte(strings.TrimSuffix(line, "\n")))
		if err != nil {
			return fmt.Errorf("read the log: %w", err)
		}
		if e.Request == request && e.Type.Approves() {
			decisions++
		}
	}
	if decisions != 1 {
		return fmt.Errorf("the log has %d decisions about the request (exit %d: %s); want one", decisions, export.Code, export.Stderr)
	}
	told := map[string]bool{}
	for _, reply := range p.Slack.Thread(card.Channel, card.TS) {
		mark := fmt.Sprint(reply.Metadata.EventPayload)
		if told[mark] {
			return fmt.Errorf("the thread tells twice: %s", reply.Text)
		}
		told[mark] = true
	}
	cards := 0
	for _, m := range p.Slack.AllMessages(stage.Channel) {
		if m.ThreadTS == "" && m.Metadata != nil && m.Metadata.EventPayload["request_id"] == request {
			cards++
		}
	}
	if cards != 1 {
		return fmt.Errorf("there are %d cards of the request; want one", cards)
	}
	p.say("One card, one decision in the log, one approve call for the gate, every step told once.")
	return nil
}
