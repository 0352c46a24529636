package main

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"net"
	"net/http"

	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

//go:embed page.html page.css page.js
var page embed.FS

// maxBody is far more than any act needs, in bytes.
const maxBody = 64 << 10

// act is what a person does; each endpoint takes what it needs of it.
type act struct {
	As       string           `json:"as"` // who does it
	TS       string           `json:"ts"`
	Action   string           `json:"action"`
	View     string           `json:"view"`
	Values   slacktest.Values `json:"values"`
	Text     string           `json:"text"`
	Workflow string           `json:"workflow"`
	Job      string           `json:"job"`
	URL      string           `json:"url"` // of the context
	Token    string           `json:"token"`
	Node     int              `json:"node"`
}

// outcome is the answer to an act. What else happened comes as an event.
type outcome struct {
	Error  string            `json:"error,omitempty"`  // what went wrong with the act itself
	Fields map[string]string `json:"fields,omitempty"` // what is wrong below which input of a modal
}

type doer func(ctx context.Context, who person, a act) (outcome, error)

// handler serves the page at one address.
func (b *browser) handler(address string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", file("page.html"))
	mux.HandleFunc("GET /page.css", file("page.css"))
	mux.HandleFunc("GET /page.js", file("page.js"))
	mux.HandleFunc("GET /events", b.events)
	for name, do := range b.doers() {
		mux.HandleFunc("POST /do/"+name, perform(do))
	}
	return guard(address, mux)
}

// guard keeps other pages out. The check of the host defeats DNS rebinding, the
// check of the origin defeats forged posts.
// Source: https://pkg.go.dev/net/http#CrossOriginProtection
func guard(address string, next http.Handler) http.Handler {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		panic(err) // the address of our own listener
	}
	protected := http.NewCrossOriginProtection().Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "127.0.0.1:"+port && r.Host != "localhost:"+port {
			http.Error(w, "this is not the address of the demo", http.StatusMisdirectedRequest)
			return
		}
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; form-action 'none'; frame-ancestors 'none'; base-uri 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		protected.ServeHTTP(w, r)
	})
}

func file(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, page, name) }
}

// perform makes an endpoint of an act.
func perform(do doer) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		answer := func(status int, o outcome) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_ = json.NewEncoder(w).Encode(o) // nobody is left to tell
		}
		var a act
		d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
		d.DisallowUnknownFields()
		if err := d.Decode(&a); err != nil {
			answer(http.StatusBadRequest, outcome{Error: fmt.Sprintf("read the act: %v", err)})
			return
		}
		who, ok := someone(a.As)
		if !ok {
			answer(http.StatusBadRequest, outcome{Error: "nobody has this id"})
			return
		}
		o, err := do(r.Context(), who, a)
		if err != nil {
			answer(http.StatusConflict, outcome{Error: err.Error()})
			return
		}
		answer(http.StatusOK, o)
	}
}

// onNode makes an act of what is done to a node, working or not as the act needs it.
func (b *browser) onNode(do func(ctx context.Context, node int) error) doer {
	return func(ctx context.Context, _ person, a act) (outcome, error) {
		if b.team == nil || a.Node < 0 || a.Node >= b.team.Count() {
			return outcome{}, fmt.Errorf("there is no such node")
		}
		defer b.bell.ring()
		return outcome{}, do(context.WithoutCancel(ctx), a.Node)
	}
}

func (b *browser) doers() map[string]doer {
	plain := func(do func(ctx context.Context, who person, a act) error) doer {
		return func(ctx context.Context, who person, a act) (outcome, error) { return outcome{}, do(ctx, who, a) }
	}
	return map[string]doer{
		// In Slack.
		"click": plain(func(ctx context.Context, who person, a act) error {
			_, err := b.Slack.Click(ctx, who.ID, stage.Channel, a.TS, a.Action)
			return err
		}),
		"submit": func(ctx context.Context, who person, a act) (outcome, error) {
			r, err := b.Slack.Submit(ctx, who.ID, a.View, a.Values)
			return outcome{Fields: r.Errors}, err
		},
		"close": plain(func(ctx context.Context, who person, _ act) error { return b.Slack.CloseView(who.ID) }),
		"slash": plain(func(ctx context.Context, who person, a act) error {
			_, err := b.Slack.Slash(ctx, who.ID, stage.Channel, a.Text)
			return err
		}),
		"home": plain(func(ctx context.Context, who person, _ act) error { return b.Slack.OpenHome(ctx, who.ID) }),
		"scan": b.scan,
		// At the machines of the daemons.
		"kill": b.onNode(func(_ context.Context, node int) error {
			b.team.Kill(node)
			return nil
		}),
		"revive": b.onNode(func(ctx context.Context, node int) error { return b.team.Start(ctx, node) }),
		// In CircleCI and at the code host.
		"push": plain(func(_ context.Context, who person, _ act) error {
			b.push(who.Login)
			return nil
		}),
		"api": plain(func(_ context.Context, who person, _ act) error {
			b.byAPI(who.Login)
			return nil
		}),
		"context": b.setContext,
		"finish":  plain(func(_ context.Context, _ person, a act) error { return b.hand(a.Workflow, a.Job, true) }),
		"fail":    plain(func(_ context.Context, _ person, a act) error { return b.hand(a.Workflow, a.Job, false) }),
		"bypass":  plain(func(_ context.Context, _ person, a act) error { return b.Circle.ApproveAs(outsider, a.Workflow, a.Job) }),
		"cancel": plain(func(_ context.Context, who person, a act) error {
			return b.Circle.CancelWorkflowAs(who.Login, a.Workflow)
		}),
		"rerun": plain(func(_ context.Context, _ person, a act) error {
			_, err := b.Circle.Rerun(a.Workflow, false)
			return err
		}),
	}
}
