package attack_test

import (
	"database/sql"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

type command = func(ts *testscript.TestScript, neg bool, args []string)

// positive is a command that cannot be negated: it works or fails the script.
func positive(run func(w *world, ts *testscript.TestScript, args []string) error) command {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg {
			ts.Fatalf("this command has no !")
		}
		ts.Check(run(of(ts), ts, args))
	}
}

// wait is a command that waits until it holds; with ! it must not hold now.
func wait(holds func(w *world, ts *testscript.TestScript, args []string) (bool, error)) command {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		w := of(ts)
		if !neg {
			if err := w.until(func() (bool, error) { return holds(w, ts, args) }); err != nil {
				ts.Fatalf("%v\nlast said: %s", err, w.said)
			}
			return
		}
		yes, err := holds(w, ts, args)
		ts.Check(err)
		if yes {
			ts.Fatalf("it does hold")
		}
	}
}

// commands are the words of the scripts, beside testscript's own.
func commands() map[string]command {
	return map[string]command{
		// The product and its surroundings.
		"stage":      positive(setStage),
		"restart":    positive(restart),
		"stop":       positive(func(w *world, _ *testscript.TestScript, _ []string) error { w.Stop(); return nil }),
		"pipeline":   positive(addPipeline),
		"ask":        positive(ask),
		"age":        positive(age),
		"sql":        positive(runSQL),
		"circleci":   positive(circle),
		"other-keys": positive(otherKeys),
		"trap":       positive(setTrap),
		"trap-is-empty": positive(func(w *world, _ *testscript.TestScript, _ []string) error {
			if n := w.trapped.Load(); n != 0 {
				return fmt.Errorf("the trap got %d calls", n)
			}
			return nil
		}),
		// Programs.
		"gateway":  client,
		"gatewayd": operator,
		"exit":     positive(checkExit),
		"token":    positive(newToken),
		"http":     positive(call),
		"answered": wait(func(w *world, _ *testscript.TestScript, args []string) (bool, error) { return answered(w, args) }),
		// What holds afterwards.
		"status":                         positive(hasStatus),
		"clock-is-off":                   positive(clockIsOff),
		"expect-no-approval":             positive(noApproval),
		"expect-no-request":              positive(noRequest),
		"expect-no-approval-in-circleci": positive(noApprovalInCircleCI),
		"approved-once":                  positive(approvedOnce),
		"log-has":                        wait(logHas),
		"json-log":                       positive(jsonLog),
		"no-controls":                    positive(noControls),
		"safe-csv":                       positive(safeCSV),
		"mode":                           positive(checkMode),
		// Slack.
		"click":           positive(click),
		"submit":          positive(submit),
		"prepare":         positive(prepare),
		"send":            positive(send),
		"at-once":         positive(atOnce),
		"slack-user":      positive(slackUser),
		"post":            positive(post),
		"expect-modal":    positive(func(w *world, _ *testscript.TestScript, _ []string) error { return w.expect("modal", nil) }),
		"expect-accepted": positive(func(w *world, _ *testscript.TestScript, _ []string) error { return w.expect("accepted", nil) }),
		"expect-refusal":  positive(func(w *world, _ *testscript.TestScript, args []string) error { return w.expect("refused", args) }),
		"expect-inline":   positive(func(w *world, _ *testscript.TestScript, args []string) error { return w.expect("inline", args) }),
		"thread":          wait(inThread),
		"channel":         wait(inChannel),
		"dm":              wait(inDM),
		"card":            wait(onCard),
		"only-edits":      positive(onlyEdits),
		"nothing-live":    positive(nothingLive),
		"links-lead-to":   positive(linksLeadTo),
		// The enrolment page.
		"enrol-link": positive(enrolLink),
		"page":       positive(page),
	}
}

// setStage: stage [http] [NAME=VALUE…]; a name without RGW_, CIRCLECI_ or SLACK_
// is a setting of the app.
func setStage(w *world, ts *testscript.TestScript, args []string) error {
	var o stage.Options
	for _, arg := range args {
		switch {
		case arg == "http":
			o.HTTP = true
		case strings.HasPrefix(arg, "RGW_"):
			o.Env = append(o.Env, arg)
		default:
			o.Env = append(o.Env, "RGW_APP_MYAPP_SETTING_"+arg)
		}
	}
	if err := w.open(o); err != nil {
		return err
	}
	ts.Setenv("url", w.URL)
	ts.Setenv("db", w.file())
	return nil
}

