package gatewayd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sethvargo/go-envconfig"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/store"
)

// secret is a value that shows itself only to who asks for it by name.
type secret struct{ value string }

const redacted = "REDACTED"

func (secret) String() string               { return redacted }
func (secret) GoString() string             { return redacted }
func (secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
func (s secret) reveal() string             { return s.value }

// EnvDecode implements envconfig.Decoder.
func (s *secret) EnvDecode(v string) error {
	s.value = strings.TrimSpace(v)
	return nil
}

// variables are the environment as it is written; config is what it means.
type variables struct {
	Listen         string `env:"RGW_LISTEN,default=127.0.0.1:8080"`
	MetricsListen  string `env:"RGW_METRICS_LISTEN"`
	PublicURL      string `env:"RGW_PUBLIC_URL"`
	DatabaseURL    string `env:"RGW_DATABASE_URL,default=sqlite:rack-gateway.db"`
	SecretKeys     secret `env:"RGW_SECRET_KEYS"`
	AnchorFile     string `env:"RGW_ANCHOR_FILE"`
	CircleToken    secret `env:"CIRCLECI_TOKEN"`
	CircleURL      string `env:"CIRCLECI_URL,default=https://circleci.com/api/v2"`
	CircleAppURL   string `env:"CIRCLECI_APP_URL,default=https://app.circleci.com"`
	SlackBotToken  secret `env:"SLACK_BOT_TOKEN"`
	SlackAppToken  secret `env:"SLACK_APP_TOKEN"`
	SlackSigning   secret `env:"SLACK_SIGNING_SECRET"`
	SlackAPIURL    string `env:"SLACK_API_URL,default=https://slack.com/api/"`
	SlackChannel   string `env:"SLACK_CHANNEL"`
	TrustedProxies string `env:"RGW_TRUSTED_PROXIES"`
	RateLimit      string `env:"RGW_RATE_LIMIT,default=120"`
	PollInterval   string `env:"RGW_POLL_INTERVAL,default=15s"`
	LogLevel       string `env:"RGW_LOG_LEVEL,default=info"`
	LogFormat      string `env:"RGW_LOG_FORMAT,default=auto"`
}

// secretNames are the variables that may also be given as NAME_FILE.
var secretNames = []string{"RGW_SECRET_KEYS", "CIRCLECI_TOKEN", "SLACK_BOT_TOKEN", "SLACK_APP_TOKEN", "SLACK_SIGNING_SECRET"}

// config is the checked configuration of a serve.
type config struct {
	variables
	publicURL string
	database  string // path
	keys      *store.KeyRing
	proxies   []netip.Prefix
	rateLimit int
	poll      time.Duration
	settings  approvals.Settings
}

// faults collects everything that is wrong, by variable name and never with a value.
type faults []string

func (f *faults) add(name, format string, args ...any) {
	*f = append(*f, name+": "+fmt.Sprintf(format, args...))
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

func (e *configError) Error() string {
	return "the configuration has " + strconv.Itoa(len(e.faults)) + " fault(s):\n  " + strings.Join(e.faults, "\n  ")
}

// readVariables reads the environment; secrets may come from files.
func readVariables(env []string, f *faults) variables {
	values := map[string]string{}
	for _, kv := range env {
		if name, value, ok := strings.Cut(kv, "="); ok && value != "" {
			values[name] = value
		}
	}
	for _, name := range secretNames {
		file, ok := values[name+"_FILE"]
		if !ok {
			continue
		}
		if values[name] != "" {
			f.add(name+"_FILE", "set only one of %s and %s_FILE", name, name)
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			f.add(name+"_FILE", "the file cannot be read: %v", errors.Unwrap(err))
			continue
		}
		if values[name] = strings.TrimSpace(string(text)); values[name] == "" {
			f.add(name+"_FILE", "the file is empty")
		}
	}
	var v variables
	err := envconfig.ProcessWith(context.Background(), &envconfig.Config{Target: &v, Lookuper: envconfig.MapLookuper(values)})
	if err != nil {
		f.add("environment", "cannot be read")
	}
	return v
}

// storeConfig is all that most operator commands need.
func storeConfig(env []string) (config, error) {
	var f faults
	c := config{variables: readVariables(env, &f)}
	c.checkStore(&f)
	return c, onlyAbout(f, "RGW_DATABASE_URL", "RGW_SECRET_KEYS").err()
}

// onlyAbout keeps the faults of the named variables and of their files.
func onlyAbout(f faults, names ...string) faults {
	return slices.DeleteFunc(f, func(fault string) bool {
		name, _, _ := strings.Cut(fault, ":")
		return !slices.Contains(names, strings.TrimSuffix(name, "_FILE"))
	})
}

func (c *config) checkStore(f *faults) {
	var err error
	if c.database, err = store.ParseURL(c.DatabaseURL); err != nil {
		f.add("RGW_DATABASE_URL", "must be sqlite:PATH")
	}
	if c.SecretKeys.reveal() == "" {
		f.add("RGW_SECRET_KEYS", "required: run rack-gatewayd keygen for one")
	} else if c.keys, err = store.ParseKeys(c.SecretKeys.reveal()); err != nil {
		f.add("RGW_SECRET_KEYS", "must be kid:base64(32 bytes)[,kid:…], see rack-gatewayd keygen")
	}
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
	if c.poll, err = time.ParseDuration(c.PollInterval); err != nil || c.poll < time.Second || c.poll > time.Hour {
		f.add("RGW_POLL_INTERVAL", "must be a duration from 1s to 1h")
	}
	if _, err := parseLevel(c.LogLevel); err != nil {
		f.add("RGW_LOG_LEVEL", "must be debug, info, warn or error")
	}
	if !slices.Contains([]string{"auto", "json", "tint"}, c.LogFormat) {
		f.add("RGW_LOG_FORMAT", "must be auto, json or tint")
	}
	var bad []string
	c.settings, bad = approvals.ParseSettings(env, c.SlackChannel)
	f = append(f, bad...)
	if len(bad) == 0 && len(c.settings.Apps()) == 0 {
		f.add("RGW_APP_<APP>_SETTING_<KEY>", "no app is configured")
	}
	return c, f.err()
}

func (c *config) checkListen(f *faults) {
	host, port, err := net.SplitHostPort(c.Listen)
	if n, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil || n > 65535 {
		f.add("RGW_LISTEN", "must be host:port")
	}
	if c.MetricsListen != "" {
		if _, _, err := net.SplitHostPort(c.MetricsListen); err != nil || c.MetricsListen == c.Listen {
			f.add("RGW_METRICS_LISTEN", "must be host:port, another one than RGW_LISTEN")
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

func (c *config) checkSlack(f *faults) {
	switch token := c.SlackBotToken.reveal(); {
	case token == "":
		f.add("SLACK_BOT_TOKEN", "required: the bot token xoxb-… of the installed app")
	case !strings.HasPrefix(token, "xoxb-"):
		f.add("SLACK_BOT_TOKEN", "must start with xoxb-")
	}
	app, signing := c.SlackAppToken.reveal(), c.SlackSigning.reveal()
	switch {
	case (app == "") == (signing == ""):
		f.add("SLACK_APP_TOKEN", "set exactly one of SLACK_APP_TOKEN (Socket Mode) and SLACK_SIGNING_SECRET (HTTP)")
	case app != "" && !strings.HasPrefix(app, "xapp-"):
		f.add("SLACK_APP_TOKEN", "must start with xapp-")
	}
	if !httpURL(c.SlackAPIURL) {
		f.add("SLACK_API_URL", "must be an http or https URL")
	} else if !strings.HasSuffix(c.SlackAPIURL, "/") {
		c.SlackAPIURL += "/"
	}
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
	if !httpURL(c.CircleURL) {
		f.add("CIRCLECI_URL", "must be an http or https URL, path included")
	}
	if !httpURL(c.CircleAppURL) {
		f.add("CIRCLECI_APP_URL", "must be an http or https URL")
	}
}
