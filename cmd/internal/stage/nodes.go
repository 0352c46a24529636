package stage

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
)

// Nodes are daemons in processes of their own on one PostgreSQL database. At the
// stage's URL a balancer hands each call to a node that works.
type Nodes struct {
	*Balancer
	stage   *Stage
	log     *os.File
	outside *http.Server // between the nodes and the simulators

	mu       sync.Mutex
	list     []*node
	answered func(node int, path string) error // see OnAnswer
}

type node struct {
	name, health string
	program      string   // "" = this program
	env          []string // of this node alone
	process      *Process // nil = none was started, or it was ended
}

// NewNodes prepares so many nodes on a database, which the operator's commands use
// from now on, too. None of them runs yet. Their logs go to log.
func (s *Stage) NewNodes(count int, database string, log *os.File) (*Nodes, error) {
	n := &Nodes{stage: s, log: log}
	for i := range count {
		health, err := freeAddress()
		if err != nil {
			return nil, err
		}
		n.list = append(n.list, &node{name: fmt.Sprintf("node-%d", i+1), health: health})
	}
	var err error
	if n.Balancer, err = s.NewBalancer(count); err != nil {
		return nil, fmt.Errorf("balance calls: %w", err)
	}
	n.Balancer.takes = n.Works
	n.outside = &http.Server{Handler: n.toSimulators()}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		n.Balancer.Close()
		return nil, fmt.Errorf("listen for the nodes: %w", err)
	}
	n.outside.Addr = l.Addr().String()
	go n.outside.Serve(l)
	s.SetEnv("RGW_DATABASE_URL=" + database)
	return n, nil
}

// toSimulators passes on what the nodes call, so that it is known who calls.
func (n *Nodes) toSimulators() http.Handler {
	mux := http.NewServeMux()
	for service, base := range map[string]string{"slack": n.stage.Slack.URL(), "circleci": n.stage.Variable("CIRCLECI_URL")} {
		to, err := url.Parse(strings.TrimSuffix(base, "/"))
		if err != nil {
			panic(err) // the address of our own listener
		}
		mux.HandleFunc("/{node}/"+service+"/", func(w http.ResponseWriter, r *http.Request) {
			i := n.named(r.PathValue("node"))
			http.StripPrefix("/"+r.PathValue("node")+"/"+service, &httputil.ReverseProxy{
				Rewrite:        func(p *httputil.ProxyRequest) { p.SetURL(to) },
				ModifyResponse: func(a *http.Response) error { return n.answer(i, a.Request.URL.Path) },
				ErrorHandler:   func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
			}).ServeHTTP(w, r)
		})
	}
	return mux
}

func (n *Nodes) answer(i int, path string) error {
	n.mu.Lock()
	told := n.answered
	n.mu.Unlock()
	if told == nil {
		return nil
	}
	return told(i, path)
}

// OnAnswer calls told whenever Slack or CircleCI has answered a call of a node, before
// the node gets the answer. When told returns an error, the node never gets it.
func (n *Nodes) OnAnswer(told func(node int, path string) error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.answered = told
}

// Change has a node be the daemon that a file holds ("" = this program), with variables
// of its own, from its next start on.
func (n *Nodes) Change(i int, program string, env ...string) {
	n.list[i].program, n.list[i].env = program, env
}

// Start starts a node, and returns when it is ready and Slack reaches it.
func (n *Nodes) Start(ctx context.Context, i int) error { return n.StartUntil(ctx, i, "200") }

// StartUntil starts a node, and returns when its /readyz answers with a status and
// Slack reaches it.
func (n *Nodes) StartUntil(ctx context.Context, i int, status string) error {
	if n.Works(i) {
		return fmt.Errorf("%s runs already", n.Name(i))
	}
	greeted := len(n.stage.Slack.CallsOf("auth.test"))
	p, err := n.spawn(i)
	if err != nil {
		return err
	}
	if err = answers(ctx, n.Health(i), p.Ended(), status); err == nil {
		n.mu.Lock()
		n.list[i].process = p
		n.mu.Unlock()
		err = n.reached(ctx, greeted)
	}
	if err != nil {
		p.Kill()
		return fmt.Errorf("start %s: %w", n.Name(i), err)
	}
	return nil
}

func (n *Nodes) spawn(i int) (*Process, error) {
	one := n.list[i]
	base := "http://" + n.outside.Addr + "/" + one.name
	env := append([]string{"HOSTNAME=" + one.name, "RGW_LISTEN=" + n.Address(i), "RGW_METRICS_LISTEN=" + one.health,
		"SLACK_API_URL=" + base + "/slack/", "CIRCLECI_URL=" + base + "/circleci"}, one.env...)
	return n.stage.SpawnProgram(one.program, n.log, env...)
}

// reached waits until Slack reaches all nodes that work.
func (n *Nodes) reached(ctx context.Context, greeted int) error {
	slack := n.stage.Slack
	if n.stage.opts.HTTP {
		return slack.Wait(ctx, func() bool { return len(slack.CallsOf("auth.test")) > greeted })
	}
	return slack.Wait(ctx, func() bool { return slack.Sockets() >= n.Working() })
}

// Count is how many nodes there are, whether they work or not.
func (n *Nodes) Count() int { return len(n.list) }

// Name is what a node is called in logs and in /readyz.
func (n *Nodes) Name(i int) string { return n.list[i].name }

func (n *Nodes) named(name string) int {
	for i, one := range n.list {
		if one.name == name {
			return i
		}
	}
	return -1
}

// URL is where a node is reached past the balancer.
func (n *Nodes) URL(i int) string { return "http://" + n.Address(i) }

// Health is the base of a node's own listener for health and metrics.
func (n *Nodes) Health(i int) string { return "http://" + n.list[i].health }

// Works reports whether a node was started and not ended since.
func (n *Nodes) Works(i int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.list[i].process
	if p == nil {
		return false
	}
	select {
	case <-p.Ended():
		return false
	default:
		return true
	}
}

// Working is how many nodes work.
func (n *Nodes) Working() (count int) {
	for i := range n.list {
		if n.Works(i) {
			count++
		}
	}
	return count
}

// Kill ends a node as a power cut does.
func (n *Nodes) Kill(i int) {
	if p := n.leave(i); p != nil {
		p.Kill()
	}
}

// Stop ends a node as SIGTERM does, once the balancer hands it no calls any more.
func (n *Nodes) Stop(i int) error {
	if p := n.leave(i); p != nil {
		return p.Stop()
	}
	return nil
}

func (n *Nodes) leave(i int) *Process {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.list[i].process
	n.list[i].process = nil
	return p
}

// Close kills what still runs.
func (n *Nodes) Close() {
	for i := range n.list {
		n.Kill(i)
	}
	n.Balancer.Close()
	n.outside.Close()
}
