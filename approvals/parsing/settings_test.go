package parsing_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

const defaultChannel = "CDEFAULT"

const projectID = "c0ffee00-1111-4222-8333-444455556666"

// shop is the least that makes an app.
var shop = []string{"RGW_APP_SHOP_SETTING_VCS_REPO=acme/shop", "RGW_APP_SHOP_SETTING_CIRCLECI_APPROVAL_JOB_NAME=hold"}

// keyCase has good values of one key for the levels global, app, environment.
type keyCase struct {
	key, fallback string
	levels        [3]string
	shown         [3]string // as shown, where that differs
}

var keyCases = []keyCase{
	{key: "vcs_provider", fallback: "github", levels: [3]string{"bitbucket", "github", "bitbucket"}},
	{key: "vcs_repo", levels: [3]string{"a/g", "a/a", "a/e"}},
	{key: "ci_provider", fallback: "circleci", levels: [3]string{"circleci", "circleci", "circleci"}},
	{key: "circleci_approval_job_name", levels: [3]string{"hold g", "Hold/a", "hold-é"}},
	{key: "circleci_auto_approve_on_approval", fallback: "false", levels: [3]string{"true", "false", "1"}, shown: [3]string{"true", "false", "true"}},
	{key: "circleci_project_slug", fallback: "gh/acme/shop", levels: [3]string{"circleci/o/p", "github/o/r", "bitbucket/o/r"}, shown: [3]string{"circleci/o/p", "gh/o/r", "bb/o/r"}},
	{key: "slack_channel", fallback: defaultChannel, levels: [3]string{"CGGG", "GAAA", "CEEE"}},
	{key: "approvers", levels: [3]string{"UGGG", "SAAA", " UEEE, SEEE,UEEE,, WEEE "}, shown: [3]string{"UGGG", "SAAA", "UEEE,SEEE,WEEE"}},
	{key: "notify", levels: [3]string{"UGGG", "SAAA", "UEEE"}},
	{key: "required_approvals", fallback: "1", levels: [3]string{"2", "3", "20"}},
	{key: "allow_self_approval", fallback: "false", levels: [3]string{"true", "false", "true"}},
	{key: "allowed_branches", levels: [3]string{"main", "release/*", "main,tag:v*"}},
	{key: "pending_ttl", fallback: "24h", levels: [3]string{"1s", "90m", "2160h"}, shown: [3]string{"1s", "1h30m", "2160h"}},
	{key: "deploy_approval_window_minutes", fallback: "15", levels: [3]string{"1", "30", "1440"}},
	{key: "mfa_on_reject", fallback: "false", levels: [3]string{"true", "false", "true"}},
	{key: "on_close", fallback: "cancel_job", levels: [3]string{"cancel_workflow", "nothing", "cancel_job"}},
	{key: "supersede", fallback: "branch", levels: [3]string{"environment", "off", "branch"}},
	{
		key: "freeze", levels: [3]string{"Sat 00:00-Mon 00:00 UTC", "fri  16:00 - mon 07:00 Europe/Berlin;;", "2026-12-24 12:00-2027-01-02 09:00 Europe/Berlin;Fri 16:00-Fri 15:59 Asia/Kathmandu"},
		shown: [3]string{"", "Fri 16:00-Mon 07:00 Europe/Berlin", "2026-12-24 12:00-2027-01-02 09:00 Europe/Berlin; Fri 16:00-Fri 15:59 Asia/Kathmandu"},
	},
	{key: "ci_identity", fallback: "token", levels: [3]string{"oidc", "token", "either"}},
	{key: "circleci_project_id", levels: [3]string{projectID, "11111111-2222-4333-8444-555555555555", strings.ToUpper(projectID)}, shown: [3]string{"", "", projectID}},
	{key: "remind_after", fallback: "0s", levels: [3]string{"1s", "90m", "0"}, shown: [3]string{"1s", "1h30m", "0s"}},
	{key: "break_glass", levels: [3]string{"UGGG", "SAAA", "UEEE,SEEE"}},
	{key: "allowed_triggers", levels: [3]string{"webhook", "api, explicit", "github_app,scheduled_pipeline"}, shown: [3]string{"webhook", "api,explicit", "github_app,scheduled_pipeline"}},
	{key: "unknown_starter", fallback: "note", levels: [3]string{"refuse", "note", "refuse"}},
	{key: "config_change_approvals", fallback: "0", levels: [3]string{"2", "0", "20"}},
	{key: "circleci_deploy_jobs", levels: [3]string{"deploy", "deploy to prod (eu), Deploy/2", " a b,,c & d ,a b,\n é\r\n"}, shown: [3]string{"", "deploy to prod (eu),Deploy/2", "a b,c & d,é"}},
}

