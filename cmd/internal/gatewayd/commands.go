package gatewayd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot"
	"github.com/rack-gateway/rack-gateway-approvals/circleci"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/slackmanifest"
	"github.com/rack-gateway/rack-gateway-approvals/store"
)

func (c *program) keygen() *cobra.Command {
	var id string
	cmd := &cobra.Command{
		Use: "keygen", Short: "Print a new key for RGW_SECRET_KEYS", Args: cobra.NoArgs,
		Example: "  rack-gatewayd keygen > rgw-secret-keys",
		Long: `Print a new key for RGW_SECRET_KEYS, alone on stdout. To rotate, put the new key
in front of the old ones, separated by a comma.`,
		RunE: func(*cobra.Command, []string) error {
			if id == "" {
				id = "k" + time.Now().UTC().Format("20060102")
			}
			key, err := store.NewKey(id)
			if err != nil {
				return cli.Usage("--kid: %w", err)
			}
			return c.Println(key)
		},
	}
	cmd.Flags().StringVar(&id, "kid", "", "id of the key (default k and today's date)")
	return cmd
}

func (c *program) manifest() *cobra.Command {
	var base string
	cmd := &cobra.Command{
		Use: "manifest [--http URL]", Short: "Print the Slack app manifest", Args: cobra.NoArgs,
		Example: `  rack-gatewayd manifest
  rack-gatewayd manifest --http https://gateway.example.com`,
		Long: `Print the manifest of the Slack app: for Socket Mode, or with --http for requests
to the given base URL.`,
		RunE: func(*cobra.Command, []string) error {
			text, err := slackmanifest.Socket()
			if base != "" {
				if text, err = slackmanifest.HTTP(base); err != nil {
					return cli.Usage("--http: %w", err)
				}
			}
			if err != nil {
				return err
			}
			return c.Print(string(text))
		},
	}
	cmd.Flags().StringVar(&base, "http", "", "public base URL of the gateway, for HTTP mode")
	return cmd
}

func (c *program) settingsCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "settings", Short: "Show the settings of apps and environments", Example: "  rack-gatewayd settings show --app myapp"}
	cmd.AddCommand(c.settingsShow())
	return cmd
}

