package approvals_test

import (
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/totp"
)

// flowOf starts a workflow whose facts are changed.
func (w *world) flowOf(n int, change func(*approvals.Facts)) (workflow string) {
	workflow = w.ci.newFlow(n, int64(n), "on_hold")
	w.changeFacts(workflow, change)
	return workflow
}

func (w *world) changeFacts(workflow string, change func(*approvals.Facts)) {
	w.ci.mu.Lock()
	defer w.ci.mu.Unlock()
	change(&w.ci.flows[workflow].facts)
}

// file asks for a workflow whose facts are changed.
func (w *world) file(n int, change func(*approvals.Facts)) approvals.Request {
	w.t.Helper()
	r, _, err := w.ask(w.flowOf(n, change))
	w.must(err)
	w.wait(0)
	return r
}

// deploy approves a request, and has its workflow succeed.
func (w *world) deploy(r approvals.Request, by string) {
	w.t.Helper()
	w.must(w.approve(by, r))
	w.ci.mu.Lock()
	w.ci.flows[r.Facts.WorkflowID].job("deploy").Status = approvals.JobSuccess
	w.ci.mu.Unlock()
	w.wait(time.Minute)
	w.is(r, approvals.Deployed)
}

func TestWhatMayBeDeployed(t *testing.T) {
	for name, tt := range map[string]struct {
		settings string
		change   func(*approvals.Facts)
		want     approvals.Code // empty = it may
	}{
		"a push":                     {"", func(f *approvals.Facts) { f.Trigger = "webhook" }, ""},
		"by the API":                 {"", func(f *approvals.Facts) { f.Trigger = "api" }, ""},
		"by the API, not allowed":    {"ALLOWED_TRIGGERS=webhook,scheduled_pipeline", func(f *approvals.Facts) { f.Trigger = "api" }, "trigger_not_allowed"},
		"by the API, allowed":        {"ALLOWED_TRIGGERS=webhook,api", func(f *approvals.Facts) { f.Trigger = "api" }, ""},
		"a custom webhook":           {"ALLOWED_TRIGGERS=webhook", func(f *approvals.Facts) { f.Trigger, f.Event = "webhook", "custom_webhook" }, "trigger_not_allowed"},
		"a custom webhook, allowed":  {"ALLOWED_TRIGGERS=webhook,custom_webhook", func(f *approvals.Facts) { f.Trigger, f.Event = "webhook", "custom_webhook" }, ""},
		"a push of the GitHub App":   {"ALLOWED_TRIGGERS=webhook", func(f *approvals.Facts) { f.Trigger, f.Event = "webhook", "push" }, ""},
		"a schedule of the App":      {"ALLOWED_TRIGGERS=scheduled_pipeline", func(f *approvals.Facts) { f.Trigger, f.Event = "scheduled_pipeline", "schedule" }, ""},
		"an unknown trigger":         {"ALLOWED_TRIGGERS=webhook", func(f *approvals.Facts) { f.Trigger = "" }, "trigger_not_allowed"},
		"its own configuration":      {"", func(f *approvals.Facts) { f.ConfigSource, f.ConfigRevision = "github", f.Revision }, ""},
		"a configuration by the API": {"", func(f *approvals.Facts) { f.ConfigSource = "api" }, "config_not_from_commit"},
		"of another ref":             {"", func(f *approvals.Facts) { f.ConfigRevision = "99999999999999999999999999999999999999aa" }, "config_not_from_commit"},
		"of another repository": {"", func(f *approvals.Facts) {
			f.Origin, f.Target, f.ConfigRepository = "https://x/a", "https://x/a", "https://x/b"
		}, "config_not_from_commit"},
		"a fork":                    {"", func(f *approvals.Facts) { f.Origin, f.Target = "https://x/b", "https://x/a" }, "workflow_wrong_project"},
		"a pull request of nobody":  {"", func(f *approvals.Facts) { f.Branch = "pull/77" }, "workflow_wrong_project"},
		"a pull request of our own": {"", func(f *approvals.Facts) { f.Branch, f.Origin, f.Target = "pull/77", "https://x/a", "https://x/a" }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, tt.settings, func(w *world) {
				_, _, err := w.ask(w.flowOf(1, tt.change))
				w.wait(0)
				w.fails(err, tt.want)
				for _, e := range w.events() {
					switch e.Type {
					case approvals.EventRequested:
						if tt.want != "" {
							t.Error("a request was stored")
						}
					case approvals.EventRefused:
						if approvals.Code(e.Reason) != tt.want {
							t.Errorf("the log says that it was refused for %s", e.Reason)
						}
					}
				}
			})
		})
	}
}