func TestSettingKeysAreAllCovered(t *testing.T) {
	var keys []string
	for _, c := range keyCases {
		keys = append(keys, c.key)
	}
	if diff := cmp.Diff(approvals.SettingKeys(), keys); diff != "" {
		t.Errorf("keys (-product +table):\n%s", diff)
	}
}

func TestSettingLevels(t *testing.T) {
	for _, c := range keyCases {
		t.Run(c.key, func(t *testing.T) {
			upper := strings.ToUpper(c.key)
			names := [3]string{"RGW_SETTING_" + upper, "RGW_APP_MY_SHOP_SETTING_" + upper, "RGW_APP_MY_SHOP_ENV_PROD_EU_SETTING_" + upper}
			var environ []string
			for key, v := range map[string]string{"vcs_repo": "acme/shop", "circleci_approval_job_name": "hold", "circleci_project_id": projectID} {
				if key != c.key {
					environ = append(environ, "RGW_APP_MY_SHOP_ENV_PROD_EU_SETTING_"+strings.ToUpper(key)+"="+v)
				}
			}
			check := func(want, source string) {
				t.Helper()
				s, faults := approvals.ParseSettings(environ, defaultChannel)
				if len(faults) != 0 {
					t.Fatalf("got faults %q; want none", faults)
				}
				p, err := s.Lookup("my-shop", "prod-eu")
				if err != nil {
					t.Fatal(err)
				}
				if got := p.Value(c.key); got != want || p.Source[c.key] != source {
					t.Errorf("got %q from %q; want %q from %q", got, p.Source[c.key], want, source)
				}
			}
			if c.key != "vcs_repo" && c.key != "circleci_approval_job_name" {
				check(c.fallback, "")
			}
			for i, name := range names {
				want := c.levels[i]
				if c.shown[i] != "" {
					want = c.shown[i]
				}
				environ = append(environ, name+"= "+c.levels[i]+" ")
				check(want, name)
			}
			environ[len(environ)-1] = names[2] + "=" // an empty value is no value
			want := c.levels[1]
			if c.shown[1] != "" {
				want = c.shown[1]
			}
			check(want, names[1])
		})
	}
}