func (c *program) settingsShow() *cobra.Command {
	var app, environment string
	var output cli.Format
	cmd := &cobra.Command{
		Use: "show --app APP [--environment ENV]", Short: "Show effective values and where they come from", Args: cobra.NoArgs,
		Example: `  rack-gatewayd settings show --app myapp
  rack-gatewayd settings show --app myapp --environment production -o json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var f faults
			v := readVariables(c.env, &f)
			f = onlyAbout(f, "SLACK_CHANNEL")
			known := readSettings(c.env, v.SlackChannel, &f)
			if err := f.err(); err != nil {
				return err
			}
			p, err := known.Lookup(app, environment)
			if err != nil {
				return err
			}
			type view struct {
				Key    string `json:"key"`
				Value  string `json:"value"`
				Source string `json:"source"`
			}
			var views []view
			rows := [][]string{{"SETTING", "VALUE", "FROM"}}
			for _, key := range approvals.SettingKeys() {
				from := p.Source[key]
				switch {
				case from != "":
				case key == "slack_channel":
					from = "SLACK_CHANNEL"
				case key == "circleci_project_slug":
					from = "vcs_provider and vcs_repo"
				default:
					from = "default"
				}
				views = append(views, view{key, p.Value(key), from})
				rows = append(rows, []string{key, p.Value(key), from})
			}
			return c.Show(output, cli.Result{JSON: views, Tables: [][][]string{rows}})
		},
	}
	c.placeFlags(cmd, &app, &environment)
	cli.FormatFlag(cmd, &output)
	return cmd
}

func (c *program) healthcheck() *cobra.Command {
	return &cobra.Command{
		Use: "healthcheck", Short: "Ask the running daemon whether it is alive", Args: cobra.NoArgs,
		Example: "  rack-gatewayd healthcheck",
		Long:    "Ask /healthz of RGW_LISTEN on this machine; for containers without a shell.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var f faults
			host, port, err := net.SplitHostPort(readVariables(c.env, &f).Listen)
			if err != nil {
				return fmt.Errorf("RGW_LISTEN: must be host:port")
			}
			if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
				host = "localhost"
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), 5*time.Second)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/healthz", nil)
			if err != nil {
				return err
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return fmt.Errorf("the daemon does not answer: %w", err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				return fmt.Errorf("the daemon answers %s", resp.Status)
			}
			return nil
		},
	}
}

func (c *program) check() *cobra.Command {
	return &cobra.Command{
		Use: "check", Short: "Check configuration, Slack, CircleCI, clock and database", Args: cobra.NoArgs,
		Example: "  rack-gatewayd check",
		Long:    "Check what a deploy will need, one line each; exit 1 on a fault.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := serveConfig(c.env)
			if err != nil {
				return err
			}
			r := report{c: c}
			r.line("configuration", nil, fmt.Sprintf("%d app(s)", len(cfg.settings.Apps())))
			r.database(cmd.Context(), cfg)
			r.slack(cmd.Context(), cfg)
			r.circleCI(cmd.Context(), cfg)
			if r.bad {
				return &cli.Exit{Code: cli.ExitFault}
			}
			return nil
		},
	}
}

// report prints one line per finding.
type report struct {
	c   *program
	bad bool
}

func (r *report) line(subject string, fault error, note string) {
	word := "ok"
	if fault != nil {
		word, note, r.bad = "FAULT", fault.Error(), true
	}
	fmt.Fprintln(r.c.Out, strings.TrimSpace(fmt.Sprintf("%-5s %s: %s", word, cli.Clean(subject), cli.Clean(note))))
}

func (r *report) database(ctx context.Context, cfg config) {
	db, err := cfg.openExisting(ctx)
	if err != nil {
		r.line("database", err, "")
		return
	}
	defer db.Close()
	err = db.CanWrite(ctx)
	r.line("database", err, db.Path())
	signer, err := approvals.OpenLog(ctx, db)
	if err != nil {
		r.line("log", err, "")
		return
	}
	fault, err := approvals.LogFault(ctx, db)
	if err == nil && fault == "" {
		fault, err = checkAnchor(ctx, cfg.AnchorFile, db, signer)
	}
	if err == nil && fault != "" {
		err = errors.New(fault)
	}
	note := "anchored in RGW_ANCHOR_FILE"
	if cfg.AnchorFile == "" {
		note = "RGW_ANCHOR_FILE is not set: a restored old database would not be noticed"
	}
	r.line("log", err, note)
}

func (r *report) slack(ctx context.Context, cfg config) {
	ws := bot.Open(bot.Settings{
		BotToken: cfg.SlackBotToken.reveal(), AppToken: cfg.SlackAppToken.reveal(),
		SigningSecret: cfg.SlackSigning.reveal(), APIURL: cfg.SlackAPIURL,
	})
	for _, f := range ws.Check(ctx, cfg.settings.Channels()...) {
		var fault error
		if !f.OK() {
			fault = fmt.Errorf("%s", f.Fault)
		}
		r.line(f.Subject, fault, f.Note)
	}
}

func (r *report) circleCI(ctx context.Context, cfg config) {
	var server, local time.Time
	client, err := circleci.New(circleci.Config{
		URL: cfg.CircleURL, AppURL: cfg.CircleAppURL, Token: cfg.CircleToken.reveal(), UserAgent: "rack-gatewayd/" + cli.Version(),
		OnDate: func(s, l time.Time) { server, local = s, l },
	})
	if err != nil {
		r.line("circleci", err, "")
		return
	}
	me, err := client.Me(ctx)
	r.line("circleci token", err, "user "+me.Login)
	if err != nil {
		return
	}
	for _, slug := range cfg.settings.Projects() {
		_, err := client.ProjectID(ctx, slug)
		r.line("circleci project "+slug, err, "visible to the token")
	}
	skew := local.Sub(server)
	var fault error
	if skew > skewWarn || skew < -skewWarn {
		fault = fmt.Errorf("differs from CircleCI's by %s: check NTP", skew.Round(time.Second))
	}
	r.line("clock", fault, "agrees with CircleCI's")
}
