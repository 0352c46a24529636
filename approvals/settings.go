package approvals

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Policy is what the settings say of one app in one environment.
type Policy struct {
	App             string
	Environment     string
	VCSProvider     string
	VCSRepo         string // org/repo
	CIProvider      string
	Gate            string
	AutoApprove     bool
	Project         string // slug: gh/org/repo, bb/org/repo or circleci/org/project
	Channel         string
	Approvers       []string // Slack user and group ids; empty = every admin
	Notify          []string
	Required        int
	AllowSelf       bool
	AllowedBranches []string // globs; "tag:" marks those for tags; empty = all
	PendingTTL      time.Duration
	Window          time.Duration
	MFAOnReject     bool
	OnClose         string
	Supersede       string

	// Source names the variable behind each key; a key without one has its default.
	Source map[string]string
}

// Values of the setting on_close.
const (
	CloseCancelJob      = "cancel_job"
	CloseCancelWorkflow = "cancel_workflow"
	CloseNothing        = "nothing"
)

// Values of the setting supersede.
const (
	SupersedeBranch      = "branch"
	SupersedeEnvironment = "environment"
	SupersedeOff         = "off"
)

// setting is one key: how a value gets into a policy and how it is shown.
type setting struct {
	key      string
	fallback string
	required bool
	set      func(*Policy, string) error
}

var settings = []setting{
	{key: "vcs_provider", fallback: "github", set: oneOf(func(p *Policy) *string { return &p.VCSProvider }, "github", "bitbucket")},
	{key: "vcs_repo", required: true, set: setRepo},
	{key: "ci_provider", fallback: "circleci", set: oneOf(func(p *Policy) *string { return &p.CIProvider }, "circleci")},
	{key: "circleci_approval_job_name", required: true, set: func(p *Policy, v string) error { p.Gate = v; return nil }},
	{key: "circleci_auto_approve_on_approval", fallback: "false", set: setBool(func(p *Policy) *bool { return &p.AutoApprove })},
	{key: "circleci_project_slug", set: setSlug},
	{key: "slack_channel", set: setChannel},
	{key: "approvers", set: setIDs(func(p *Policy) *[]string { return &p.Approvers })},
	{key: "notify", set: setIDs(func(p *Policy) *[]string { return &p.Notify })},
	{key: "required_approvals", fallback: "1", set: setRequired},
	{key: "allow_self_approval", fallback: "false", set: setBool(func(p *Policy) *bool { return &p.AllowSelf })},
	{key: "allowed_branches", set: setBranches},
	{key: "pending_ttl", fallback: "24h", set: setTTL},
	{key: "deploy_approval_window_minutes", fallback: "15", set: setWindow},
	{key: "mfa_on_reject", fallback: "false", set: setBool(func(p *Policy) *bool { return &p.MFAOnReject })},
	{key: "on_close", fallback: CloseCancelJob, set: oneOf(func(p *Policy) *string { return &p.OnClose }, CloseCancelJob, CloseCancelWorkflow, CloseNothing)},
	{key: "supersede", fallback: SupersedeBranch, set: oneOf(func(p *Policy) *string { return &p.Supersede }, SupersedeBranch, SupersedeEnvironment, SupersedeOff)},
}

// SettingKeys lists the keys in the order of the documentation.
func SettingKeys() []string {
	keys := make([]string, len(settings))
	for i, s := range settings {
		keys[i] = s.key
	}
	return keys
}

// Value renders the effective value of a key for people.
func (p Policy) Value(key string) string {
	switch key {
	case "vcs_provider":
		return p.VCSProvider
	case "vcs_repo":
		return p.VCSRepo
	case "ci_provider":
		return p.CIProvider
	case "circleci_approval_job_name":
		return p.Gate
	case "circleci_auto_approve_on_approval":
		return strconv.FormatBool(p.AutoApprove)
	case "circleci_project_slug":
		return p.Project
	case "slack_channel":
		return p.Channel
	case "approvers":
		return strings.Join(p.Approvers, ",")
	case "notify":
		return strings.Join(p.Notify, ",")
	case "required_approvals":
		return strconv.Itoa(p.Required)
	case "allow_self_approval":
		return strconv.FormatBool(p.AllowSelf)
	case "allowed_branches":
		return strings.Join(p.AllowedBranches, ",")
	case "pending_ttl":
		return p.PendingTTL.String()
	case "deploy_approval_window_minutes":
		return strconv.Itoa(int(p.Window / time.Minute))
	case "mfa_on_reject":
		return strconv.FormatBool(p.MFAOnReject)
	case "on_close":
		return p.OnClose
	case "supersede":
		return p.Supersede
	}
	return ""
}