func TestSettingBadValues(t *testing.T) {
	const mark = "zzBADzz"
	bad := map[string][]string{
		"vcs_provider":                      {mark, "gitlab", "GitHub"},
		"vcs_repo":                          {mark, "a/b/" + mark, mark + "/..", "./" + mark, "https://github.com/a/" + mark, mark + "/ b"},
		"ci_provider":                       {mark, "github-actions"},
		"circleci_auto_approve_on_approval": {mark, "yes", "on"},
		"circleci_project_slug":             {mark, "gh/" + mark, "gl/a/" + mark, "circleci/../" + mark},
		"slack_channel":                     {mark, "#" + mark, "U012345"},
		"approvers":                         {mark, "U012345," + mark, "@" + mark, "C012345"},
		"notify":                            {mark, "S01;" + mark},
		"required_approvals":                {mark, "0", "-1", "21", "1.5", "99999999999999999999"},
		"allow_self_approval":               {mark},
		"allowed_branches":                  {"[" + mark, "main,tag:[" + mark, "*[" + mark},
		"pending_ttl":                       {mark, "24", "999ms", "-1h", "2161h", "0"},
		"deploy_approval_window_minutes":    {mark, "0", "1441", "15m", "-5"},
		"mfa_on_reject":                     {mark},
		"ci_identity":                       {mark, "OIDC", "token,oidc"},
		"circleci_project_id":               {mark, "gh/acme/shop", projectID + "0", strings.ReplaceAll(projectID, "-", "")},
		"on_close":                          {mark, "Nothing"},
		"supersede":                         {mark, "all"},
		"freeze": {
			mark, "Fri 16:00-Mon 07:00", "Fri 16:00-Mon 07:00 " + mark, "Fri 16:00-Mon 07:00 Local", "Fri 16:00-Mon 07:00 ../" + mark, "Fri 24:00-Mon 07:00 UTC", "Fri 16:60-Mon 07:00 UTC",
			"Fre 16:00-Mon 07:00 UTC", "Mon 07:00-Mon 07:00 UTC", "2026-02-30 12:00-2026-03-02 09:00 UTC", "2026-12-24 12:00-2026-12-24 12:00 UTC", "2027-12-24 12:00-2026-12-24 12:00 UTC",
			"Fri 16:00-2026-12-24 12:00 UTC", "Fri 16:00-Mon 07:00 UTC, Sat 00:00-Sun 00:00 UTC", ";", " ; ",
		},
		"remind_after":            {mark, "2", "999ms", "-1h", "2161h"},
		"break_glass":             {mark, "U012345;" + mark, "all"},
		"allowed_triggers":        {mark, "webhook," + mark, "web hook", "API", "a-b"},
		"unknown_starter":         {mark, "Note", "true"},
		"config_change_approvals": {mark, "-1", "21"},
		"circleci_deploy_jobs":    {`deploy,"` + mark + `"`, "deploy,'" + mark + "'"},
	}
	for key, values := range bad {
		for _, v := range values {
			for _, prefix := range []string{"RGW_SETTING_", "RGW_APP_SHOP_SETTING_", "RGW_APP_SHOP_ENV_DEFAULT_SETTING_"} {
				name := prefix + strings.ToUpper(key)
				_, faults := approvals.ParseSettings(append(slices.Clone(shop), name+"="+v), defaultChannel)
				all := strings.Join(faults, "\n")
				if !strings.Contains(all, name+": ") || strings.Contains(all, mark) {
					t.Errorf("%s with a bad value: got faults %q; want one that names the variable and not the value", name, faults)
				}
			}
		}
	}
}

// A list of nothing but commas is not the empty list, which means "all".
func TestSettingListWithoutEntries(t *testing.T) {
	for _, key := range []string{"approvers", "notify", "break_glass", "allowed_branches", "allowed_triggers", "circleci_deploy_jobs"} {
		for _, v := range []string{",", " , ,", ",\n,"} {
			name := "RGW_APP_SHOP_SETTING_" + strings.ToUpper(key)
			_, faults := approvals.ParseSettings(append(slices.Clone(shop), name+"="+v), defaultChannel)
			if len(faults) != 1 || !strings.HasPrefix(faults[0], name+": ") {
				t.Errorf("%s=%q: got faults %q; want one", name, v, faults)
			}
		}
	}
}

// Docker's --env-file, Kubernetes and systemd's drop-ins hand on the quotes, blanks
// and line ends of what was written.
func TestSettingQuotesAndLineEnds(t *testing.T) {
	for _, key := range approvals.SettingKeys() {
		name := "RGW_APP_SHOP_SETTING_" + strings.ToUpper(key)
		for _, v := range []string{`"SECRET"`, `'SECRET'`, `"SECRET`, `'SECRET`, " \"SECRET\"\r\n", `""`, `"`} {
			_, faults := approvals.ParseSettings(append(slices.Clone(shop), name+"="+v), defaultChannel)
			if want := []string{name + ": is in quotes: write the value without them"}; !slices.Equal(faults, want) {
				t.Errorf("%s=%s: got faults %q; want %q", name, v, faults, want)
			}
		}
	}
	s, faults := approvals.ParseSettings([]string{
		"RGW_APP_SHOP_SETTING_VCS_REPO= acme/shop\r\n", "RGW_APP_SHOP_SETTING_CIRCLECI_APPROVAL_JOB_NAME=\u00a0don't \"hold\"\t\r",
	}, defaultChannel)
	p, err := s.Lookup("shop", "")
	if len(faults) > 0 || err != nil || p.VCSRepo != "acme/shop" || p.Gate != `don't "hold"` {
		t.Errorf("got %q, %q, %q, %v; want the values without what is around them", p.VCSRepo, p.Gate, faults, err)
	}
}