// A fact that changes between the request and the approve call ends it. One that
// cannot be read any more is no change.
func TestOriginsAreReadAgain(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*approvals.Facts)
		want   approvals.Status
	}{
		"nothing":                  {func(*approvals.Facts) {}, approvals.Released},
		"unreadable configuration": {func(f *approvals.Facts) { f.Config, f.SetupConfig = "", "" }, approvals.Released},
		"a starter who is unknown": {func(f *approvals.Facts) { f.StartedBy, f.Actor = "", "" }, approvals.Released},
		"another configuration":    {func(f *approvals.Facts) { f.Config = "other" }, approvals.Canceled},
		"other parameters":         {func(f *approvals.Facts) { f.Parameters = parametersOf("a", "2") }, approvals.Canceled},
		"parameters":               {func(f *approvals.Facts) { f.Parameters = nil }, approvals.Canceled},
		"another trigger":          {func(f *approvals.Facts) { f.Trigger = "webhook" }, approvals.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, "", func(w *world) {
				r := w.file(1, func(f *approvals.Facts) {
					f.Trigger, f.Config, f.SetupConfig, f.Parameters = "api", "source", "setup", parametersOf("a", "1")
				})
				w.changeFacts(r.Facts.WorkflowID, tt.change)
				w.must(w.approve("U01", r))
				w.wait(time.Minute)
				if tt.want == approvals.Canceled {
					w.is(r, tt.want, approvals.FailFactsChanged)
				} else {
					w.is(r, tt.want)
				}
			})
		})
	}
}

func TestConfigurationOtherThanLastDeployed(t *testing.T) {
	const unknown = approvals.Digest("")
	for name, tt := range map[string]struct {
		before, now approvals.Digest
		changed     bool
		known       bool
		needs       int
	}{
		"the same":        {"a", "a", false, true, 1},
		"another":         {"a", "b", true, true, 3},
		"unreadable now":  {"a", unknown, false, false, 3},
		"unreadable then": {unknown, "a", false, false, 3},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, "CONFIG_CHANGE_APPROVALS=3", func(w *world) {
				first := w.file(1, func(f *approvals.Facts) { f.Config = tt.before })
				if changed, known := first.ConfigChanged(); changed || !known || first.Required != 1 {
					t.Errorf("the first deploy: changed %v, known %v, needs %d", changed, known, first.Required)
				}
				w.deploy(first, "U01")
				r := w.file(2, func(f *approvals.Facts) { f.Config = tt.now })
				if changed, known := r.ConfigChanged(); changed != tt.changed || known != tt.known || r.Required != tt.needs || w.card(r).Needs != tt.needs {
					t.Errorf("got changed %v, known %v, needs %d, on the card %d; want %v, %v, %d", changed, known, r.Required, w.card(r).Needs, tt.changed, tt.known, tt.needs)
				}
				w.wait(time.Minute) // for new codes
				voters := []string{"U01", "U02", "U03"}
				for i, voter := range voters[:tt.needs] {
					w.must(w.approve(voter, r))
					if i+1 < tt.needs {
						w.is(r, approvals.Pending)
					}
				}
				w.is(r, approvals.Released)
			})
		})
	}
}

// The setting is read live, like required_approvals.
func TestConfigChangeApprovalsAreRaisedLater(t *testing.T) {
	bubble(t, "", func(w *world) {
		w.deploy(w.file(1, func(f *approvals.Facts) { f.Config = "a" }), "U01")
		r := w.file(2, func(f *approvals.Facts) { f.Config = "b" })
		w.cfg.Settings = parse(t, "CONFIG_CHANGE_APPROVALS=2")
		w.restart()
		w.wait(time.Minute)
		w.must(w.approve("U01", r))
		w.is(r, approvals.Pending)
		w.must(w.approve("U02", r))
		w.is(r, approvals.Released)
	})
}

// selfApproval is what the log says of the decision.
func (w *world) selfApproval(r approvals.Request) string {
	_, events, err := w.svc.Story(w.ctx, r.ID)
	w.must(err)
	for _, e := range events {
		if e.Type == approvals.EventApproved {
			return e.Data["self_approval"]
		}
	}
	return ""
}

