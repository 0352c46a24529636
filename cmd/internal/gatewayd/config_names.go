package gatewayd

import (
	"reflect"
	"slices"
	"strings"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli"
)

// variableNames lists the variables of the daemon, NAME_FILE included.
func variableNames() []string {
	names := make([]string, 0, 2*len(secretNames))
	for f := range reflect.TypeFor[variables]().Fields() {
		if name, _, _ := strings.Cut(f.Tag.Get("env"), ","); name != "" {
			names = append(names, name)
		}
	}
	for _, name := range secretNames {
		names = append(names, name+"_FILE")
	}
	return names
}

// isSetting reports whether a name is one that [approvals.ParseSettings] reads.
func isSetting(name string) bool {
	return strings.HasPrefix(name, "RGW_APP_") || strings.HasPrefix(name, "RGW_SETTING_")
}

// unknownVariable says what is wrong with a variable that begins with RGW_ and is
// neither one of the known ones nor a setting; "" means nothing.
func unknownVariable(name string, known []string) string {
	if !strings.HasPrefix(name, "RGW_") || isSetting(name) || slices.Contains(known, name) || approvals.ServiceLink(name) {
		return ""
	}
	candidates := slices.Clone(known)
	for _, key := range approvals.SettingKeys() {
		candidates = append(candidates, "RGW_SETTING_"+strings.ToUpper(key))
	}
	meant := nearest(name, candidates)
	if meant == "" && strings.Contains(name, "_SETTING_") {
		meant = "RGW_APP_" + strings.TrimPrefix(name, "RGW_")
	}
	return "is not a known variable: " + didYouMean(meant)
}

// unknownSetting says what is wrong with the key of a variable that holds a
// setting; "" means nothing.
func unknownSetting(name string) string {
	const mark = "_SETTING_"
	i := strings.LastIndex(name, mark)
	if i < 0 || !isSetting(name) || approvals.ServiceLink(name) {
		return "" // no key to judge: approvals.ParseSettings says what is wrong
	}
	var keys []string
	for _, key := range approvals.SettingKeys() {
		keys = append(keys, strings.ToUpper(key))
	}
	key := name[i+len(mark):]
	if slices.Contains(keys, key) {
		return ""
	}
	meant := cli.Nearest(key, keys)
	if meant != "" {
		meant = name[:i] + mark + meant
	}
	return "is not a known setting: " + didYouMean(meant)
}

func didYouMean(name string) string {
	if name == "" {
		return "cmd/rack-gatewayd/README.md lists all of them"
	}
	return "did you mean " + name + "?"
}

// nearest finds the variable that a name was probably meant to be. That both begin
// with RGW_ makes them no nearer to each other.
func nearest(name string, variables []string) string {
	var bare []string
	for _, v := range variables {
		bare = append(bare, strings.TrimPrefix(v, "RGW_"))
	}
	if i := slices.Index(bare, cli.Nearest(strings.TrimPrefix(name, "RGW_"), bare)); i >= 0 {
		return variables[i]
	}
	return ""
}