func TestSettingsIgnoreServiceLinks(t *testing.T) {
	for name, link := range map[string]bool{
		"RGW_APP_PORT": true, "RGW_APP_PORT_8080_TCP": true, "RGW_APP_PORT_53_UDP_PROTO": true, "RGW_APP_PORT_8080_TCP_PORT": true,
		"RGW_APP_PORT_9_SCTP_ADDR": true, "RGW_APP_SERVICE_HOST": true, "RGW_APP_SERVICE_PORT": true, "RGW_APP_SERVICE_PORT_HTTP_2": true,
		"RGW_APP_MY_SHOP_2_SERVICE_HOST": true, "RGW_SETTING_SERVICE_HOST": true, "RGW_APP_A_SETTING_PORT": true, "RGW_PORT": true,
		"RGW_APP_PORTS": false, "RGW_APP_PORT_TCP": false, "RGW_APP_PORT_8080": false, "RGW_APP_PORT_8080_HTTP": false, "RGW_APP_PORT_8080_TCP_HOST": false,
		"RGW_APP_SERVICE": false, "RGW_APP_SERVICE_HOSTS": false, "RGW_APP_SERVICE_PORT_": false, "RGW_APP_A_SETTING_NOTIFY": false, "RGW_APP_port": false,
	} {
		if got := approvals.ServiceLink(name); got != link {
			t.Errorf("ServiceLink(%q): got %t; want %t", name, got, link)
		}
		if s, faults := approvals.ParseSettings(append(slices.Clone(shop), name+"=tcp://10.0.0.1:80"), defaultChannel); link && (len(faults) > 0 || len(s.Apps()) != 1) {
			t.Errorf("%s: got faults %q, apps %q; want it ignored", name, faults, s.Apps())
		}
	}
	for _, key := range approvals.SettingKeys() {
		if approvals.ServiceLink("RGW_SETTING_" + strings.ToUpper(key)) {
			t.Errorf("the setting %s has the name of a service link", key)
		}
	}
}

// A bad value is a fault although nothing uses it.
func TestSettingBadValueThatIsOverridden(t *testing.T) {
	_, faults := approvals.ParseSettings([]string{
		"RGW_APP_SHOP_SETTING_VCS_REPO=acme/shop", "RGW_APP_SHOP_SETTING_CIRCLECI_APPROVAL_JOB_NAME=hold",
		"RGW_APP_SHOP_SETTING_ON_CLOSE=bogus", "RGW_APP_SHOP_ENV_DEFAULT_SETTING_ON_CLOSE=nothing",
	}, defaultChannel)
	if len(faults) != 1 || !strings.HasPrefix(faults[0], "RGW_APP_SHOP_SETTING_ON_CLOSE: ") {
		t.Errorf("got faults %q; want one for RGW_APP_SHOP_SETTING_ON_CLOSE", faults)
	}
}

// A bad value is one fault, not also the fault that the setting is missing.
func TestSettingBadValueOfARequiredKey(t *testing.T) {
	_, faults := approvals.ParseSettings([]string{"RGW_APP_SHOP_SETTING_VCS_REPO=bogus", "RGW_APP_SHOP_SETTING_CIRCLECI_APPROVAL_JOB_NAME=hold"}, defaultChannel)
	if want := []string{"RGW_APP_SHOP_SETTING_VCS_REPO: must be org/repo"}; !slices.Equal(faults, want) {
		t.Errorf("got faults %q; want %q", faults, want)
	}
}

func TestSettingNames(t *testing.T) {
	long := strings.Repeat("a", 40)
	for _, c := range []struct {
		name string
		want bool
	}{
		{"a", true}, {"shop", true}, {"shop-2", true}, {long, true}, {"env", true}, {"env-x", true}, {"setting-x", true}, {"x-setting", true}, {"my-environment", true},
		{"", false}, {long + "a", false}, {"2shop", false}, {"-a", false}, {"Shop", false}, {"a_b", false}, {"a.b", false}, {"é", false}, {"a\n", false},
		{"a-env-b", false}, {"a-setting-b", false}, {"a-env", false},
	} {
		if got := approvals.ValidName(c.name); got != c.want {
			t.Errorf("ValidName(%q): got %v; want %v", c.name, got, c.want)
		}
	}
}

