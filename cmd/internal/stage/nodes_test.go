package stage_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/totp"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

// pair is a play with two nodes behind a balancer.
type pair struct {
	*play
	*stage.Nodes
}

func setupPair(t *testing.T, o stage.Options) pair {
	t.Helper()
	database := storetest.Server(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	s, err := stage.New(t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	p := &play{Stage: s, t: t, ctx: ctx, codes: map[string]time.Time{}}
	log, err := os.Create(s.Dir + "/nodes.log")
	p.ok(err)
	t.Cleanup(func() {
		log.Close()
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("%s", text)
		}
	})
	nodes, err := s.NewNodes(2, database, log)
	p.ok(err)
	t.Cleanup(nodes.Close)
	p.ok(p.Enrol(ctx))
	for i := range 2 {
		p.ok(nodes.Start(ctx, i))
	}
	p.ok(p.Confirmed(ctx))
	return pair{p, nodes}
}

func (p pair) stop() {
	p.t.Helper()
	for i := range 2 {
		p.ok(p.Nodes.Stop(i))
	}
}

// Every step of a deploy reaches the one node or the other, whichever had the step
// before: what a node keeps for itself is needed for none of them.
func TestStoryBehindABalancer(t *testing.T) {
	t.Parallel()
	for first := range 2 {
		t.Run(fmt.Sprintf("first to node %d", first+1), func(t *testing.T) {
			t.Parallel()
			p := setupPair(t, stage.Options{HTTP: true, Env: []string{"RGW_APP_MYAPP_SETTING_MFA_ON_REJECT=true"}})
			p.followed(first, 1-first)
			p.stop()
		})
	}
}

func (p pair) followed(a, b int) {
	t, ctx := p.t, p.ctx
	opened := [2]int{}
	p.OnAnswer(func(node int, path string) error {
		if strings.HasSuffix(path, "/views.open") {
			opened[node]++
		}
		return nil
	})
	p.enrolAcross(a, b)

	p.Prefer(a)
	workflow := p.Pipeline(stage.Number)
	id, err := p.Request(ctx, workflow)
	p.ok(err)
	p.Prefer(b)
	if again, err := p.Request(ctx, workflow); err != nil || again != id {
		t.Fatalf("filed again at the other node: got %q, %v; want %q", again, err, id)
	}
	card, err := p.Card(ctx, id)
	p.ok(err)

	for _, node := range []int{a, b} {
		p.Prefer(node)
		var refused *stage.Refused
		if _, err := p.Press(ctx, stage.Alice, card, "approve"); !errors.As(err, &refused) {
			t.Errorf("the starter presses at node %d: got %v; want it refused", node+1, err)
		}
	}

	waited := make(chan stage.Result, 1)
	p.Prefer(a)
	go func() { waited <- p.Client(ctx, workflow, "deploy-approval", "wait", id) }()
	view, err := p.Press(ctx, stage.Ana, card, "approve")
	p.ok(err)
	p.Prefer(b)
	got, err := p.Submit(ctx, stage.Ana, view, p.WrongCode(stage.Ana, time.Now()))
	p.ok(err)
	if got.Closed || got.Errors["totp"] == "" {
		t.Fatalf("a wrong code at the other node: got %+v; want an error at the field", got)
	}
	p.Prefer(a)
	code := p.Code(stage.Ana, time.Now())
	got, err = p.Submit(ctx, stage.Ana, view, code)
	p.ok(err)
	if !got.Closed {
		t.Fatalf("the right code: got %+v; want the modal closed", got)
	}
	if opened[a] != 1 || opened[b] != 0 {
		t.Errorf("modals opened: got %v; want one, by the node that got the click", opened)
	}
	if r := <-waited; r.Code != 0 {
		t.Errorf("wait: got exit %d, %s; want 0", r.Code, r.Stderr)
	}
	// The same code does nothing at the node that has not seen it.
	p.Prefer(b)
	other, err := p.Request(ctx, p.Pipeline(stage.Number+1))
	p.ok(err)
	otherCard, err := p.Card(ctx, other)
	p.ok(err)
	view, err = p.Press(ctx, stage.Ana, otherCard, "reject")
	p.ok(err)
	got, err = p.Slack.Submit(ctx, stage.Ana, view.ID, slacktest.Values{"reason": {"text": "again"}, "totp": {"code": code}})
	p.ok(err)
	if got.Closed || got.Errors["totp"] == "" {
		t.Errorf("a code that the other node took: got %+v; want it refused", got)
	}

	p.ok(p.Circle.Succeed(workflow, "request_approval"))
	p.ok(p.Circle.Wait(ctx, func() bool { return p.Circle.JobStatus(workflow, stage.Gate) == "success" }))
	for i, node := range []int{b, a} {
		p.Prefer(node)
		if r := p.Client(ctx, workflow, "deploy-approval", "verify", "--app", stage.App); r.Code != 0 {
			t.Errorf("verify %d: got exit %d, %s; want 0", i+1, r.Code, r.Stderr)
		}
	}
	if r := p.Client(ctx, workflow, "deploy", "--app", stage.App, "--", "true"); r.Code != 0 {
		t.Errorf("deploy: got exit %d, %s; want 0", r.Code, r.Stderr)
	}
	p.ok(p.Circle.Succeed(workflow, "deploy"))
	for _, text := range []string{"Asked by", "wrong code", "approved with a code", "Released", "Deployed"} {
		_, err := p.Replied(ctx, card, text)
		p.ok(err)
	}
	p.toldOnce(card)
	if n := strings.Count(p.thread(asked{card: card}), "was refused"); n != 1 {
		t.Errorf("the thread tells %d times that the starter was refused; want once, whichever node they reached", n)
	}
	if tries := p.Circle.Approvals(workflow); len(tries) != 1 || !tries[0].Took {
		t.Errorf("got approvals %+v; want exactly one", tries)
	}
}

// toldOnce fails if an event stands twice in a thread.
func (p pair) toldOnce(card slacktest.Message) {
	p.t.Helper()
	var told []string
	for _, m := range p.Slack.Thread(card.Channel, card.TS) {
		told = append(told, fmt.Sprint(m.Metadata.EventPayload))
	}
	slices.Sort(told)
	if n := len(slices.Compact(slices.Clone(told))); n != len(told) {
		p.t.Errorf("the thread tells %d of its %d events twice", len(told)-n, len(told))
	}
}

// Nodes look every second what the others did. So long does a call that waits at one
// node know nothing of a decision that another one took; all else is done at once by
// the node that took it.
func TestNodesWakeEachOther(t *testing.T) {
	t.Parallel()
	p := setupPair(t, stage.Options{HTTP: true, Env: []string{"RGW_SETTING_SUPERSEDE=off"}})
	client, err := webhook.NewClient(webhook.ClientConfig{URL: p.Nodes.URL(0), Token: p.Token, UserAgent: "test"})
	p.ok(err)
	p.Prefer(1)
	var waits, gates, cards []time.Duration
	for i := range 6 {
		workflow := p.Pipeline(int64(i) + 1)
		id, err := p.Request(p.ctx, workflow)
		p.ok(err)
		p.ok(p.Circle.Succeed(workflow, "request_approval"))
		card, err := p.Card(p.ctx, id)
		p.ok(err)
		waited := make(chan time.Time, 1)
		go func() {
			_, err := client.Wait(p.ctx, webhook.Request{ID: id, Status: approvals.Pending}, func(r webhook.Request) bool { return r.Status != approvals.Pending }, nil)
			if err != nil {
				t.Errorf("wait: %v", err)
			}
			waited <- time.Now()
		}()
		view, err := p.Press(p.ctx, stage.Bea, card, "reject")
		p.ok(err)
		got, err := p.Slack.Submit(p.ctx, stage.Bea, view.ID, slacktest.Values{"reason": {"text": "no"}})
		p.ok(err)
		if !got.Closed {
			t.Fatalf("reject: got %+v; want the modal closed", got)
		}
		decided := time.Now()
		p.ok(p.Circle.Wait(p.ctx, func() bool { return p.Circle.JobStatus(workflow, stage.Gate) == "canceled" }))
		gates = append(gates, time.Since(decided))
		p.ok(p.Slack.Wait(p.ctx, func() bool {
			m, _ := p.Slack.Message(card.Channel, card.TS)
			return strings.HasPrefix(m.Text, "Rejected")
		}))
		cards = append(cards, time.Since(decided))
		waits = append(waits, (<-waited).Sub(decided))
	}
	t.Logf("gate %v, card %v, wait %v", gates, cards, waits)
	for _, took := range waits {
		if took > 2500*time.Millisecond {
			t.Errorf("wait ended %v after the decision; want about a second", took)
		}
	}
	p.stop()
}

// However many gates are open, two nodes together make no more looks at CircleCI than
// one may, both take part, and gates that have to be stopped do not wait behind the
// others: neither one that was rejected nor those whose jobs withdrew their requests.
func TestNodesShareTheLooks(t *testing.T) {
	t.Parallel()
	const (
		open      = 40
		withdrawn = 4
		rate      = 4.5 // looks a second, all workflows together
	)
	p := setupPair(t, stage.Options{HTTP: true, Env: []string{"RGW_SETTING_SUPERSEDE=off", "RGW_RATE_LIMIT=0"}})
	client, err := webhook.NewClient(webhook.ClientConfig{URL: p.Stage.URL, Token: p.Token, UserAgent: "test"})
	p.ok(err)
	var workflows, ids []string
	for i := range open {
		workflow := p.Pipeline(int64(i) + 1)
		p.ok(p.Circle.Succeed(workflow, "request_approval"))
		r, _, err := client.Create(p.ctx, webhook.CreateBody{App: stage.App, GitCommit: stage.Revision, Branch: stage.Branch, Metadata: fmt.Appendf(nil, `{"workflow_id":%q}`, workflow)})
		p.ok(err)
		workflows, ids = append(workflows, workflow), append(ids, r.ID)
	}
	card, err := p.Card(p.ctx, ids[0])
	p.ok(err)

	const watched = 5 * time.Second
	var by [2]atomic.Int64
	p.OnAnswer(func(node int, path string) error {
		if !strings.HasPrefix(path, "/api/") || strings.HasPrefix(path, "/api/v2/") {
			by[node].Add(1)
		}
		return nil
	})
	asked, began := len(p.Circle.Calls()), time.Now()
	p.ok(p.Circle.Wait(p.ctx, func() bool { return time.Since(began) > watched && by[0].Load() > 0 && by[1].Load() > 0 }))
	looks, took := len(p.Circle.Calls())-asked, time.Since(began)
	p.OnAnswer(nil)
	t.Logf("%d looks in %v, by node %d and %d", looks, took, by[0].Load(), by[1].Load())
	// One look of a node may have begun before.
	if most := rate*took.Seconds() + 2; float64(looks) > most {
		t.Errorf("got %d looks in %v; want %v at the most", looks, took, most)
	}

	decided := time.Now()
	view, err := p.Press(p.ctx, stage.Bea, card, "reject")
	p.ok(err)
	got, err := p.Slack.Submit(p.ctx, stage.Bea, view.ID, slacktest.Values{"reason": {"text": "no"}})
	p.ok(err)
	if !got.Closed {
		t.Fatalf("reject: got %+v; want the modal closed", got)
	}
	for i := range withdrawn {
		p.Prefer(i % 2)
		_, err := client.Cancel(p.ctx, ids[open-1-i], "no")
		p.ok(err)
	}
	var stopped []time.Duration
	for _, workflow := range append(workflows[:1], workflows[open-withdrawn:]...) {
		p.ok(p.Circle.Wait(p.ctx, func() bool { return p.Circle.JobStatus(workflow, stage.Gate) == "canceled" }))
		stopped = append(stopped, time.Since(decided))
	}
	t.Logf("gates stopped within %v, the rejected one first", stopped)
	if stopped[0] > 10*time.Second || stopped[withdrawn] > 40*time.Second {
		t.Errorf("gates stopped within %v; want the rejected one at once, and the others before those that are only watched", stopped)
	}
	p.stop()
}

var keyOnPage = regexp.MustCompile(`(?:[A-Z2-7]{4} ){7}[A-Z2-7]{4}`)

// enrolAcross opens a link at one node, has the other one show the key, and confirms
// it at the first one again.
func (p pair) enrolAcross(a, b int) {
	p.t.Helper()
	p.operator("user", "add", "--slack-id", stage.Carl, "--name", "Carl", "--vcs-login", "carl")
	r := p.Operator(p.ctx, "", "user", "enroll", "--slack-id", stage.Carl)
	link := strings.TrimSpace(r.Stdout)
	if !strings.HasPrefix(link, p.Stage.URL+"/enroll/") {
		p.t.Fatalf("user enroll: got %q, %s; want a link below the balancer", link, r.Stderr)
	}
	p.Prefer(a)
	p.page(p.ctx, link, nil)
	p.Prefer(b)
	key := keyOnPage.FindString(p.page(p.ctx, link, url.Values{}))
	secret, err := totp.ParseSecret(key)
	p.ok(err)
	p.Prefer(a)
	if body := p.page(p.ctx, link, url.Values{"code": {secret.At(time.Now())}}); strings.Contains(body, "not right") {
		p.t.Fatalf("the code of the key that the other node showed: got %s", body)
	}
	if people := p.Operator(p.ctx, "", "user", "list").Stdout; !regexp.MustCompile(stage.Carl + ` .* yes `).MatchString(people) {
		p.t.Errorf("got %s; want that Carl has an authenticator", people)
	}
}

// page opens the enrolment page, or with a form sends it.
func (p pair) page(ctx context.Context, link string, form url.Values) string {
	p.t.Helper()
	method, body := http.MethodGet, ""
	if form != nil {
		method, body = http.MethodPost, form.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, method, link, strings.NewReader(body))
	p.ok(err)
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", "null") // as browsers send it from this page
	}
	resp, err := http.DefaultClient.Do(r)
	p.ok(err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	p.ok(err)
	if resp.StatusCode != http.StatusOK {
		p.t.Fatalf("%s of the enrolment page: got %s\n%s", method, resp.Status, text)
	}
	return string(text)
}