// restart: restart [readyz=503] starts the daemon anew, and waits until /readyz
// says so.
func restart(w *world, _ *testscript.TestScript, args []string) error {
	w.Stop()
	o, _ := options(args)
	if o["readyz"] == "" {
		return w.start()
	}
	return w.StartUntil(w.ctx, o["readyz"])
}

// options reads NAME=VALUE arguments and returns the others.
func options(args []string) (values map[string]string, rest []string) {
	values = map[string]string{}
	for _, arg := range args {
		if name, value, ok := strings.Cut(arg, "="); ok {
			values[name] = value
		} else {
			rest = append(rest, arg)
		}
	}
	return values, rest
}

func (w *world) flow(name string) (*flow, error) {
	if f := w.flows[name]; f != nil {
		return f, nil
	}
	return nil, fmt.Errorf("no pipeline %q", name)
}

// addPipeline: pipeline NAME NUMBER [project= branch= tag= origin= starter= subject=] sets
// $NAME to the workflow's id.
func addPipeline(w *world, ts *testscript.TestScript, args []string) error {
	o, rest := options(args)
	number, err := strconv.ParseInt(rest[1], 10, 64)
	if err != nil {
		return err
	}
	p := circlecitest.Pipeline{
		Number: number, Project: stage.Project, Revision: stage.Revision, Branch: stage.Branch, ActorLogin: stage.Starter,
		OriginURL: o["origin"], Tag: o["tag"], Subject: o["subject"],
	}
	for name, field := range map[string]*string{"project": &p.Project, "branch": &p.Branch, "starter": &p.ActorLogin} {
		if v := o[name]; v != "" {
			*field = v
		}
	}
	if p.Tag != "" {
		p.Branch = ""
	}
	if p.Project != stage.Project {
		w.Circle.AddProject(circlecitest.Project{Slug: p.Project})
	}
	f, err := w.pipeline(p)
	if err != nil {
		return err
	}
	w.flows[rest[0]] = f
	ts.Setenv(rest[0], f.workflow)
	return nil
}

// ask: ask NAME NUMBER [as for pipeline] files the documentation's request; the
// gate is reached.
func ask(w *world, ts *testscript.TestScript, args []string) error {
	if err := addPipeline(w, ts, args); err != nil {
		return err
	}
	f := w.flows[args[0]]
	if err := w.fileRequest(f); err != nil {
		return err
	}
	ts.Setenv(args[0]+"_id", f.id)
	return w.Circle.Succeed(f.workflow, "request_approval")
}

// age: age NAME DURATION lets a pending request expire sooner behind the daemon's back.
func age(w *world, _ *testscript.TestScript, args []string) error {
	f, err := w.flow(args[0])
	if err != nil {
		return err
	}
	by, err := time.ParseDuration(args[1])
	if err != nil {
		return err
	}
	return w.update(func(tx approvals.Tx) error {
		r, err := tx.Request(f.id)
		if err != nil {
			return err
		}
		r.PendingTTL -= by
		return tx.SaveRequest(&r)
	})
}

// runSQL works on the database file as somebody who can write to it.
func runSQL(w *world, _ *testscript.TestScript, args []string) error {
	db, err := sql.Open("sqlite3", w.file()+"?_busy_timeout=5000")
	if err != nil {
		return err
	}
	defer db.Close()
	for _, statement := range args {
		done, err := db.ExecContext(w.ctx, statement)
		if err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
		if n, _ := done.RowsAffected(); n == 0 && strings.HasPrefix(statement, "UPDATE") {
			return fmt.Errorf("%s: no row", statement)
		}
	}
	return nil
}

// circle: circleci cancel|reach NAME, circleci approve NAME LOGIN, circleci skew
// DURATION, circleci fault OP [status= body= location= size= times=], circleci clear.
func circle(w *world, ts *testscript.TestScript, args []string) error {
	o, rest := options(args)
	var f *flow
	if rest[0] == "cancel" || rest[0] == "reach" || rest[0] == "approve" {
		var err error
		if f, err = w.flow(rest[1]); err != nil {
			return err
		}
	}
	switch rest[0] {
	case "cancel":
		return w.Circle.CancelWorkflowAs("bea", f.workflow)
	case "reach":
		return w.Circle.Succeed(f.workflow, "request_approval")
	case "approve":
		return w.Circle.ApproveAs(rest[2], f.workflow, stage.Gate)
	case "skew":
		d, err := time.ParseDuration(rest[1])
		w.Circle.Configure(func(c *circlecitest.Options) { c.DateSkew = d })
		return err
	case "clear":
		w.Circle.ClearFaults()
		return nil
	case "fault":
		fault := circlecitest.Fault{Op: rest[1], Body: o["body"], Count: -1}
		fault.Status, _ = strconv.Atoi(o["status"])
		if n, err := strconv.Atoi(o["times"]); err == nil {
			fault.Count = n
		}
		if n, err := strconv.Atoi(o["size"]); err == nil {
			fault.Body = `{"x":"` + strings.Repeat("x", n) + `"}`
		}
		if to := o["location"]; to != "" {
			fault.Header = http.Header{"Location": {to}}
		}
		w.Circle.Inject(fault)
		return nil
	}
	return fmt.Errorf("circleci %s: unknown", rest[0])
}

