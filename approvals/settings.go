package approvals

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

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
		if err := checkValue(key, v.value); err != nil {
			faults = append(faults, fmt.Sprintf("%s: %v", name, err))
			v.value = ""
		}
		if at.app == "" {
			global[key] = v
			continue
		}
		if byPlace[at] == nil {
			byPlace[at] = map[string]variable{}
		}
		byPlace[at][key] = v
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
			if at.environment != DefaultEnvironment && p.AutoApprove && byPlace[at]["circleci_approval_job_name"].value == "" {
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
