package approvals

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// Settings holds the policies of all apps and environments. The zero value knows no app.
type Settings struct{ policies map[place]Policy }

type place struct{ app, environment string }

// Apps lists the names of all apps, sorted.
func (s Settings) Apps() []string {
	return distinct(s.Policies(), func(p Policy) string { return p.App })
}

// TakesOIDC names the variable by which an app takes the OIDC tokens of CI jobs,
// the first of several; "" = none does.
func (s Settings) TakesOIDC() string {
	for _, p := range s.Policies() {
		if p.takes(CredentialOIDC) {
			return p.Source["ci_identity"]
		}
	}
	return ""
}

// ofProject lists the policies that take the OIDC tokens of a project's jobs.
func (s Settings) ofProject(id string) []Policy {
	return only(s.Policies(), func(p Policy) bool { return p.ProjectID == id && p.takes(CredentialOIDC) })
}

// Channels lists every channel that a card may be posted to, sorted.
func (s Settings) Channels() []string {
	return distinct(s.Policies(), func(p Policy) string { return p.Channel })
}

// Projects lists the slugs of all projects, sorted.
func (s Settings) Projects() []string {
	return distinct(s.Policies(), func(p Policy) string { return p.Project })
}

func distinct(policies []Policy, of func(Policy) string) []string {
	var found []string
	for _, p := range policies {
		found = append(found, of(p))
	}
	return sorted(found)
}

// sorted has each of the words once.
func sorted(words []string) []string {
	slices.Sort(words)
	return slices.Compact(words)
}

// Environments lists the environments of an app that a variable names, and the
// default one when it can be used, sorted.
func (s Settings) Environments(app string) []string {
	ofApp := only(s.Policies(), func(p Policy) bool { return p.App == app })
	return distinct(ofApp, func(p Policy) string { return p.Environment })
}

// Policies lists the policies of all apps and environments, by both names.
func (s Settings) Policies() []Policy {
	all := slices.Collect(maps.Values(s.policies))
	slices.SortFunc(all, func(a, b Policy) int {
		return cmp.Or(strings.Compare(a.App, b.App), strings.Compare(a.Environment, b.Environment))
	})
	return all
}