func TestStarters(t *testing.T) {
	known := func(f *approvals.Facts) { f.Actor, f.StartedBy = "Login-U03", "login-u03" }
	for name, tt := range map[string]struct {
		settings string
		change   func(*approvals.Facts)
		stranger bool
		refused  approvals.RefusalCode
		self     string
	}{
		"somebody on record":               {"", known, false, "", "false"},
		"the voter":                        {"", func(f *approvals.Facts) { f.Actor = "login-U01" }, false, "self_approval", ""},
		"the voter, by the workflow":       {"", func(f *approvals.Facts) { f.StartedBy = "LOGIN-U01" }, false, "self_approval", ""},
		"the voter, allowed":               {"ALLOW_SELF_APPROVAL=true", func(f *approvals.Facts) { f.Actor = "login-U01" }, false, "", "true"},
		"nobody's login":                   {"", func(*approvals.Facts) {}, true, "", "unknown"},
		"a merge queue's bot":              {"", func(f *approvals.Facts) { f.Actor, f.StartedBy = "github-merge-queue[bot]", "" }, true, "", "unknown"},
		"a schedule":                       {"", func(f *approvals.Facts) { f.Actor, f.StartedBy, f.Trigger = "", "", "scheduled_pipeline" }, true, "", "unknown"},
		"a bot and somebody on record":     {"", func(f *approvals.Facts) { f.Actor, f.StartedBy = "bot[bot]", "login-U02" }, false, "", "false"},
		"nobody's login, refused":          {"UNKNOWN_STARTER=refuse", func(*approvals.Facts) {}, true, "unknown_starter", ""},
		"nobody, refused, self allowed":    {"UNKNOWN_STARTER=refuse ALLOW_SELF_APPROVAL=true", func(*approvals.Facts) {}, true, "unknown_starter", ""},
		"somebody on record, others fused": {"UNKNOWN_STARTER=refuse", known, false, "", "false"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, tt.settings, func(w *world) {
				r := w.file(1, tt.change)
				if got := w.card(r).Stranger; got != tt.stranger {
					t.Errorf("the card says that the starter is unknown: %v; want %v", got, tt.stranger)
				}
				who := approvals.Clicker{Team: team, User: "U01"}
				prompt, click := w.svc.MayDecide(w.ctx, who, r.ID, approvals.ActionApprove)
				w.refused(click, tt.refused)
				if click == nil && prompt.Stranger != tt.stranger {
					t.Errorf("the modal says that the starter is unknown: %v; want %v", prompt.Stranger, tt.stranger)
				}
				w.refused(w.approve("U01", r), tt.refused)
				if tt.refused == "" {
					w.is(r, approvals.Released)
				} else {
					w.is(r, approvals.Pending)
					w.must(w.reject("U01", r))
				}
				if got := w.selfApproval(r); got != tt.self {
					t.Errorf("the log says self_approval=%q; want %q", got, tt.self)
				}
			})
		})
	}
}

// Of several voters one whose login is not known may be the starter, in whatever order
// they vote.
func TestStarterAmongSeveral(t *testing.T) {
	for _, voters := range [][]string{{"U02", "U04"}, {"U04", "U02"}} {
		bubble(t, "ALLOW_SELF_APPROVAL=true REQUIRED_APPROVALS=2", func(w *world) {
			_, err := w.admin.AddPerson(w.ctx, "U04", "", "")
			w.must(err)
			w.secrets["U04"] = totp.NewSecret()
			w.must(w.admin.Enrol(w.ctx, "U04", w.secrets["U04"], "", approvals.EnrolledByImport))
			w.wait(time.Minute)
			r := w.file(1, func(f *approvals.Facts) { f.Actor = "login-U03" })
			for _, user := range voters {
				w.must(w.approve(user, r))
			}
			w.is(r, approvals.Released)
			if got := w.selfApproval(r); got != "unknown" {
				t.Errorf("%q: the log says self_approval=%q; want unknown", voters, got)
			}
		})
	}
}

// Who changed their login at the code host is still the same user there.
func TestStarterWithANewLogin(t *testing.T) {
	bubble(t, "", func(w *world) {
		first := w.file(1, func(f *approvals.Facts) { f.Actor, f.StartedBy, f.StartedByID = "login-U01", "login-U01", "id-1" })
		w.refused(w.approve("U01", first), approvals.RefusedSelf)
		renamed := w.file(2, func(f *approvals.Facts) { f.Actor, f.StartedBy, f.StartedByID = "renamed", "renamed", "id-1" })
		if w.card(renamed).Stranger {
			t.Error("the starter counts as unknown after a change of the login")
		}
		w.refused(w.approve("U01", renamed), approvals.RefusedSelf)
		w.restart() // what was learnt stands in the log
		w.refused(w.approve("U01", renamed), approvals.RefusedSelf)
		w.must(w.approve("U02", renamed))
		if got := w.selfApproval(renamed); got != "false" {
			t.Errorf("the log says self_approval=%q; want false", got)
		}
		// A login that the operator corrects belonged to somebody else.
		_, err := w.admin.AddPerson(w.ctx, "U01", "", "another")
		w.must(err)
		w.wait(time.Minute)
		third := w.file(3, func(f *approvals.Facts) { f.Actor, f.StartedBy, f.StartedByID = "renamed", "renamed", "id-1" })
		w.must(w.approve("U01", third))
	})
}

// A pipeline of the GitHub App names the user who set it off.
func TestStarterByActorID(t *testing.T) {
	bubble(t, "", func(w *world) {
		w.file(1, func(f *approvals.Facts) { f.StartedBy, f.StartedByID = "login-U01", "id-1" })
		r := w.file(2, func(f *approvals.Facts) { f.Actor, f.StartedBy, f.StartedByID, f.ActorID = "app[bot]", "", "", "id-1" })
		w.refused(w.approve("U01", r), approvals.RefusedSelf)
	})
}
