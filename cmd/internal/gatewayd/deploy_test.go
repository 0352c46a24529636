package gatewayd

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/parser"

	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

const deployFiles = "../../rack-gatewayd/deploy"

// assignment is a variable with its value, in any of the files that set some.
var assignment = regexp.MustCompile(`(?m)^[\s-]*(?:Environment=|\{name: )?((?:RGW|SLACK|CIRCLECI|GITHUB)_[A-Z0-9_]+)(?:=|: |, value: )"?([^"\n}]*)"?`)

// removal takes a variable out of a file that another one changes.
var removal = regexp.MustCompile(`\{name: ([A-Z0-9_]+), \$patch: delete\}`)

// Every variable that a file for running the gateway names is one that the daemon knows.
func TestDeployFilesNameKnownVariables(t *testing.T) {
	t.Parallel()
	known := variableNames()
	name := regexp.MustCompile(`\b(?:RGW|SLACK|CIRCLECI|GITHUB)_[A-Z0-9_]+\b`)
	seen := 0
	err := filepath.WalkDir(deployFiles, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if ext := filepath.Ext(path); err == nil && (ext == ".yml" || ext == ".yaml" || ext == ".json") {
			_, err = parser.ParseBytes(text, 0)
		}
		for _, v := range name.FindAllString(string(text), -1) {
			seen++
			if !isSetting(v) && !slices.Contains(known, v) || unknownSetting(v) != "" {
				t.Errorf("%s: %s is not a variable of the daemon", path, v)
			}
		}
		return err
	})
	if err != nil || seen < 50 {
		t.Errorf("got %d names, %v; want those of all files", seen, err)
	}
}

// imageVariable is one that the image sets.
var imageVariable = regexp.MustCompile(`(?m)^(?:ENV| {3}) ?(RGW_[A-Z_]+)=(\S+)`)

