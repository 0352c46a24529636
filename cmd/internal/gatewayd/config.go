package gatewayd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/sethvargo/go-envconfig"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/identity"
	"github.com/rack-gateway/rack-gateway-approvals/store"
)

// secret is a value that prints as a placeholder; only reveal returns it.
type secret struct{ value string }

const redacted = "REDACTED"

func (secret) String() string               { return redacted }
func (secret) GoString() string             { return redacted }
func (secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
func (s secret) reveal() string             { return s.value }

// EnvDecode implements envconfig.Decoder.
func (s *secret) EnvDecode(v string) error {
	s.value = v
	return nil
}

// variables are the environment as it is written; config is what it means.
type variables struct {
	Listen         string `env:"RGW_LISTEN,default=127.0.0.1:8080"`
	MetricsListen  string `env:"RGW_METRICS_LISTEN"`
	PublicURL      string `env:"RGW_PUBLIC_URL"`
	DatabaseURL    secret `env:"RGW_DATABASE_URL,default=sqlite:rack-gateway.db"`
	DatabaseCA     string `env:"RGW_DATABASE_CA_FILE"`
	SecretKeys     secret `env:"RGW_SECRET_KEYS"`
	AnchorFile     string `env:"RGW_ANCHOR_FILE"`
	CircleToken    secret `env:"CIRCLECI_TOKEN"`
	CircleURL      string `env:"CIRCLECI_URL,default=https://circleci.com/api/v2"`
	CircleAppURL   string `env:"CIRCLECI_APP_URL,default=https://app.circleci.com"`
	GitHubToken    secret `env:"GITHUB_TOKEN"`
	GitHubURL      string `env:"GITHUB_API_URL,default=https://api.github.com"`
	SlackBotToken  secret `env:"SLACK_BOT_TOKEN"`
	SlackAppToken  secret `env:"SLACK_APP_TOKEN"`
	SlackSigning   secret `env:"SLACK_SIGNING_SECRET"`
	SlackAPIURL    string `env:"SLACK_API_URL,default=https://slack.com/api/"`
	SlackChannel   string `env:"SLACK_CHANNEL"`
	TrustedProxies string `env:"RGW_TRUSTED_PROXIES"`
	RateLimit      string `env:"RGW_RATE_LIMIT,default=120"`
	PollInterval   string `env:"RGW_POLL_INTERVAL,default=15s"`
	OIDCIssuer     string `env:"RGW_OIDC_ISSUER"`
	OIDCAudience   string `env:"RGW_OIDC_AUDIENCE"`
	LogLevel       string `env:"RGW_LOG_LEVEL,default=info"`
	LogFormat      string `env:"RGW_LOG_FORMAT,default=auto"`

	fromFile map[string]bool // the secrets that came from NAME_FILE
}

// source names the variable that a secret came from: NAME or NAME_FILE.
func (v variables) source(name string) string {
	if v.fromFile[name] {
		return name + "_FILE"
	}
	return name
}

// secretNames are the variables that may also be given as NAME_FILE.
var secretNames = []string{"RGW_DATABASE_URL", "RGW_SECRET_KEYS", "CIRCLECI_TOKEN", "GITHUB_TOKEN", "SLACK_BOT_TOKEN", "SLACK_APP_TOKEN", "SLACK_SIGNING_SECRET"}

// config is the checked configuration of a serve.
type config struct {
	variables
	publicURL string
	audience  string // of OIDC tokens
	database  string // path of the file, "" = on a server
	keys      *store.KeyRing
	proxies   []netip.Prefix
	rateLimit int
	poll      time.Duration
	settings  approvals.Settings
}

// faults collects everything that is wrong, by variable name and never with a value.
type faults []string

// add records what is wrong with a variable. The first fault of a variable is the
// cause of what would follow from it, so it stays the only one.
func (f *faults) add(name, format string, args ...any) {
	plain := func(name string) string { return strings.TrimSuffix(name, "_FILE") }
	if !slices.ContainsFunc(*f, func(other string) bool {
		names := namesOf(other)
		return len(names) == 1 && plain(names[0]) == plain(name)
	}) {
		*f = append(*f, name+": "+fmt.Sprintf(format, args...))
	}
}

// between records that two variables do not go together.
func (f *faults) between(a, b, format string, args ...any) {
	*f = append(*f, a+" and "+b+": "+fmt.Sprintf(format, args...))
}

// namesOf returns the variables that a fault is about.
func namesOf(fault string) []string {
	names, _, _ := strings.Cut(fault, ":")
	return strings.Split(names, " and ")
}

func (f faults) err() error {
	if len(f) == 0 {
		return nil
	}
	slices.Sort(f)
	return &configError{faults: slices.Compact(f)}
}

// configError is the one report on a bad configuration.
type configError struct{ faults []string }

func (e *configError) Error() string { return strings.Join(e.Lines(), "\n") }

// Lines has the program print one line for each fault.
func (e *configError) Lines() []string {
	lines := []string{"the configuration has " + strconv.Itoa(len(e.faults)) + " fault(s):"}
	for _, fault := range e.faults {
		lines = append(lines, "  "+fault)
	}
	return lines
}

// readVariables reads the environment; secrets may come from files. What begins
// with RGW_ and is not known is a fault for every command, although most read only
// a part: RGW_DATABASE_URI must not leave the default of RGW_DATABASE_URL in place.
func readVariables(env []string, f *faults) variables {
	known := variableNames()
	values := map[string]string{}
	for _, kv := range env {
		name, text, _ := strings.Cut(kv, "=")
		if fault := unknownVariable(name, known); fault != "" {
			f.add(name, "%s", fault)
		}
		if !slices.Contains(known, name) {
			continue
		}
		value, err := approvals.CleanValue(text)
		if err != nil {
			f.add(name, "%v", err)
		}
		values[name] = value
	}
	maps.DeleteFunc(values, func(_, value string) bool { return value == "" })
	v := variables{fromFile: map[string]bool{}}
	for _, name := range secretNames {
		file, ok := values[name+"_FILE"]
		switch {
		case !ok:
		case values[name] != "":
			f.between(name, name+"_FILE", "set only one of them")
		default:
			values[name] = readSecret(name+"_FILE", file, f)
			v.fromFile[name] = true
		}
		// A key ring is a list and a path may have blanks; all others are words that go
		// into an HTTP header.
		if name != "RGW_SECRET_KEYS" && name != "RGW_DATABASE_URL" && strings.ContainsFunc(values[name], func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
			f.add(v.source(name), "must be one word: there is a blank, a line end or a control character in it")
		}
	}
	err := envconfig.ProcessWith(context.Background(), &envconfig.Config{Target: &v, Lookuper: envconfig.MapLookuper(values)})
	if err != nil {
		f.add("environment", "cannot be read")
	}
	return v
}

// readSecret reads the file that the variable name points to.
func readSecret(name, file string, f *faults) string {
	text, err := os.ReadFile(file)
	if err != nil {
		f.add(name, "the file cannot be read: %v", errors.Unwrap(err))
		return ""
	}
	value, err := approvals.CleanValue(string(text))
	switch {
	case err != nil:
		f.add(name, "what the file holds %v", err)
	case value == "":
		f.add(name, "the file is empty")
	}
	return value
}

// readSettings reads the settings of all apps.
func readSettings(env []string, channel string, f *faults) approvals.Settings {
	var known []string
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		if fault := unknownSetting(name); fault != "" {
			f.add(name, "%s", fault)
			continue
		}
		known = append(known, kv)
	}
	settings, bad := approvals.ParseSettings(known, channel)
	*f = append(*f, bad...)
	return settings
}