// Lookup finds the policy of an app in an environment ("" = default). The error
// is an *[Error] with code app_unknown or environment_unknown.
func (s Settings) Lookup(app, environment string) (Policy, error) {
	environment = cmp.Or(environment, DefaultEnvironment)
	if p, ok := s.policies[place{app, environment}]; ok {
		return p, nil
	}
	envs := s.Environments(app)
	if len(envs) == 0 {
		return Policy{}, refuse(CodeAppUnknown, "app %q is not known here: the operator adds it with RGW_APP_%s_SETTING_… variables", app, variableName(app))
	}
	return Policy{}, refuse(CodeEnvironmentUnknown, "app %q has no environment %q; it has: %s", app, environment, strings.Join(envs, ", "))
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
// ("NAME=value"), and none that is a [ServiceLink]. It reports every fault, each
// naming the variable, never a value.
// channel is the default of slack_channel.
func ParseSettings(environ []string, channel string) (Settings, []string) {
	read, faults := readSettings(environ)
	out := Settings{policies: map[place]Policy{}}
	places := map[place]bool{}
	named := map[string]bool{} // apps that have an environment other than the default one
	for at := range read {
		if at.app != "" { // not for all
			places[place{at.app, DefaultEnvironment}] = true
		}
		if at.environment != "" && at.environment != DefaultEnvironment {
			places[at], named[at.app] = true, true
		}
	}
	for at := range places {
		p, missing := read.resolve(at, channel)
		isDefault := at.environment == DefaultEnvironment
		if isDefault && named[at.app] && len(read[at]) == 0 && len(missing) > 0 {
			continue // an app that has named environments only needs no default one
		}
		faults = append(faults, missing...)
		if !isDefault && p.AutoApprove && !read[at][gateKey].counts() {
			faults = append(faults, fmt.Sprintf("%s: a named environment that auto-approves (%s) needs a gate of its own",
				at.variable(gateKey), p.Source["circleci_auto_approve_on_approval"]))
		}
		if p.RemindAfter > 0 && p.RemindAfter >= p.PendingTTL {
			faults = append(faults, fmt.Sprintf("%s: no reminder comes, because the request expires before: write less than pending_ttl", p.Source["remind_after"]))
		}
		out.policies[at] = p
	}
	return out, sorted(append(faults, sharedGates(out.Policies())...))
}

// Settings that others depend on.
const (
	gateKey    = "circleci_approval_job_name"
	projectKey = "circleci_project_id"
)

// variable is a variable that holds a setting. A bad one was reported already; it
// stands in the way of what it overrides, so that its fault is the only one.
type variable struct {
	name, value string
	bad         bool
}

// counts reports whether the variable hides those of wider levels: an empty one
// does not.
func (v variable) counts() bool { return v.value != "" || v.bad }

// variables holds what was read, by place and key: the zero place is for all
// apps, a place without an environment for a whole app.
type variables map[place]map[string]variable

func readSettings(environ []string) (variables, []string) {
	read := variables{}
	var faults []string
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, "RGW_APP_") && !strings.HasPrefix(name, "RGW_SETTING_") || ServiceLink(name) {
			continue
		}
		at, s, err := splitVariable(name)
		if err != nil {
			faults = append(faults, fmt.Sprintf("%s: %v", name, err))
			continue
		}
		clean, err := CleanValue(value)
		if err == nil && clean != "" {
			err = s.field.set(&Policy{}, clean)
		}
		if err != nil {
			faults = append(faults, fmt.Sprintf("%s: %v", name, err))
		}
		if read[at] == nil {
			read[at] = map[string]variable{}
		}
		read[at][s.key] = variable{name: name, value: clean, bad: err != nil}
	}
	return read, faults
}

// splitVariable takes RGW_APP_<APP>_ENV_<ENV>_SETTING_<KEY> apart: _SETTING_
// splits last, _ENV_ before it splits first.
func splitVariable(name string) (place, setting, error) {
	if key, ok := strings.CutPrefix(name, "RGW_SETTING_"); ok {
		s, err := knownKey(key)
		return place{}, s, err
	}
	rest := strings.TrimPrefix(name, "RGW_APP_")
	i := strings.LastIndex(rest, "_SETTING_")
	if i < 0 {
		return place{}, setting{}, errors.New("has no _SETTING_<KEY> part")
	}
	app, env, hasEnv := strings.Cut(rest[:i], "_ENV_")
	at := place{app: fromVariable(app), environment: fromVariable(env)}
	const rule = "name must be upper case letters, digits and _, start with a letter, at most 40 characters, without _ENV_ or _SETTING_"
	if !ValidName(at.app) || strings.ToUpper(app) != app {
		return place{}, setting{}, fmt.Errorf("the app's %s", rule)
	}
	if hasEnv && (!ValidName(at.environment) || strings.ToUpper(env) != env) {
		return place{}, setting{}, fmt.Errorf("the environment's %s", rule)
	}
	s, err := knownKey(rest[i+len("_SETTING_"):])
	return at, s, err
}

func fromVariable(name string) string {
	return strings.ReplaceAll(strings.ToLower(name), "_", "-")
}

func knownKey(key string) (setting, error) {
	if s, ok := settingOf(strings.ToLower(key)); ok && strings.ToUpper(key) == key {
		return s, nil
	}
	return setting{}, errors.New("is not a known setting")
}