// otherKeys gives the next programs another key ring.
func otherKeys(w *world, _ *testscript.TestScript, _ []string) error {
	r := w.Operator(w.ctx, "", "keygen")
	w.SetEnv("RGW_SECRET_KEYS=" + strings.TrimSpace(r.Stdout))
	return nil
}

// setTrap listens where nobody may be sent; $trap is its address.
func setTrap(w *world, ts *testscript.TestScript, _ []string) error {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { w.trapped.Add(1) }))
	ts.Defer(server.Close)
	// Another host than CircleCI's, which a port alone would not make it.
	ts.Setenv("trap", strings.Replace(server.URL, "127.0.0.1", "localhost", 1))
	return nil
}

// clockIsOff waits until the daemon noticed it.
func clockIsOff(w *world, _ *testscript.TestScript, _ []string) error {
	return w.until(func() (bool, error) {
		res, err := http.Get(w.URL + "/readyz")
		if err != nil {
			return false, err
		}
		return res.StatusCode == http.StatusServiceUnavailable, res.Body.Close()
	})
}

func hasStatus(w *world, _ *testscript.TestScript, args []string) error {
	f, err := w.flow(args[0])
	if err != nil {
		return err
	}
	return w.becomes(f, approvals.Status(args[1]))
}

// client: gateway [as=TOKEN] [in=NAME] ARGS… runs the real client.
func client(ts *testscript.TestScript, neg bool, args []string) {
	w := of(ts)
	token, workflow := w.Token, ""
	for len(args) > 0 {
		if v, ok := strings.CutPrefix(args[0], "as="); ok {
			token = v
		} else if v, ok := strings.CutPrefix(args[0], "in="); ok {
			workflow = v
		} else {
			break
		}
		args = args[1:]
	}
	w.ran(ts, neg, w.ClientAs(w.ctx, token, workflow, args...))
}

func operator(ts *testscript.TestScript, neg bool, args []string) {
	w := of(ts)
	w.ran(ts, neg, w.Operator(w.ctx, "", args...))
}

func (w *world) ran(ts *testscript.TestScript, neg bool, r stage.Result) {
	w.exit = r.Code
	fmt.Fprint(ts.Stdout(), r.Stdout)
	fmt.Fprint(ts.Stderr(), r.Stderr)
	if neg == (r.Code == 0) {
		ts.Fatalf("exit %d: %s", r.Code, r.Stderr)
	}
}

func checkExit(w *world, _ *testscript.TestScript, args []string) error {
	if got := strconv.Itoa(w.exit); got != args[0] {
		return fmt.Errorf("got exit %s; want %s", got, args[0])
	}
	return nil
}

// newToken: token NAME FLAGS… sets $NAME.
func newToken(w *world, ts *testscript.TestScript, args []string) error {
	token, err := w.NewToken(w.ctx, args[0], args[1:]...)
	ts.Setenv(args[0], token)
	return err
}

// call: http METHOD PATH [token=…] [body=…] [Name:value…]; the body is stdout.
func call(w *world, ts *testscript.TestScript, args []string) error {
	req, err := http.NewRequestWithContext(w.ctx, args[0], w.URL+args[1], nil)
	if err != nil {
		return err
	}
	for _, arg := range args[2:] {
		if v, ok := strings.CutPrefix(arg, "token="); ok {
			req.Header.Set("Authorization", "Bearer "+v)
		} else if v, ok := strings.CutPrefix(arg, "body="); ok {
			req.Body = io.NopCloser(strings.NewReader(v))
			req.Header.Set("Content-Type", "application/json")
		} else if name, v, ok := strings.Cut(arg, ":"); ok {
			req.Header.Set(name, v)
		}
	}
	return w.do(ts, req)
}

func (w *world) do(ts *testscript.TestScript, req *http.Request) error {
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	w.status, w.body = res.StatusCode, string(raw)
	_, text, styled := strings.Cut(w.body, "</style>") // which would hide the rest
	if !styled {
		text = w.body
	}
	fmt.Fprint(ts.Stdout(), text)
	return err
}