// Settings holds the policies of all apps and environments. The zero value knows no app.
type Settings struct {
	policies map[place]Policy
	apps     []string
}

type place struct{ app, environment string }

// Apps lists the names of all apps, sorted.
func (s Settings) Apps() []string { return s.apps }

// Hash names the settings in the log: SHA-256 over all effective values, hex.
func (s Settings) Hash() string {
	h := sha256.New()
	for _, app := range s.apps {
		for _, env := range s.Environments(app) {
			for _, key := range SettingKeys() {
				fmt.Fprintf(h, "%s/%s/%s=%q\n", app, env, key, s.policies[place{app, env}].Value(key))
			}
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Channels lists every channel that a card may be posted to, sorted.
func (s Settings) Channels() []string {
	var ids []string
	for _, p := range s.policies {
		if !slices.Contains(ids, p.Channel) {
			ids = append(ids, p.Channel)
		}
	}
	slices.Sort(ids)
	return ids
}

// Projects lists the slugs of all projects, sorted.
func (s Settings) Projects() []string {
	var slugs []string
	for _, p := range s.policies {
		if !slices.Contains(slugs, p.Project) {
			slugs = append(slugs, p.Project)
		}
	}
	slices.Sort(slugs)
	return slugs
}

// Environments lists the environments of an app that a variable names, and the
// default one when it can be used, sorted.
func (s Settings) Environments(app string) []string {
	var envs []string
	for p := range s.policies {
		if p.app == app {
			envs = append(envs, p.environment)
		}
	}
	slices.Sort(envs)
	return envs
}

// Lookup finds the policy of an app in an environment ("" = default). The error
// is an *[Error] with code app_unknown or environment_unknown.
func (s Settings) Lookup(app, environment string) (Policy, error) {
	if !slices.Contains(s.apps, app) {
		return Policy{}, refuse(CodeAppUnknown, "app %q is not known here: the operator adds it with RGW_APP_%s_SETTING_… variables", app, variableName(app))
	}
	if environment == "" {
		environment = DefaultEnvironment
	}
	p, ok := s.policies[place{app, environment}]
	if !ok {
		return Policy{}, refuse(CodeEnvironmentUnknown, "app %q has no environment %q; it has: %s", app, environment, strings.Join(s.Environments(app), ", "))
	}
	return p, nil
}

var namePattern = regexp.MustCompile(`^[a-z][a-z0-9-]{0,39}$`)

// ValidName reports whether s can name an app or an environment.
func ValidName(s string) bool {
	return namePattern.MatchString(s) && !strings.Contains(s, "-env-") && !strings.Contains(s, "-setting-") && !strings.HasSuffix(s, "-env")
}

func variableName(name string) string {
	return strings.ReplaceAll(strings.ToUpper(name), "-", "_")
}

// ParseSettings reads the RGW_APP_… and RGW_SETTING_… variables out of environ
// ("NAME=value"). It reports every fault, each naming the variable, never a value.
// channel is the default of slack_channel.
func ParseSettings(environ []string, channel string) (Settings, []string) {
	global := map[string]variable{}            // key → variable
	byPlace := map[place]map[string]variable{} // environment "" = the whole app
	var faults []string
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, "RGW_APP_") && !strings.HasPrefix(name, "RGW_SETTING_") {
			continue
		}
		at, key, err := splitVariable(name)
		if err != nil {
			faults = append(faults, fmt.Sprintf("%s: %v", name, err))
			continue
		}
		v := variable{name: name, value: strings.TrimSpace(value)}
		if at.app == "" {
			global[key] = v
			continue
		}
		if byPlace[at] == nil {
			byPlace[at] = map[string]variable{}
		}
		byPlace[at][key] = v
	}
	for key, v := range global {
		if err := checkValue(key, v.value); err != nil {
			faults = append(faults, fmt.Sprintf("%s: %v", v.name, err))
			delete(global, key)
		}
	}

	out := Settings{policies: map[place]Policy{}}
	for at := range byPlace {
		if !slices.Contains(out.apps, at.app) {
			out.apps = append(out.apps, at.app)
		}
	}
	slices.Sort(out.apps)
	for _, app := range out.apps {
		places := []place{{app, DefaultEnvironment}}
		named := false
		for at := range byPlace {
			if at.app == app && at.environment != "" {
				named = true
				if at.environment != DefaultEnvironment {
					places = append(places, at)
				}
			}
		}
		slices.SortFunc(places, func(a, b place) int { return strings.Compare(a.environment, b.environment) })
		for _, at := range places {
			p, bad := resolve(at, byPlace[at], byPlace[place{app: app}], global, channel)
			// An app that only has named environments needs no default one.
			if at.environment == DefaultEnvironment && named && len(byPlace[at]) == 0 && incomplete(bad) {
				continue
			}
			faults = append(faults, bad...)
			if at.environment != DefaultEnvironment && p.AutoApprove && !strings.Contains(p.Source["circleci_approval_job_name"], "_ENV_") {
				faults = append(faults, fmt.Sprintf("RGW_APP_%s_ENV_%s_SETTING_CIRCLECI_APPROVAL_JOB_NAME: a named environment that auto-approves needs a gate of its own", variableName(app), variableName(at.environment)))
			}
			out.policies[at] = p
		}
	}
	faults = append(faults, sharedGates(out.policies)...)
	slices.Sort(faults)
	return out, slices.Compact(faults)
}

type variable struct{ name, value string }

// splitVariable takes RGW_APP_<APP>_ENV_<ENV>_SETTING_<KEY> apart: _SETTING_
// splits last, _ENV_ before it splits first.
func splitVariable(name string) (place, string, error) {
	if key, ok := strings.CutPrefix(name, "RGW_SETTING_"); ok {
		return place{}, strings.ToLower(key), knownKey(key)
	}
	rest := strings.TrimPrefix(name, "RGW_APP_")
	i := strings.LastIndex(rest, "_SETTING_")
	if i < 0 {
		return place{}, "", fmt.Errorf("has no _SETTING_<KEY> part")
	}
	where, key := rest[:i], rest[i+len("_SETTING_"):]
	app, env, hasEnv := strings.Cut(where, "_ENV_")
	at := place{app: fromVariable(app), environment: fromVariable(env)}
	if !ValidName(at.app) || strings.ToUpper(app) != app {
		return place{}, "", fmt.Errorf("the app's name must be upper case letters, digits and _, start with a letter, at most 40 characters, without _ENV_ or _SETTING_")
	}
	if hasEnv && (!ValidName(at.environment) || strings.ToUpper(env) != env) {
		return place{}, "", fmt.Errorf("the environment's name must be upper case letters, digits and _, start with a letter, at most 40 characters, without _ENV_ or _SETTING_")
	}
	return at, strings.ToLower(key), knownKey(key)
}

func fromVariable(name string) string {
	return strings.ReplaceAll(strings.ToLower(name), "_", "-")
}

func knownKey(key string) error {
	if strings.ToUpper(key) != key || !slices.Contains(SettingKeys(), strings.ToLower(key)) {
		return fmt.Errorf("is not a known setting")
	}
	return nil
}

func checkValue(key, value string) error {
	i := slices.IndexFunc(settings, func(s setting) bool { return s.key == key })
	if value == "" {
		return nil
	}
	return settings[i].set(&Policy{}, value)
}

// resolve looks every key up: environment, app, global, default.
func resolve(at place, env, app, global map[string]variable, channel string) (Policy, []string) {
	p := Policy{App: at.app, Environment: at.environment, Channel: channel, Source: map[string]string{}}
	var faults []string
	for _, s := range settings {
		v := variable{value: s.fallback}
		for _, level := range []map[string]variable{global, app, env} {
			if found, ok := level[s.key]; ok && found.value != "" {
				v = found
				p.Source[s.key] = found.name
			}
		}
		if v.value == "" {
			if s.required {
				faults = append(faults, fmt.Sprintf("RGW_APP_%s_SETTING_%s: required", variableName(at.app), strings.ToUpper(s.key)))
			}
			continue
		}
		if err := s.set(&p, v.value); err != nil {
			faults = append(faults, fmt.Sprintf("%s: %v", v.name, err))
		}
	}
	if p.Project == "" && p.VCSRepo != "" {
		p.Project = map[string]string{"github": "gh", "bitbucket": "bb"}[p.VCSProvider] + "/" + p.VCSRepo
	}
	return p, faults
}

func incomplete(faults []string) bool {
	return slices.ContainsFunc(faults, func(f string) bool { return strings.HasSuffix(f, ": required") })
}

// sharedGates finds pairs with the same project and gate: one gate, one policy.
func sharedGates(policies map[place]Policy) []string {
	type gate struct{ project, name string }
	owners := map[gate][]string{}
	for _, at := range slices.SortedFunc(maps.Keys(policies), func(a, b place) int {
		return strings.Compare(a.app+" "+a.environment, b.app+" "+b.environment)
	}) {
		p := policies[at]
		if p.Project == "" || p.Gate == "" {
			continue
		}
		g := gate{strings.ToLower(p.Project), p.Gate}
		owners[g] = append(owners[g], at.app+"/"+at.environment)
	}
	var faults []string
	for _, names := range owners {
		if len(names) > 1 {
			faults = append(faults, fmt.Sprintf("circleci_approval_job_name: %s share one project and one gate; give each a gate of its own", strings.Join(names, " and ")))
		}
	}
	return faults
}

func oneOf(field func(*Policy) *string, values ...string) func(*Policy, string) error {
	return func(p *Policy, v string) error {
		if !slices.Contains(values, v) {
			return fmt.Errorf("must be one of %s", strings.Join(values, ", "))
		}
		*field(p) = v
		return nil
	}
}

func setBool(field func(*Policy) *bool) func(*Policy, string) error {
	return func(p *Policy, v string) error {
		b, err := strconv.ParseBool(v)
		if err != nil {
			return fmt.Errorf("must be true or false")
		}
		*field(p) = b
		return nil
	}
}

var repoPattern = regexp.MustCompile(`^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$`)

func setRepo(p *Policy, v string) error {
	if !repoPattern.MatchString(v) || path.Clean(v) != v {
		return fmt.Errorf("must be org/repo")
	}
	p.VCSRepo = v
	return nil
}

var slugPattern = regexp.MustCompile(`^(gh|github|bb|bitbucket|circleci)/[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$`)

func setSlug(p *Policy, v string) error {
	if !slugPattern.MatchString(v) || path.Clean(v) != v {
		return fmt.Errorf("must be circleci/<org>/<project>, gh/<org>/<repo> or bb/<org>/<repo>")
	}
	vcs, rest, _ := strings.Cut(v, "/")
	switch vcs {
	case "github":
		vcs = "gh"
	case "bitbucket":
		vcs = "bb"
	}
	p.Project = vcs + "/" + rest
	return nil
}

var (
	channelPattern = regexp.MustCompile(`^[CGD][A-Z0-9]{2,}$`)
	peoplePattern  = regexp.MustCompile(`^[UWS][A-Z0-9]{2,}$`)
)

// ValidChannel reports whether id looks like a Slack channel id.
func ValidChannel(id string) bool { return channelPattern.MatchString(id) }

// IsGroup reports whether a Slack id is a user group's.
func IsGroup(id string) bool { return strings.HasPrefix(id, "S") }

func setChannel(p *Policy, v string) error {
	if !ValidChannel(v) {
		return fmt.Errorf("must be a Slack channel id (C…)")
	}
	p.Channel = v
	return nil
}

func setIDs(field func(*Policy) *[]string) func(*Policy, string) error {
	return func(p *Policy, v string) error {
		ids := splitList(v)
		for _, id := range ids {
			if !peoplePattern.MatchString(id) {
				return fmt.Errorf("must be a comma list of Slack user ids (U…, W…) and user group ids (S…)")
			}
		}
		*field(p) = ids
		return nil
	}
}

func splitList(v string) []string {
	var out []string
	for part := range strings.SplitSeq(v, ",") {
		if part = strings.TrimSpace(part); part != "" && !slices.Contains(out, part) {
			out = append(out, part)
		}
	}
	return out
}

func setRequired(p *Policy, v string) error {
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > 20 {
		return fmt.Errorf("must be a whole number from 1 to 20")
	}
	p.Required = n
	return nil
}

func setBranches(p *Policy, v string) error {
	globs := splitList(v)
	for _, g := range globs {
		if _, err := path.Match(strings.TrimPrefix(g, "tag:"), ""); err != nil {
			return fmt.Errorf("must be a comma list of globs such as main,release/*,tag:v*")
		}
	}
	p.AllowedBranches = globs
	return nil
}

func setTTL(p *Policy, v string) error {
	d, err := time.ParseDuration(v)
	if err != nil || d < time.Minute || d > 90*24*time.Hour {
		// A gate itself can wait 90 days in CircleCI.
		return fmt.Errorf("must be a duration from 1m to 2160h, such as 24h")
	}
	p.PendingTTL = d
	return nil
}

func setWindow(p *Policy, v string) error {
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > 24*60 {
		return fmt.Errorf("must be a whole number of minutes from 1 to 1440")
	}
	p.Window = time.Duration(n) * time.Minute
	return nil
}

// AllowsRef reports whether the settings allow deploys of this branch or tag.
// A tag matches only entries that start with "tag:".
func (p Policy) AllowsRef(branch, tag string) bool {
	if len(p.AllowedBranches) == 0 {
		return true
	}
	for _, g := range p.AllowedBranches {
		glob, forTags := strings.CutPrefix(g, "tag:")
		name := branch
		if tag != "" {
			name = tag
		}
		if forTags != (tag != "") || name == "" {
			continue
		}
		if ok, err := path.Match(glob, name); err == nil && ok {
			return true
		}
	}
	return false
}