// resolve looks every key up: environment, app, all apps, default. A setting that
// is required and has no value is missing.
func (read variables) resolve(at place, channel string) (p Policy, missing []string) {
	p = Policy{App: at.app, Environment: at.environment, Channel: channel, Source: map[string]string{}}
	for _, s := range settings {
		v := variable{value: s.fallback}
		for _, level := range []place{{}, {app: at.app}, at} {
			if found := read[level][s.key]; found.counts() {
				v = found
				p.Source[s.key] = found.name
			}
		}
		switch {
		case v.bad:
		case v.value != "":
			_ = s.field.set(&p, v.value) // cannot fail: what is bad was found as it was read
		case s.required:
			missing = append(missing, place{app: at.app}.variable(s.key)+": required")
		case s.key == projectKey && p.takes(CredentialOIDC): // ci_identity is earlier in the table
			missing = append(missing, fmt.Sprintf("%s: required, because %s takes OIDC tokens", place{app: at.app}.variable(s.key), p.Source["ci_identity"]))
		}
	}
	if p.Project == "" && p.VCSRepo != "" {
		p.Project = slugProviders[p.VCSProvider] + "/" + p.VCSRepo
	}
	return p, missing
}

// variable names the variable that sets a key at this place alone.
func (at place) variable(key string) string {
	name := "RGW_APP_" + variableName(at.app)
	if at.environment != "" {
		name += "_ENV_" + variableName(at.environment)
	}
	return name + "_SETTING_" + strings.ToUpper(key)
}

// sharedGates finds pairs with the same project and gate: one gate, one policy.
// A fault names the variables that the values came from.
func sharedGates(policies []Policy) []string {
	type gate struct{ project, name string }
	owners := map[gate][]Policy{}
	for _, p := range policies {
		if p.Project != "" && p.Gate != "" {
			g := gate{strings.ToLower(p.Project), p.Gate}
			owners[g] = append(owners[g], p)
		}
	}
	var faults []string
	for _, sharers := range owners {
		if len(sharers) > 1 {
			faults = append(faults, sharedGate(sharers))
		}
	}
	return faults
}

func sharedGate(sharers []Policy) string {
	var names, gates, projects, own []string
	add := func(list *[]string, name string) {
		if !slices.Contains(*list, name) {
			*list = append(*list, name)
		}
	}
	for _, p := range sharers {
		at := place{p.App, p.Environment}
		add(&names, p.App+"/"+p.Environment)
		add(&gates, p.Source[gateKey])
		add(&projects, cmp.Or(p.Source["circleci_project_slug"], p.Source["vcs_repo"]))
		if at.environment == DefaultEnvironment && p.Source[gateKey] != at.variable(gateKey) {
			at = place{app: p.App} // the shorter name does for the default environment
		}
		if p.Source[gateKey] != at.variable(gateKey) {
			add(&own, at.variable(gateKey))
		}
	}
	fault := fmt.Sprintf("%s: %s share one project (%s) and one gate: give each a gate of its own",
		strings.Join(gates, " and "), strings.Join(names, " and "), strings.Join(projects, " and "))
	if len(own) > 0 {
		fault += ", as with " + strings.Join(own, " or ")
	}
	return fault
}

// CleanValue returns the value of a variable, or the text of a file that holds one,
// without the blanks, line ends and byte order mark around it. A value that begins
// with a quote is an error, which does not repeat the value: Docker's --env-file,
// Kubernetes and others take the quotes of what was written for a part of it.
func CleanValue(text string) (string, error) {
	text = strings.TrimFunc(text, func(r rune) bool { return unicode.IsSpace(r) || r == '\ufeff' })
	if strings.HasPrefix(text, `"`) || strings.HasPrefix(text, `'`) {
		return "", errors.New("is in quotes: write the value without them")
	}
	return text, nil
}

// serviceLink has the names of
// https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
var serviceLink = regexp.MustCompile(`^[A-Z][A-Z0-9_]*_(PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?|SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?)$`)

// ServiceLink reports whether Kubernetes makes variables of this name for the
// services of a namespace. A service "rgw-app" makes RGW_APP_PORT, which is no
// setting of an app.
func ServiceLink(name string) bool { return serviceLink.MatchString(name) }
