package approvals

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
)

// settingValues holds effective values by app, environment and key.
type settingValues map[string]map[string]map[string]string

// values are the effective values of all settings.
func (s Settings) values() settingValues {
	all := settingValues{}
	for at, p := range s.policies {
		if all[at.app] == nil {
			all[at.app] = map[string]map[string]string{}
		}
		of := map[string]string{}
		for _, s := range settings {
			of[s.key] = s.field.show(&p)
		}
		all[at.app][at.environment] = of
	}
	return all
}

// Hash names the settings in the log: SHA-256 over the JSON of all effective values, hex.
func (s Settings) Hash() string {
	all, err := json.Marshal(s.values())
	if err != nil {
		panic(err) // strings always marshal
	}
	return hashOf(all)
}

// settingText and leafOfChanges bound settings.changed, so that it fits into a
// leaf: how many characters of a value it holds, and how many bytes of changes.
const (
	settingText   = 1000
	leafOfChanges = ledger.MaxLeaf * 3 / 4
)

// settingChanges lists what differs, by app, environment and key. Of an app or
// environment that is new or gone it leaves out the settings that have the default.
func settingChanges(had, now settingValues) []SettingChange {
	var out []SettingChange
	for _, app := range names(had, now) {
		for _, env := range names(had[app], now[app]) {
			before, after := had[app][env], now[app][env]
			for _, s := range settings {
				from, to := before[s.key], after[s.key]
				same := from == to || before == nil && to == s.fallback || after == nil && from == s.fallback
				if !same {
					from, to = boundedChange(from, to)
					out = append(out, SettingChange{app, env, s.key, from, to})
				}
			}
		}
	}
	return out
}

// boundedChange cuts two values of which one is too long, so that where they begin to
// differ is in what is left.
func boundedChange(from, to string) (string, string) {
	a, b := []rune(from), []rune(to)
	if max(len(a), len(b)) > settingText {
		same := 0
		for same < min(len(a), len(b)) && a[same] == b[same] {
			same++
		}
		if skip := same - settingText/10; skip > 0 {
			from, to = "…"+string(a[skip:]), "…"+string(b[skip:])
		}
	}
	return bounded(from, settingText), bounded(to, settingText)
}

// inLeaves cuts a list of changes into parts that fit into a leaf each.
func inLeaves(all []SettingChange) (parts [][]SettingChange) {
	room := 0
	for _, change := range all {
		line, err := json.Marshal(change)
		if err != nil {
			panic(err) // strings always marshal
		}
		if room -= len(line); room < 0 {
			parts, room = append(parts, nil), leafOfChanges-len(line)
		}
		parts[len(parts)-1] = append(parts[len(parts)-1], change)
	}
	return parts
}

// names lists the keys of two maps, sorted.
func names[V any](a, b map[string]V) []string {
	return sorted(slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b)))
}