// storeConfig is all that most operator commands need.
func storeConfig(env []string) (config, error) {
	return readStore(env, "RGW_DATABASE_URL", "RGW_DATABASE_CA_FILE", "RGW_SECRET_KEYS", "RGW_ANCHOR_FILE")
}

// databaseConfig is what a command needs that reads and seals no secrets.
func databaseConfig(env []string) (config, error) {
	return readStore(env, "RGW_DATABASE_URL", "RGW_DATABASE_CA_FILE")
}

// readStore reads what is about the database, and checks the named variables.
func readStore(env []string, names ...string) (config, error) {
	var f faults
	c := config{variables: readVariables(env, &f)}
	c.checkStore(&f)
	return c, onlyAbout(f, names...).err()
}

// onlyAbout keeps the faults of the named variables and of their files, and those
// of variables that do not exist.
func onlyAbout(f faults, names ...string) faults {
	known := variableNames()
	return slices.DeleteFunc(f, func(fault string) bool {
		return !slices.ContainsFunc(namesOf(fault), func(name string) bool {
			return slices.Contains(names, name) || slices.Contains(names, strings.TrimSuffix(name, "_FILE")) || !slices.Contains(known, name)
		})
	})
}

func (c *config) checkStore(f *faults) {
	var err error
	name := c.source("RGW_DATABASE_URL")
	without := c.store()
	without.CAFile = ""
	_, wrongURL := without.Path()
	switch c.database, err = c.store().Path(); {
	case err != nil && wrongURL == nil:
		f.add("RGW_DATABASE_CA_FILE", "%v", err)
	case err != nil:
		f.add(name, "%v", err)
	case c.database != "" && (strings.ContainsAny(c.database[:1], "\"' \t\r\n") || hasScheme(c.database)):
		f.add(name, "the path behind sqlite: begins with a quote, a blank or file:; write the path alone")
	case c.database != "" && c.DatabaseCA != "":
		f.between("RGW_DATABASE_URL", "RGW_DATABASE_CA_FILE", "the certificate authority is for a postgres:// database; remove it, or correct the URL")
	}
	if hasScheme(c.AnchorFile) {
		f.add("RGW_ANCHOR_FILE", "must be a path, without file:")
	}
	if c.SecretKeys.reveal() == "" {
		f.add("RGW_SECRET_KEYS", "required: run rack-gatewayd keygen for one")
	} else if c.keys, err = store.ParseKeys(c.SecretKeys.reveal()); err != nil {
		f.add(c.source("RGW_SECRET_KEYS"), "must be kid:base64(32 bytes)[,kid:…], see rack-gatewayd keygen: %v", err)
	}
}