// With secrets in place, what the files say, and the image where they run it, is a
// configuration that the daemon starts with.
func TestDeployFilesAreAConfiguration(t *testing.T) {
	t.Parallel()
	secrets := map[string]string{
		"RGW_SECRET_KEYS": storetest.Keys, "CIRCLECI_TOKEN": "CCIPAT_x", "SLACK_BOT_TOKEN": "xoxb-1", "SLACK_APP_TOKEN": "xapp-1",
		"RGW_DATABASE_URL": "postgres://gateway:secretvalue@postgres/gateway?sslmode=disable",
	}
	dockerfile, err := os.ReadFile("../../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	image := imageVariable.FindAllStringSubmatch(string(dockerfile), -1)
	if len(image) == 0 {
		t.Fatal("the image sets no variables; want RGW_LISTEN")
	}
	for name, files := range map[string][]string{
		"compose":                      {"rack-gateway.env.example", "compose/compose.yaml"},
		"compose with two nodes":       {"rack-gateway.env.example", "compose/two-nodes.yaml"},
		"systemd":                      {"systemd/rack-gatewayd.service", "rack-gateway.env.example"},
		"kubernetes":                   {"kubernetes/kustomization.yaml", "kubernetes/gateway.yaml"},
		"kubernetes with two replicas": {"kubernetes/kustomization.yaml", "kubernetes/gateway.yaml", "kubernetes-two-nodes/gateway.yaml"},
		"convox":                       {"convox.yml"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			values := map[string]string{}
			for _, file := range files {
				text, err := os.ReadFile(filepath.Join(deployFiles, file))
				if err != nil {
					t.Fatal(err)
				}
				for _, m := range assignment.FindAllStringSubmatch(string(text), -1) {
					values[m[1]] = m[2]
				}
				for _, m := range removal.FindAllStringSubmatch(string(text), -1) {
					delete(values, m[1])
				}
			}
			for _, m := range image {
				if _, set := values[m[1]]; !set && name != "systemd" {
					values[m[1]] = m[2]
				}
			}
			if name == "convox" { // takes these from its own environment
				for k, v := range map[string]string{
					"RGW_DATABASE_URL": "sqlite:x", "RGW_PUBLIC_URL": "https://gate.example.com", "SLACK_CHANNEL": "C0123456789",
					"RGW_APP_MYAPP_SETTING_VCS_REPO": "MyOrg/myapp", "RGW_APP_MYAPP_SETTING_CIRCLECI_APPROVAL_JOB_NAME": "approve",
				} {
					values[k] = v
				}
			}
			var env []string
			for k, v := range values {
				if secret, ok := secrets[strings.TrimSuffix(k, "_FILE")]; ok && strings.HasSuffix(k, "_FILE") {
					v = filepath.Join(t.TempDir(), k)
					if err := os.WriteFile(v, []byte(secret), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				env = append(env, k+"="+v)
			}
			for k, v := range secrets {
				if values[k+"_FILE"] == "" && values[k] == "" {
					env = append(env, k+"="+v)
				}
			}
			cfg, err := serveConfig(env)
			if err != nil {
				t.Fatal(err)
			}
			if apps := cfg.settings.Apps(); !slices.Equal(apps, []string{"myapp"}) {
				t.Errorf("got the apps %q; want myapp", apps)
			}
		})
	}
}

// A new volume belongs to root, and the image's /data is a new one at each start unless
// something else is there: what runs as our user gets its volumes from their owner
// service, and nothing at /data that it did not name.
func TestComposeVolumesBelongToWhoWritesThem(t *testing.T) {
	t.Parallel()
	type service struct {
		Image, User    string
		Command        any
		Volumes, Tmpfs []string
		DependsOn      map[string]struct{ Condition string } `yaml:"depends_on"`
	}
	written := 0
	for _, name := range []string{"compose.yaml", "two-nodes.yaml"} {
		var file struct {
			Services map[string]service
			Volumes  map[string]any
		}
		text, err := os.ReadFile(filepath.Join(deployFiles, "compose", name))
		if err == nil {
			err = yaml.Unmarshal(text, &file)
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		owner := file.Services["owner"]
		owned, _ := owner.Command.([]any)
		for what, s := range file.Services {
			data := slices.ContainsFunc(slices.Concat(s.Volumes, s.Tmpfs), func(v string) bool { return strings.Contains(v, "/data") })
			if strings.Contains(s.Image, "rack-gatewayd") && !data {
				t.Errorf("%s: %s has nothing at /data, so each container gets a volume of its own", name, what)
			}
			for _, v := range s.Volumes {
				volume, path, _ := strings.Cut(v, ":")
				if _, named := file.Volumes[volume]; !named || s.User != "65532:65532" {
					continue
				}
				written++
				if !slices.Contains(owner.Volumes, v) || !slices.Contains(owned, any(path)) || s.DependsOn["owner"].Condition != "service_completed_successfully" {
					t.Errorf("%s: %s cannot write to the new volume %s: it does not wait for the service owner, or that does not give it away", name, what, v)
				}
			}
		}
	}
	if written != 3 {
		t.Errorf("got %d volumes of our user; want data and anchor of the gateway, and data of Litestream", written)
	}
}

// A pod that a deploy ends answers for a while longer, because a service hears later
// of its end, and is not killed while it hands over.
func TestPodEndsAfterItsCalls(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(deployFiles, "kubernetes-two-nodes/gateway.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	seconds := func(pattern string) time.Duration {
		found := regexp.MustCompile(pattern).FindSubmatch(text)
		if found == nil {
			t.Fatalf("nothing matches %s", pattern)
		}
		n, err := strconv.Atoi(string(found[1]))
		if err != nil {
			t.Fatal(err)
		}
		return time.Duration(n) * time.Second
	}
	pause, grace := seconds(`preStop: \{sleep: \{seconds: (\d+)\}\}`), seconds(`terminationGracePeriodSeconds: (\d+)`)
	if least := pause + stopGrace + stopCalls; pause == 0 || grace <= least {
		t.Errorf("got %s of pause and %s until the pod is killed; want more than %s", pause, grace, least)
	}
}
