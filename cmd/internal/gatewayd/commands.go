package gatewayd

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/slackmanifest"
	"github.com/rack-gateway/rack-gateway-approvals/store"
)

func (c *program) keygen() *cobra.Command {
	var id string
	cmd := &cobra.Command{
		Use: "keygen", Short: "Print a new key for RGW_SECRET_KEYS", Args: cobra.NoArgs,
		Example: "  rack-gatewayd keygen > rgw-secret-keys",
		Long: `Print a new key for RGW_SECRET_KEYS, alone on stdout. The help of keys rotate
says how a new key takes the place of an old one.`,
		RunE: func(*cobra.Command, []string) error {
			if id == "" {
				id = "k" + time.Now().UTC().Format("20060102150405") // two keys of one day are in one ring
			}
			key, err := store.NewKey(id)
			if err != nil {
				return cli.Usage("--kid: %w", err)
			}
			return c.Println(key)
		},
	}
	cmd.Flags().StringVar(&id, "kid", "", "id of the new key (default: k followed by the time)")
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
			text := slackmanifest.Socket()
			if base != "" {
				var err error
				if text, err = slackmanifest.HTTP(base); err != nil {
					return cli.Usage("--http: %w", err)
				}
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
			p, err := lookup(known, app, environment)
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
				value := p.Value(key)
				views = append(views, view{key, value, from})
				rows = append(rows, []string{key, inWords(key, value), from})
			}
			return c.Show(output, cli.Result{JSON: views, Tables: [][][]string{rows}})
		},
	}
	c.placeFlags(cmd, &app, &environment)
	cli.FormatFlag(cmd, &output)
	return cmd
}

// inWords is the value of a setting for people: what it means when it is not set.
func inWords(key, value string) string {
	unset := map[string]string{
		"approvers": "every admin", "notify": "nobody", "allowed_branches": "all", "freeze": "none", "remind_after": "none",
		"break_glass": "nobody", "allowed_triggers": "all", "circleci_deploy_jobs": "all behind the gate",
	}
	if value == "" || value == "0s" {
		return unset[key]
	}
	return value
}

// lookup finds a policy, or says which name was probably meant.
func lookup(known approvals.Settings, app, environment string) (approvals.Policy, error) {
	p, err := known.Lookup(app, environment)
	var why *approvals.Error
	if !errors.As(err, &why) {
		return p, err
	}
	word, among := app, known.Apps()
	if why.Code == approvals.CodeEnvironmentUnknown {
		word, among = environment, known.Environments(app)
	}
	return p, fmt.Errorf("%s%s", why.Message, cli.DidYouMean(word, among))
}

func (c *program) healthcheck() *cobra.Command {
	return &cobra.Command{
		Use: "healthcheck", Short: "Ask the running daemon whether it is alive", Args: cobra.NoArgs,
		Example: "  rack-gatewayd healthcheck",
		Long:    "Ask /healthz of RGW_LISTEN on this machine; for containers without a shell.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var f faults
			resp, err := askDaemon(cmd.Context(), readVariables(c.env, &f).Listen, "/healthz")
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