func TestSettingVariableNames(t *testing.T) {
	for _, c := range []struct{ name, app, env, fault string }{
		{name: "RGW_APP_A_SETTING_NOTIFY", app: "a", env: "default"},
		{name: "RGW_APP_A_ENV_B_C_SETTING_NOTIFY", app: "a", env: "b-c"},
		{name: "RGW_APP_ENV_X_SETTING_NOTIFY", app: "env-x", env: "default"},
		{name: "RGW_APP_ENV_X_ENV_ENV_SETTING_NOTIFY", app: "env-x", env: "env"},
		{name: "RGW_APP_A_ENV_ENV_X_SETTING_NOTIFY", app: "a", env: "env-x"},
		{name: "RGW_APP_X_SETTING_SETTING_NOTIFY", app: "x-setting", env: "default"},
		{name: "RGW_APP_A_ENV_SETTING_SETTING_NOTIFY", app: "a", env: "setting"},
		{name: "RGW_APP_A_ENV_B_ENV_C_SETTING_NOTIFY", fault: "environment's name"},
		{name: "RGW_APP_A_ENV_B_ENV_SETTING_NOTIFY", fault: "environment's name"},
		{name: "RGW_APP_A_SETTING_B_SETTING_NOTIFY", fault: "app's name"},
		{name: "RGW_APP__SETTING_NOTIFY", fault: "app's name"},
		{name: "RGW_APP_A_ENV__SETTING_NOTIFY", fault: "environment's name"},
		{name: "RGW_APP_a_SETTING_NOTIFY", fault: "app's name"},
		{name: "RGW_APP_A_ENV_b_SETTING_NOTIFY", fault: "environment's name"},
		{name: "RGW_APP_2A_SETTING_NOTIFY", fault: "app's name"},
		{name: "RGW_APP_A.B_SETTING_NOTIFY", fault: "app's name"},
		{name: "RGW_APP_A_NOTIFY", fault: "no _SETTING_"},
		{name: "RGW_APP_A_PORTS", fault: "no _SETTING_"},
		{name: "RGW_APP_A_SETTING_NOTIFI", fault: "not a known setting"},
		{name: "RGW_APP_A_SETTING_notify", fault: "not a known setting"},
		{name: "RGW_APP_A_SETTING_", fault: "not a known setting"},
		{name: "RGW_SETTING_NOPE", fault: "not a known setting"},
		{name: "RGW_SETTING_Notify", fault: "not a known setting"},
	} {
		s, faults := approvals.ParseSettings([]string{
			c.name + "=UTEST", "RGW_SETTING_VCS_REPO=acme/shop", "RGW_SETTING_CIRCLECI_APPROVAL_JOB_NAME=hold", "RGWX=1", "PATH=/",
		}, defaultChannel)
		if c.fault != "" {
			if len(faults) != 1 || !strings.HasPrefix(faults[0], c.name+": ") || !strings.Contains(faults[0], c.fault) {
				t.Errorf("%s: got faults %q; want one with %q", c.name, faults, c.fault)
			}
			continue
		}
		p, err := s.Lookup(c.app, c.env)
		if err != nil || !slices.Equal(p.Notify, []string{"UTEST"}) {
			t.Errorf("%s: got %v, %v; want it to set %s/%s", c.name, p.Notify, err, c.app, c.env)
		}
	}
}