// store says which database to open.
func (c *config) store() store.Config {
	return store.Config{URL: c.DatabaseURL.reveal(), CAFile: c.DatabaseCA, Keys: c.keys}
}

// hasScheme reports whether a path is written as a URL. SQLite would take it for
// one, and let its parameters change how the database is opened.
func hasScheme(path string) bool {
	return len(path) >= 5 && strings.EqualFold(path[:5], "file:")
}

// serveConfig reads and checks everything; the error lists every fault.
func serveConfig(env []string) (config, error) {
	var f faults
	c := config{variables: readVariables(env, &f)}
	c.checkStore(&f)
	c.checkListen(&f)
	c.checkSlack(&f)
	c.checkCI(&f)
	var err error
	if c.rateLimit, err = strconv.Atoi(c.RateLimit); err != nil || c.rateLimit < 0 || c.rateLimit > 1_000_000 {
		f.add("RGW_RATE_LIMIT", "must be a whole number of calls per minute, 0 = none")
	}
	if c.poll, err = time.ParseDuration(c.PollInterval); err != nil || c.poll < time.Second || c.poll > 24*time.Hour {
		f.add("RGW_POLL_INTERVAL", "must be a duration from 1s to 24h")
	}
	if _, err := parseLevel(c.LogLevel); err != nil {
		f.add("RGW_LOG_LEVEL", "must be debug, info, warn or error")
	}
	if !slices.Contains([]string{"auto", "json", "tint"}, c.LogFormat) {
		f.add("RGW_LOG_FORMAT", "must be auto, json or tint")
	}
	before := len(f)
	c.settings = readSettings(env, c.SlackChannel, &f)
	if len(f) == before && len(c.settings.Apps()) == 0 {
		f.add("RGW_APP_<APP>_SETTING_<KEY>", "no app is configured: an app needs at least VCS_REPO and CIRCLECI_APPROVAL_JOB_NAME")
	}
	c.checkOIDC(&f)
	return c, f.err()
}

func (c *config) checkOIDC(f *faults) {
	c.audience = cmp.Or(c.OIDCAudience, c.publicURL)
	if c.OIDCIssuer == "" {
		switch {
		case c.OIDCAudience != "":
			f.between("RGW_OIDC_AUDIENCE", "RGW_OIDC_ISSUER", "set the issuer as well, or none of them")
		case c.settings.TakesOIDC() != "":
			f.add("RGW_OIDC_ISSUER", "required, because %s takes OIDC tokens: https://oidc.circleci.com/org/<organisation id>", c.settings.TakesOIDC())
		}
		return
	}
	if err := identity.CheckIssuer(c.OIDCIssuer); err != nil {
		f.add("RGW_OIDC_ISSUER", "%v", err)
	}
	if id := identity.OrgID(c.OIDCIssuer); id != "" && strings.EqualFold(c.audience, id) {
		f.add("RGW_OIDC_AUDIENCE", "must not be the organisation's id: every job of CircleCI has a token for that audience")
	}
}

// identity checks OIDC tokens; nil = none are taken.
func (c *config) identity() approvals.Identity {
	if c.OIDCIssuer == "" {
		return nil
	}
	return identity.New(c.issuer())
}

