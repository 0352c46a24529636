package stage

import (
	"context"
	"errors"
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
	stage    *Stage
	log      *os.File
	balancer *http.Server
	outside  *http.Server // between the nodes and the simulators

	mu       sync.Mutex
	list     []*node
	next     int                               // whose turn it is
	fixed    bool                              // all calls go to that one
	answered func(node int, path string) error // see OnAnswer
}

type node struct {
	name, address, health string
	process               *Process // nil = none was started
	works                 bool
}

// NewNodes prepares so many nodes on a database, which the operator's commands use
// from now on, too. None of them runs yet. Their logs go to log.
func (s *Stage) NewNodes(count int, database string, log *os.File) (*Nodes, error) {
	n := &Nodes{stage: s, log: log}
	n.outside = &http.Server{Handler: n.toSimulators()}
	n.balancer = &http.Server{Handler: n.toNodes()}
	for i := range count {
		one := &node{name: fmt.Sprintf("node-%d", i+1)}
		n.list = append(n.list, one)
		for _, address := range []*string{&one.address, &one.health} {
			var err error
			if *address, err = freeAddress(); err != nil {
				return nil, err
			}
		}
	}
	l, err := net.Listen("tcp", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		return nil, fmt.Errorf("listen for the balancer: %w", err)
	}
	go n.balancer.Serve(l)
	if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		n.balancer.Close()
		return nil, fmt.Errorf("listen for the nodes: %w", err)
	}
	n.outside.Addr = l.Addr().String()
	go n.outside.Serve(l)
	s.SetEnv("RGW_DATABASE_URL="+database, "RGW_PUBLIC_URL="+s.URL, "RGW_TRUSTED_PROXIES=127.0.0.0/8")
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

// OnAnswer has told called whenever Slack or CircleCI has answered a call of a node
// to a path, before the answer gets there. After an error it never does.
func (n *Nodes) OnAnswer(told func(node int, path string) error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.answered = told
}

// toNodes is the balancer: each call is a connection of its own to the next node.
func (n *Nodes) toNodes() http.Handler {
	return &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(&url.URL{Scheme: "http", Host: "node"})
			p.Out.Host = p.In.Host
			p.SetXForwarded()
		},
		Transport:    &http.Transport{DialContext: n.dial, DisableKeepAlives: true, DisableCompression: true},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
}

// dial connects to the node whose turn it is, or the next one that works.
func (n *Nodes) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	for range n.list {
		address := n.turn()
		if address == "" {
			break
		}
		if conn, err := new(net.Dialer).DialContext(ctx, network, address); err == nil {
			return conn, nil
		}
	}
	return nil, errors.New("no node works")
}

// turn is the address of the node that gets the next call, "" when none works.
func (n *Nodes) turn() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	for range n.list {
		one := n.list[n.next%len(n.list)]
		if !n.fixed || !one.works {
			n.next++
		}
		if one.works {
			return one.address
		}
	}
	return ""
}

// Prefer has the balancer hand all calls to one node while it works, until the next
// Prefer.
func (n *Nodes) Prefer(i int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.next, n.fixed = i, true
}

// Start starts a node, and returns when it is ready and Slack reaches it.
func (n *Nodes) Start(ctx context.Context, i int) error {
	one, s := n.list[i], n.stage
	if n.Works(i) {
		return fmt.Errorf("%s runs already", one.name)
	}
	greeted := len(s.Slack.CallsOf("auth.test"))
	base := "http://" + n.outside.Addr + "/" + one.name
	p, err := s.Spawn(n.log, "HOSTNAME="+one.name, "RGW_LISTEN="+one.address, "RGW_METRICS_LISTEN="+one.health,
		"SLACK_API_URL="+base+"/slack/", "CIRCLECI_URL="+base+"/circleci")
	if err != nil {
		return err
	}
	if err = answers(ctx, n.Health(i), p.Ended(), "200"); err == nil {
		n.mu.Lock()
		one.process, one.works = p, true
		n.mu.Unlock()
		if s.opts.HTTP {
			err = s.Slack.Wait(ctx, func() bool { return len(s.Slack.CallsOf("auth.test")) > greeted })
		} else {
			err = s.Slack.WaitSockets(ctx, n.Working())
		}
	}
	if err != nil {
		p.Kill()
		return fmt.Errorf("start %s: %w", one.name, err)
	}
	return nil
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
func (n *Nodes) URL(i int) string { return "http://" + n.list[i].address }

// Health is the base of a node's own listener for health and metrics.
func (n *Nodes) Health(i int) string { return "http://" + n.list[i].health }

// Works reports whether a node was started and not ended since.
func (n *Nodes) Works(i int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.list[i].works
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
	n.list[i].works = false
	return n.list[i].process
}

// Close kills what still runs.
func (n *Nodes) Close() {
	for i := range n.list {
		n.Kill(i)
	}
	n.balancer.Close()
	n.outside.Close()
}