func TestSettingsWhole(t *testing.T) {
	const repo, gate, auto = "_SETTING_VCS_REPO=acme/shop", "_SETTING_CIRCLECI_APPROVAL_JOB_NAME=", "_SETTING_CIRCLECI_AUTO_APPROVE_ON_APPROVAL=true"
	for _, c := range []struct {
		name    string
		environ []string
		envs    []string // of the app
		fault   string   // "" = none; else the one fault holds it
	}{
		{name: "default alone", environ: []string{"RGW_APP_A" + repo, "RGW_APP_A" + gate + "g"}, envs: []string{"default"}},
		{name: "required", environ: []string{"RGW_APP_A" + repo}, envs: []string{"default"}, fault: "RGW_APP_A_SETTING_CIRCLECI_APPROVAL_JOB_NAME: required"},
		{name: "an empty variable makes an app", environ: []string{"RGW_APP_A_SETTING_NOTIFY=", "RGW_SETTING_VCS_REPO=a/b"}, envs: []string{"default"}, fault: "RGW_APP_A_SETTING_CIRCLECI_APPROVAL_JOB_NAME: required"},
		{name: "default and named", environ: []string{"RGW_APP_A" + repo, "RGW_APP_A" + gate + "g", "RGW_APP_A_ENV_B" + gate + "h"}, envs: []string{"b", "default"}},
		{name: "default incomplete, named complete", environ: []string{"RGW_APP_A" + repo, "RGW_APP_A_ENV_B" + gate + "h", "RGW_APP_A_ENV_C" + gate + "i"}, envs: []string{"b", "c"}},
		{name: "default named and incomplete", environ: []string{"RGW_APP_A" + repo, "RGW_APP_A_ENV_B" + gate + "h", "RGW_APP_A_ENV_DEFAULT_SETTING_NOTIFY=UTEST"}, envs: []string{"b", "default"}, fault: "CIRCLECI_APPROVAL_JOB_NAME: required"},
		{name: "named inherits and shares", environ: []string{"RGW_APP_A" + repo, "RGW_APP_A" + gate + "g", "RGW_APP_A_ENV_B_SETTING_NOTIFY=UTEST"}, envs: []string{"b", "default"}, fault: "RGW_APP_A_SETTING_CIRCLECI_APPROVAL_JOB_NAME: a/b and a/default share one project (RGW_APP_A_SETTING_VCS_REPO) and one gate: give each a gate of its own, as with RGW_APP_A_ENV_B_SETTING_CIRCLECI_APPROVAL_JOB_NAME"},
		{name: "two apps share", environ: []string{"RGW_APP_A" + repo, "RGW_APP_A" + gate + "g", "RGW_APP_B_SETTING_VCS_REPO=ACME/Shop", "RGW_APP_B" + gate + "g"}, envs: []string{"default"}, fault: "RGW_APP_A_SETTING_CIRCLECI_APPROVAL_JOB_NAME and RGW_APP_B_SETTING_CIRCLECI_APPROVAL_JOB_NAME: a/default and b/default share one project (RGW_APP_A_SETTING_VCS_REPO and RGW_APP_B_SETTING_VCS_REPO) and one gate: give each a gate of its own"},
		{name: "three share, two by the setting of all", environ: []string{"RGW_SETTING_VCS_REPO=acme/shop", "RGW_SETTING" + gate[len("_SETTING"):] + "g", "RGW_APP_A_SETTING_NOTIFY=", "RGW_APP_B_SETTING_NOTIFY=", "RGW_APP_C" + gate + "g"}, envs: []string{"default"}, fault: "RGW_SETTING_CIRCLECI_APPROVAL_JOB_NAME and RGW_APP_C_SETTING_CIRCLECI_APPROVAL_JOB_NAME: a/default and b/default and c/default share one project (RGW_SETTING_VCS_REPO) and one gate: give each a gate of its own, as with RGW_APP_A_SETTING_CIRCLECI_APPROVAL_JOB_NAME or RGW_APP_B_SETTING_CIRCLECI_APPROVAL_JOB_NAME"},
		{name: "environments of one setting share", environ: []string{"RGW_APP_A" + repo, "RGW_APP_A" + gate + "g", "RGW_APP_A_ENV_DEFAULT_SETTING_NOTIFY=", "RGW_APP_A_ENV_C" + gate + "g"}, envs: []string{"c", "default"}, fault: "RGW_APP_A_ENV_C_SETTING_CIRCLECI_APPROVAL_JOB_NAME and RGW_APP_A_SETTING_CIRCLECI_APPROVAL_JOB_NAME: a/c and a/default"},
		{name: "share through a slug", environ: []string{"RGW_APP_A" + repo, "RGW_APP_A" + gate + "g", "RGW_APP_B_SETTING_VCS_REPO=x/y", "RGW_APP_B_SETTING_CIRCLECI_PROJECT_SLUG=github/acme/shop", "RGW_APP_B" + gate + "g"}, envs: []string{"default"}, fault: "share one project (RGW_APP_A_SETTING_VCS_REPO and RGW_APP_B_SETTING_CIRCLECI_PROJECT_SLUG) and one gate"},
		{name: "gate names differ in case", environ: []string{"RGW_APP_A" + repo, "RGW_APP_A" + gate + "g", "RGW_APP_B" + repo, "RGW_APP_B" + gate + "G"}, envs: []string{"default"}},
		{name: "named, auto, own gate", environ: []string{"RGW_APP_A_ENV_B" + repo, "RGW_APP_A_ENV_B" + gate + "h", "RGW_APP_A" + auto}, envs: []string{"b"}},
		{name: "named, auto, app's gate", environ: []string{"RGW_APP_A_ENV_B" + repo, "RGW_APP_A" + gate + "h", "RGW_APP_A" + auto}, envs: []string{"b"}, fault: "RGW_APP_A_ENV_B_SETTING_CIRCLECI_APPROVAL_JOB_NAME: a named environment that auto-approves (RGW_APP_A_SETTING_CIRCLECI_AUTO_APPROVE_ON_APPROVAL) needs a gate of its own"},
		{name: "named, auto, empty gate", environ: []string{"RGW_APP_A_ENV_B" + repo, "RGW_APP_A_ENV_B" + gate, "RGW_APP_A" + gate + "h", "RGW_APP_A" + auto}, envs: []string{"b"}, fault: "gate of its own"},
		{name: "named, auto, global gate", environ: []string{"RGW_APP_A_ENV_B" + repo, "RGW_SETTING_CIRCLECI_APPROVAL_JOB_NAME=h", "RGW_APP_A" + auto}, envs: []string{"b"}, fault: "gate of its own"},
		{name: "named, auto, app's gate of an app env-…", environ: []string{"RGW_APP_ENV_A_ENV_B" + repo, "RGW_APP_ENV_A" + gate + "h", "RGW_APP_ENV_A" + auto}, envs: nil, fault: "gate of its own"},
		{name: "named, not auto, app's gate", environ: []string{"RGW_APP_A_ENV_B" + repo, "RGW_APP_A" + gate + "h"}, envs: []string{"b"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, faults := approvals.ParseSettings(c.environ, defaultChannel)
			if got := s.Environments("a"); !slices.Equal(got, c.envs) {
				t.Errorf("environments: got %q; want %q", got, c.envs)
			}
			if c.fault == "" && len(faults) != 0 || c.fault != "" && (len(faults) != 1 || !strings.Contains(faults[0], c.fault)) {
				t.Errorf("got faults %q; want %q", faults, c.fault)
			}
		})
	}
}