func (c *config) checkListen(f *faults) {
	host, port, err := hostPort(c.Listen)
	if err != nil {
		f.add("RGW_LISTEN", "must be host:port")
	}
	if c.MetricsListen != "" {
		if _, _, err := hostPort(c.MetricsListen); err != nil {
			f.add("RGW_METRICS_LISTEN", "must be host:port")
		} else if c.MetricsListen == c.Listen {
			f.between("RGW_LISTEN", "RGW_METRICS_LISTEN", "must differ")
		}
	}
	c.publicURL = strings.TrimSuffix(c.PublicURL, "/")
	if c.publicURL == "" {
		if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
			host = "localhost"
		}
		c.publicURL = "http://" + net.JoinHostPort(host, port)
	} else if !httpURL(c.publicURL) {
		f.add("RGW_PUBLIC_URL", "must be an http or https URL")
	}
	for part := range strings.SplitSeq(c.TrustedProxies, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		p, err := netip.ParsePrefix(part)
		if addr, bad := netip.ParseAddr(part); err != nil && bad == nil {
			p, err = addr.Prefix(addr.BitLen())
		}
		if err != nil {
			f.add("RGW_TRUSTED_PROXIES", "must be a comma list of networks such as 10.0.0.0/8")
			continue
		}
		c.proxies = append(c.proxies, p.Masked())
	}
}

// hostPort splits the address of a listener. Its port is a number.
func hostPort(address string) (host, port string, err error) {
	if host, port, err = net.SplitHostPort(address); err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	return host, port, err
}

// loopback reports whether only this machine reaches the listener.
func (c *config) loopback() bool {
	host, _, err := net.SplitHostPort(c.Listen)
	ip, bad := netip.ParseAddr(host)
	return err == nil && (host == "localhost" || bad == nil && ip.IsLoopback())
}

func httpURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.RawQuery == "" && u.Fragment == "" && u.User == nil
}

// openURL reports whether calls to a URL travel unencrypted over a network.
func openURL(s string) bool {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" {
		return false
	}
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	ip, err := netip.ParseAddr(host)
	local := host == "localhost" || strings.HasSuffix(host, ".localhost") || err == nil && ip.Unmap().IsLoopback()
	return !local
}

// checkAPI checks the base of an API to which a token is sent.
func (f *faults) checkAPI(name, base string) {
	switch {
	case !httpURL(base):
		f.add(name, "must be an http or https URL, path included")
	case openURL(base):
		f.add(name, "must be an https URL: the token would travel unencrypted")
	}
}

func (c *config) checkSlack(f *faults) {
	switch token := c.SlackBotToken.reveal(); {
	case token == "":
		f.add("SLACK_BOT_TOKEN", "required: the bot token xoxb-… of the installed app")
	case !strings.HasPrefix(token, "xoxb-"):
		f.add(c.source("SLACK_BOT_TOKEN"), "must start with xoxb-; the app-level token xapp-… belongs in SLACK_APP_TOKEN")
	}
	app, signing := c.SlackAppToken.reveal(), c.SlackSigning.reveal()
	if app != "" && !strings.HasPrefix(app, "xapp-") {
		f.add(c.source("SLACK_APP_TOKEN"), "must start with xapp-")
	}
	switch {
	case app != "" && signing != "":
		f.between(c.source("SLACK_APP_TOKEN"), c.source("SLACK_SIGNING_SECRET"), "set only one of them, the first for Socket Mode, the second for HTTP")
	case app == "" && signing == "":
		f.add("SLACK_APP_TOKEN", "required: set it for Socket Mode, or SLACK_SIGNING_SECRET for HTTP")
	}
	f.checkAPI("SLACK_API_URL", c.SlackAPIURL)
	switch {
	case c.SlackChannel == "":
		f.add("SLACK_CHANNEL", "required: the id (C…) of the channel for the cards")
	case !approvals.ValidChannel(c.SlackChannel):
		f.add("SLACK_CHANNEL", "must be a channel id (C…), not a name")
	}
}

func (c *config) checkCI(f *faults) {
	if c.CircleToken.reveal() == "" {
		f.add("CIRCLECI_TOKEN", "required: a personal API token of the machine user")
	}
	f.checkAPI("CIRCLECI_URL", c.CircleURL)
	f.checkAPI("GITHUB_API_URL", c.GitHubURL)
	if !httpURL(c.CircleAppURL) {
		f.add("CIRCLECI_APP_URL", "must be an http or https URL")
	}
}
