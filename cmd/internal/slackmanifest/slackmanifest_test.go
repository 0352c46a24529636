package slackmanifest_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/slackmanifest"
)

func TestSocketIsTheManifestOfTheRepository(t *testing.T) {
	t.Parallel()
	want, err := os.ReadFile("../../../manifest.yml")
	if err != nil {
		t.Fatal(err)
	}
	got := slackmanifest.Socket()
	if !bytes.Equal(got, want) {
		t.Errorf("manifest.yml differs from the rendered one (-want +got):\n%s", cmp.Diff(string(want), string(got)))
	}
}

func TestContents(t *testing.T) {
	t.Parallel()
	scopes := []any{"chat:write", "commands", "users:read", "usergroups:read", "channels:read", "groups:read", "channels:history", "groups:history"}
	for name, base := range map[string]string{"socket": "", "http": "https://gate.example.com/approvals/"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			manifest := rendered(t, base)
			for path, want := range map[string]any{
				"_metadata.major_version":                          json.Number("2"),
				"features.app_home.home_tab_enabled":               true,
				"features.app_home.messages_tab_read_only_enabled": true,
				"oauth_config.scopes.bot":                          scopes,
				"oauth_config.scopes.bot_optional":                 scopes[6:],
				"settings.interactivity.is_enabled":                true,
				"settings.event_subscriptions.bot_events":          []any{"app_home_opened"},
				"settings.socket_mode_enabled":                     base == "",
				"settings.org_deploy_enabled":                      false,
				"settings.token_rotation_enabled":                  false,
			} {
				if diff := cmp.Diff(want, at(manifest, path)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", path, diff)
				}
			}
			command := at(manifest, "features.slash_commands").([]any)[0].(map[string]any)
			if command["command"] != "/approvals" || command["should_escape"] != true {
				t.Errorf("got command %v; want /approvals with should_escape", command)
			}
			for _, url := range []struct {
				what      string
				got, want any
			}{
				{"command", command["url"], "https://gate.example.com/approvals/slack/commands"},
				{"interactivity", at(manifest, "settings.interactivity.request_url"), "https://gate.example.com/approvals/slack/interactions"},
				{"events", at(manifest, "settings.event_subscriptions.request_url"), "https://gate.example.com/approvals/slack/events"},
			} {
				if base == "" {
					url.want = nil // with Socket Mode on, Slack calls no URL
				}
				if url.got != url.want {
					t.Errorf("%s: got %v; want %v", url.what, url.got, url.want)
				}
			}
		})
	}
}

// TestSchema checks both manifests against Slack's own JSON Schema
// (github.com/slackapi/manifest-schema) where a copy is at hand.
func TestSchema(t *testing.T) {
	t.Parallel()
	const file = "../../../../shared/data/manifest.schema.2.0.0.json"
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		t.Skip("skipped: Slack's schema is not at hand")
		return
	}
	compiler := jsonschema.NewCompiler()
	compiler.UseRegexpEngine(func(pattern string) (jsonschema.Regexp, error) {
		// Go knows no look-ahead. The schema has one, for domains, which the manifest has none of.
		return regexp.Compile(strings.ReplaceAll(pattern, `(?![\.\-])`, ""))
	})
	schema, err := compiler.Compile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, base := range []string{"", "https://gate.example.com"} {
		if err := schema.Validate(rendered(t, base)); err != nil {
			t.Errorf("base %q: %v", base, err)
		}
	}
}

func TestHTTPRefuses(t *testing.T) {
	t.Parallel()
	for _, base := range []string{
		"", "gate.example.com", "http://gate.example.com", "https://", "https:///path", "https://:8080",
		"https://user@gate.example.com", "https://gate.example.com?x=1", "https://gate.example.com#x",
		"https://gate.example.com/\"\nsettings: {}", "https://gate\".example.com", "https://gate.example.com/%22",
		"https://gate.example.com/" + strings.Repeat("a", 3000),
	} {
		if _, err := slackmanifest.HTTP(base); err == nil {
			t.Errorf("%.60q: got a manifest; want an error", base)
		}
	}
}

func FuzzHTTP(f *testing.F) {
	f.Add("https://gate.example.com")
	f.Add("https://[::1]:8443/a/b")
	f.Add("https://gate.example.com/\"\n# ")
	f.Fuzz(func(t *testing.T, base string) {
		text, err := slackmanifest.HTTP(base)
		if err != nil {
			return
		}
		var manifest any
		if err := yaml.Unmarshal(text, &manifest); err != nil {
			t.Fatal(err)
		}
		want := strings.TrimRight(base, "/") + "/slack/interactions"
		if got := at(manifest, "settings.interactivity.request_url"); got != want {
			t.Errorf("got request_url %v; want %v", got, want)
		}
	})
}

func rendered(t *testing.T, base string) any {
	t.Helper()
	text := slackmanifest.Socket()
	if base != "" {
		var err error
		if text, err = slackmanifest.HTTP(base); err != nil {
			t.Fatal(err)
		}
	}
	// Numbers as JSON's, for the schema.
	text, err := yaml.YAMLToJSON(text)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return manifest
}

// at finds a value by its dotted path; nil when it is not there.
func at(value any, path string) any {
	for key := range strings.SplitSeq(path, ".") {
		m, _ := value.(map[string]any)
		value = m[key]
	}
	return value
}