func TestSettingsLookupAndLists(t *testing.T) {
	environ := []string{
		"RGW_APP_A_SETTING_VCS_REPO=acme/shop", "RGW_APP_A_SETTING_CIRCLECI_APPROVAL_JOB_NAME=g", "RGW_APP_A_ENV_B_SETTING_CIRCLECI_APPROVAL_JOB_NAME=h",
		"RGW_APP_A_ENV_B_SETTING_SLACK_CHANNEL=CBBB", "RGW_APP_Z_SETTING_VCS_REPO=acme/zoo", "RGW_APP_Z_SETTING_CIRCLECI_APPROVAL_JOB_NAME=g", "RGW_APP_Z_SETTING_VCS_PROVIDER=bitbucket",
	}
	s, faults := approvals.ParseSettings(environ, defaultChannel)
	if len(faults) != 0 {
		t.Fatalf("got faults %q", faults)
	}
	for _, c := range []struct {
		app, env string
		want     approvals.Code
	}{{"a", "", ""}, {"a", "default", ""}, {"a", "b", ""}, {"z", "", ""}, {"a", "c", approvals.CodeEnvironmentUnknown}, {"z", "b", approvals.CodeEnvironmentUnknown}, {"q", "", approvals.CodeAppUnknown}, {"", "", approvals.CodeAppUnknown}} {
		if _, err := s.Lookup(c.app, c.env); code(err) != c.want {
			t.Errorf("Lookup(%q, %q): got %v; want code %q", c.app, c.env, err, c.want)
		}
	}
	if diff := cmp.Diff([][]string{{"a", "z"}, {"CBBB", defaultChannel}, {"bb/acme/zoo", "gh/acme/shop"}}, [][]string{s.Apps(), s.Channels(), s.Projects()}); diff != "" {
		t.Errorf("apps, channels, projects (-want +got):\n%s", diff)
	}
	slices.Reverse(environ)
	again, _ := approvals.ParseSettings(environ, defaultChannel)
	other, _ := approvals.ParseSettings(environ, "COTHER")
	if again.Hash() != s.Hash() || other.Hash() == s.Hash() {
		t.Error("the hash must depend on the effective values and on nothing else")
	}
}

