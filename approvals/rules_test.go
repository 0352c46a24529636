package approvals_test

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// code is the code of an *[approvals.Error], "" for others.
func code(err error) approvals.Code {
	var e *approvals.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// why is the code of a *[approvals.Refusal], "" for others.
func why(err error) approvals.RefusalCode {
	var r *approvals.Refusal
	if errors.As(err, &r) {
		return r.Code
	}
	return ""
}

func TestAllowsRef(t *testing.T) {
	for _, c := range []struct {
		allowed     []string
		branch, tag string
		want        bool
	}{
		{nil, "any", "", true}, {nil, "", "v1", true}, {nil, "", "", true},
		{[]string{"main"}, "main", "", true}, {[]string{"main"}, "Main", "", false}, {[]string{"main"}, "mainx", "", false}, {[]string{"main"}, "", "main", false},
		{[]string{"release/*"}, "release/1", "", true}, {[]string{"release/*"}, "release/1/2", "", false}, {[]string{"release/*"}, "release", "", false},
		{[]string{"*"}, "x", "", true}, {[]string{"*"}, "a/b", "", false}, {[]string{"*"}, "", "v1", false}, {[]string{"*"}, "", "", false},
		{[]string{"tag:v*"}, "", "v1", true}, {[]string{"tag:v*"}, "v1", "", false}, {[]string{"tag:v*"}, "", "w1", false},
		{[]string{"tag:*"}, "", "v1", true}, {[]string{"tag:*"}, "main", "", false},
		{[]string{"main", "tag:v*"}, "main", "v1", true}, {[]string{"main"}, "main", "v1", false},
		{[]string{"v*"}, "", "v1", false}, {[]string{"tag:main"}, "tag:main", "", false}, {[]string{"rel-[0-9]"}, "rel-7", "", true},
	} {
		p := approvals.Policy{AllowedBranches: c.allowed}
		if got := p.AllowsRef(c.branch, c.tag); got != c.want {
			t.Errorf("%q, branch %q, tag %q: got %v; want %v", c.allowed, c.branch, c.tag, got, c.want)
		}
	}
}

// The state table of the documentation, every pair.
func TestStatusTable(t *testing.T) {
	next := map[approvals.Status][]approvals.Status{
		"pending":       {"approved", "rejected", "expired", "superseded", "canceled", "bypassed", "released"},
		"approved":      {"released", "expired", "canceled", "undeliverable", "bypassed"},
		"released":      {"deployed", "deploy_failed"},
		"undeliverable": {"pending", "released"},
		"expired":       {"pending", "released"},
	}
	all := []approvals.Status{"pending", "approved", "released", "deployed", "deploy_failed", "rejected", "expired", "superseded", "canceled", "bypassed", "undeliverable"}
	if !slices.Equal(approvals.Statuses(), all) {
		t.Fatalf("statuses: got %q; want %q", approvals.Statuses(), all)
	}
	for _, from := range append(slices.Clone(all), "", "nonsense") {
		for _, to := range append(slices.Clone(all), "", "nonsense") {
			if got, want := from.CanBecome(to), slices.Contains(next[from], to); got != want {
				t.Errorf("%q → %q: got %v; want %v", from, to, got, want)
			}
		}
		if got, want := from.Open(), slices.Contains(all[:2], from); got != want {
			t.Errorf("%q open: got %v; want %v", from, got, want)
		}
		if got, want := from.Passed(), slices.Contains(all[1:5], from); got != want {
			t.Errorf("%q passed: got %v; want %v", from, got, want)
		}
		if got, want := from.Known(), slices.Contains(all, from); got != want {
			t.Errorf("%q known: got %v; want %v", from, got, want)
		}
		if from.Known() && slices.Contains(approvals.OpenStatuses(), from) == slices.Contains(approvals.ClosedStatuses(), from) {
			t.Errorf("%q must be either open or closed", from)
		}
	}
}

func parametersOf(name, value string) *approvals.Parameters {
	return approvals.NewParameters(map[string]string{name: value}, func(_, value string) bool { return value == "usual" })
}

func TestParameters(t *testing.T) {
	if p := approvals.NewParameters(nil, nil); p != nil {
		t.Errorf("of none: got %+v; want nil", p)
	}
	if p := parametersOf("a", "usual"); len(p.List) != 0 || p.More != 0 || p.Hash == "" || p.Hash == parametersOf("b", "usual").Hash {
		t.Errorf("the default: got %+v; want a hash of its own and no list", p)
	}
	if p := parametersOf("a\nb", "\x1b[31m\u0085"); len(p.List) != 1 || p.List[0] != "a b= [31m" {
		t.Errorf("control characters: got %q; want one blank", p.List)
	}
}

func TestUnknownDigestsAreNull(t *testing.T) {
	for d, want := range map[approvals.Digest]string{"": "null", "ab": `"ab"`} {
		text, err := json.Marshal(d)
		var back approvals.Digest
		if err != nil || string(text) != want || json.Unmarshal(text, &back) != nil || back != d {
			t.Errorf("%q: got %s, %v, and back %q", d, text, err, back)
		}
	}
}

func TestFactsHash(t *testing.T) {
	f := approvals.Facts{WorkflowID: "w", WorkflowName: "n", PipelineID: "p", PipelineNumber: 1, Project: "gh/a/b", Revision: "r", Branch: "b", Origin: "o", Target: "t", Trigger: "g", Actor: "a", StartedBy: "s", Config: "c", SetupConfig: "d"}
	for name, c := range map[string]struct {
		change func(*approvals.Facts)
		differ string // "" = no change that matters before the POST
		same   bool   // the hash stays
	}{
		"nothing":         {func(*approvals.Facts) {}, "", true},
		"workflow status": {func(f *approvals.Facts) { f.WorkflowStatus = "failed" }, "", true},
		"canceled by":     {func(f *approvals.Facts) { f.CanceledBy = "x" }, "", true},
		"project's case":  {func(f *approvals.Facts) { f.Project = "gh/A/B" }, "", false},
		"workflow":        {func(f *approvals.Facts) { f.WorkflowID = "x" }, "workflow", false},
		"pipeline":        {func(f *approvals.Facts) { f.PipelineID = "x" }, "pipeline", false},
		"number":          {func(f *approvals.Facts) { f.PipelineNumber = 2 }, "pipeline", false},
		"project":         {func(f *approvals.Facts) { f.Project = "gh/a/c" }, "project", false},
		"revision":        {func(f *approvals.Facts) { f.Revision = "x" }, "revision", false},
		"branch":          {func(f *approvals.Facts) { f.Branch = "x" }, "branch or tag", false},
		"branch to tag":   {func(f *approvals.Facts) { f.Branch, f.Tag = "", "b" }, "branch or tag", false},
		"origin":          {func(f *approvals.Facts) { f.Origin = "x" }, "repository", false},
		"target":          {func(f *approvals.Facts) { f.Target = "x" }, "repository", false},
		"actor":           {func(f *approvals.Facts) { f.Actor = "x" }, "starter", false},
		"starter":         {func(f *approvals.Facts) { f.StartedBy = "x" }, "starter", false},
		"trigger":         {func(f *approvals.Facts) { f.Trigger = "x" }, "trigger or parameters", false},
		"parameters":      {func(f *approvals.Facts) { f.Parameters = parametersOf("a", "1") }, "trigger or parameters", false},
		"configuration":   {func(f *approvals.Facts) { f.Config = "x" }, "configuration", false},
		"setup":           {func(f *approvals.Facts) { f.SetupConfig = "x" }, "configuration", false},
		"elsewhere":       {func(f *approvals.Facts) { f.ConfigSource = "api" }, "configuration", false},
		"unreadable":      {func(f *approvals.Facts) { f.Config, f.SetupConfig, f.Actor, f.StartedBy = "", "", "", "" }, "", false},
		"subject":         {func(f *approvals.Facts) { f.Subject, f.PullRequest = "x", "7" }, "", false},
	} {
		g := f
		c.change(&g)
		if got := f.Hash() == g.Hash(); got != c.same {
			t.Errorf("%s: same hash: got %v; want %v", name, got, c.same)
		}
		if got := f.Differs(g); got != c.differ {
			t.Errorf("%s: differs: got %q; want %q", name, got, c.differ)
		}
	}
}

func TestFacts(t *testing.T) {
	for _, c := range []struct {
		origin, target string
		want           bool
	}{
		{"", "", false}, {"https://github.com/a/b", "", false}, {"", "https://github.com/a/b", false}, {"https://github.com/a/b", "https://github.com/a/b", false},
		{"https://github.com/A/b.git", "https://github.com/a/B", false}, {"https://github.com/x/b", "https://github.com/a/b", true},
	} {
		if got := (approvals.Facts{Origin: c.origin, Target: c.target}).Fork(); got != c.want {
			t.Errorf("Fork of %q, %q: got %v; want %v", c.origin, c.target, got, c.want)
		}
	}
	for _, c := range []struct {
		actor, started string
		want           []string
	}{{"", "", nil}, {"ann", "", []string{"ann"}}, {"", "bob", []string{"bob"}}, {"ann", "Bob", []string{"ann", "Bob"}}, {"ann", "ANN", []string{"ann"}}} {
		f := approvals.Facts{Actor: c.actor, StartedBy: c.started}
		if got := f.Starters(); !slices.Equal(got, c.want) {
			t.Errorf("Starters of %q, %q: got %q; want %q", c.actor, c.started, got, c.want)
		}
	}
	f := approvals.Facts{Actor: "Ann", StartedBy: "bob"}
	for login, want := range map[string]bool{"ann": true, "ANN": true, "Bob": true, "": false, "an": false, "carl": false} {
		if got := f.StartedByLogin(login); got != want {
			t.Errorf("StartedByLogin(%q): got %v; want %v", login, got, want)
		}
	}
	if (approvals.Facts{}).StartedByLogin("") {
		t.Error("an unknown starter must not equal an unknown login")
	}
	for f, want := range map[approvals.Facts]string{{Branch: "main"}: "branch:main", {Tag: "v1"}: "tag", {Tag: "v2"}: "tag", {Branch: "tag"}: "branch:tag"} {
		if got := f.Line(); got != want {
			t.Errorf("line: got %q; want %q", got, want)
		}
	}
}

func TestRefusalKinds(t *testing.T) {
	aboutCode := []approvals.RefusalCode{"code_malformed", "code_wrong", "code_used", "code_waiting"}
	aboutRight := []approvals.RefusalCode{"wrong_workspace", "not_admin", "not_approver", "not_break_glass", "standing", "self_approval", "no_vcs_login", "unknown_starter"}
	neither := []approvals.RefusalCode{"unknown_request", "closed", "taken", "app_gone", "stale_person", "stale_group", "already_voted", "no_authenticator", "authenticator_disabled", "authenticator_unreadable", "decisions_on_hold", "reason_invalid", ""}
	for _, c := range slices.Concat(aboutCode, aboutRight, neither) {
		r := &approvals.Refusal{Code: c}
		if got, want := r.AboutCode(), slices.Contains(aboutCode, c); got != want {
			t.Errorf("%s about a code: got %v; want %v", c, got, want)
		}
		if got, want := r.AboutRight(), slices.Contains(aboutRight, c); got != want {
			t.Errorf("%s about a right: got %v; want %v", c, got, want)
		}
	}
}