func FuzzParseSettings(f *testing.F) {
	const mark = "q9Zx7W4kp"
	f.Add("RGW_APP_A_ENV_B_SETTING_VCS_REPO", "acme/shop", "RGW_SETTING_PENDING_TTL", "1h")
	f.Add("RGW_APP_ENV_ENV_ENV_SETTING_SETTING_APPROVERS", "U1,S2", "RGW_APP__SETTING_", "")
	f.Add("RGW_APP_A_SETTING_ALLOWED_BRANCHES", "[a-,\\", "RGW_SETTING_REQUIRED_APPROVALS", "0x1")
	for _, c := range keyCases {
		f.Add("RGW_APP_A_SETTING_"+strings.ToUpper(c.key), c.levels[0], "RGW_SETTING_"+strings.ToUpper(c.key), c.levels[1])
	}
	f.Fuzz(func(t *testing.T, name1, value1, name2, value2 string) {
		if strings.Contains(name1+value1+name2+value2, mark) {
			t.Skip()
		}
		s, faults := approvals.ParseSettings([]string{name1 + "=" + value1, name2 + "=" + value2}, defaultChannel)
		if len(faults) == 0 {
			for _, app := range s.Apps() {
				if !approvals.ValidName(app) || len(s.Environments(app)) == 0 {
					t.Errorf("app %q with environments %q came out of it", app, s.Environments(app))
				}
			}
		}
		_ = s.Hash()
		_, faults = approvals.ParseSettings([]string{name1 + "=" + mark + value1, name2 + "=" + value2 + mark}, defaultChannel)
		for _, fault := range faults {
			cut := strings.ReplaceAll(strings.ReplaceAll(fault, name1, ""), name2, "")
			if strings.Contains(cut, mark) && !strings.Contains(name1+name2, "=") {
				t.Errorf("a fault tells the value: %q", fault)
			}
		}
	})
}

// code is the code of an *[approvals.Error], "" for others.
func code(err error) approvals.Code {
	var e *approvals.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func TestOIDCNeedsTheProject(t *testing.T) {
	for name, c := range map[string]struct {
		environ []string
		fault   string // "" = none
		takes   string
	}{
		"tokens alone":  {nil, "", ""},
		"oidc":          {[]string{"RGW_APP_SHOP_SETTING_CI_IDENTITY=oidc"}, "RGW_APP_SHOP_SETTING_CIRCLECI_PROJECT_ID: required, because RGW_APP_SHOP_SETTING_CI_IDENTITY takes OIDC tokens", "RGW_APP_SHOP_SETTING_CI_IDENTITY"},
		"either, wider": {[]string{"RGW_SETTING_CI_IDENTITY=either"}, "RGW_APP_SHOP_SETTING_CIRCLECI_PROJECT_ID: required, because RGW_SETTING_CI_IDENTITY takes OIDC tokens", "RGW_SETTING_CI_IDENTITY"},
		"with it":       {[]string{"RGW_SETTING_CI_IDENTITY=either", "RGW_APP_SHOP_SETTING_CIRCLECI_PROJECT_ID=" + projectID}, "", "RGW_SETTING_CI_IDENTITY"},
		"a bad one":     {[]string{"RGW_SETTING_CI_IDENTITY=oidc", "RGW_APP_SHOP_SETTING_CIRCLECI_PROJECT_ID=shop"}, "RGW_APP_SHOP_SETTING_CIRCLECI_PROJECT_ID: must be the project's id (a UUID): Project Settings > Overview in CircleCI shows it", "RGW_SETTING_CI_IDENTITY"},
	} {
		t.Run(name, func(t *testing.T) {
			s, faults := approvals.ParseSettings(append(slices.Clone(shop), c.environ...), defaultChannel)
			if got := strings.Join(faults, "\n"); got != c.fault {
				t.Errorf("got faults %q; want %q", got, c.fault)
			}
			if s.TakesOIDC() != c.takes {
				t.Errorf("takes OIDC by %q; want %q", s.TakesOIDC(), c.takes)
			}
		})
	}
}
