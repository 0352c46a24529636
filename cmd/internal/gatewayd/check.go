package gatewayd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
	"github.com/rack-gateway/rack-gateway-approvals/circleci"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/github"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/identity"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli"
	"github.com/rack-gateway/rack-gateway-approvals/store"
)

func (c *program) check() *cobra.Command {
	var output cli.Format
	cmd := &cobra.Command{
		Use: "check", Short: "Check configuration, Slack, CircleCI, clock, database and people", Args: cobra.NoArgs,
		Example: `  rack-gatewayd check
  rack-gatewayd check -o json`,
		Long: `Check what a deploy will need, one line each: ok, warn or FAULT with what to
do, or skip for what could not be looked at. Nothing is changed, and nothing is
posted. If a daemon runs on this machine, it is asked what only it can know, such as
that a proxy stands in front of it.

Exit 0: no fault, warnings or not. Exit 1: a fault.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			k := checker{}
			cfg, err := serveConfig(c.env)
			var bad *configError
			switch {
			case err == nil:
				k.cfg = cfg
				k.run(cmd.Context())
			case output == cli.JSON && errors.As(err, &bad):
				for _, fault := range bad.faults {
					k.fault("configuration", fault, "")
				}
			default:
				return err
			}
			if err := c.Show(output, cli.Result{JSON: k.board, Text: k.board.text()}); err != nil {
				return err
			}
			if k.broken() {
				return &cli.Exit{Code: cli.ExitFault}
			}
			return nil
		},
	}
	cli.FormatFlag(cmd, &output)
	return cmd
}

// checker makes a status board of what a deploy will need.
type checker struct {
	cfg config
	board

	skew   time.Duration // by how much the clock of the database is ahead of this machine's
	stored bool          // the database could be read, so that these are known
	team   string
	people []approvals.Person // the admins
	tokens []approvals.Token
}

func (k *checker) run(ctx context.Context) {
	k.ok("configuration", "apps: "+strings.Join(k.cfg.settings.Apps(), ", "))
	k.database(ctx)
	k.appTokens()
	if ws := k.slack(ctx); ws != nil {
		k.directory(ctx, ws)
	}
	k.circleCI(ctx)
	k.issuer(ctx)
	k.gitHub(ctx)
	k.daemon(ctx)
}

func (k *checker) database(ctx context.Context) {
	db, err := k.cfg.openExisting(ctx)
	if errors.Is(err, store.ErrMissingKey) || errors.Is(err, store.ErrWrongKey) {
		k.fault("database", err.Error(), "put the old key back into RGW_SECRET_KEYS, behind the new one")
		return
	}
	if err != nil {
		k.fault("database", err.Error(), "")
		return
	}
	defer db.Close()
	where, err := db.Describe(ctx)
	k.judge("database", errors.Join(err, db.CanWrite(ctx)), "", where)
	k.skew = db.Skew()
	k.log(ctx, db)
	k.team, err = approvals.Workspace(ctx, db)
	if err == nil {
		k.people, k.tokens, err = approvals.Admin{Store: db}.Access(ctx)
	}
	if err != nil {
		k.fault("people and tokens", err.Error(), "")
		return
	}
	k.people = slices.DeleteFunc(k.people, func(p approvals.Person) bool { return !p.RemovedAt.IsZero() })
	k.stored = true
}

func (k *checker) log(ctx context.Context, db *store.DB) {
	switch fault, err := logFault(ctx, k.cfg.AnchorFile, db); {
	case err != nil:
		k.fault("log", err.Error(), "")
	case fault != "":
		k.fault("log", fault, "see Restore in cmd/rack-gatewayd/README.md")
	case k.cfg.AnchorFile == "":
		k.warn("log", "RGW_ANCHOR_FILE is not set, so nobody would notice an old copy of the database", "set it to a file on another volume")
	case missing(k.cfg.AnchorFile):
		k.warn("log", "the file of RGW_ANCHOR_FILE does not exist, so nobody would notice an old copy of the database", "the first start makes it; if there was one before, check that its volume is mounted")
	default:
		k.ok("log", "anchored in RGW_ANCHOR_FILE")
	}
}

// appTokens looks for apps whose CI jobs have nothing to call the gateway with.
func (k *checker) appTokens() {
	if !k.stored {
		return
	}
	for _, app := range k.cfg.settings.Apps() {
		if !slices.ContainsFunc(k.cfg.settings.Policies(), func(p approvals.Policy) bool { return p.App == app && p.Credential != approvals.CredentialOIDC }) {
			continue
		}
		i := slices.IndexFunc(k.tokens, func(t approvals.Token) bool {
			return t.Role == approvals.RoleCICD && t.Covers(app) && t.Usable(time.Now())
		})
		if i >= 0 {
			k.ok("token for "+app, "its CI jobs can use "+k.tokens[i].Name)
		} else {
			k.warn("token for "+app, "there is no valid API token for this app, so its CI jobs cannot ask for an approval",
				fmt.Sprintf("run rack-gatewayd token create --name ci-%s --role cicd --app %s", app, app))
		}
	}
}

// slack looks at the workspace; nil = it cannot be asked anything more.
func (k *checker) slack(ctx context.Context) *bot.Workspace {
	ws := bot.Open(bot.Settings{
		BotToken: k.cfg.SlackBotToken.reveal(), AppToken: k.cfg.SlackAppToken.reveal(),
		SigningSecret: k.cfg.SlackSigning.reveal(), APIURL: k.cfg.SlackAPIURL,
	})
	for _, f := range ws.Check(ctx, k.cfg.settings.Channels()...) {
		switch {
		case !f.OK():
			k.fault(f.Subject, f.Fault, "")
		case f.Skipped:
			k.skip(f.Subject, f.Note)
		default:
			k.ok(f.Subject, f.Note)
		}
	}
	switch id := ws.Identity(); {
	case id.Team == "":
		return nil
	case k.team != "" && k.team != id.Team:
		k.fault("slack workspace", fmt.Sprintf("the database belongs to the workspace %s, and SLACK_BOT_TOKEN is of %s (%s)", k.team, id.Team, id.Name),
			"set the bot token of the first one, or begin another database with RGW_DATABASE_URL")
		return nil // its people are not ours
	}
	return ws
}

func (k *checker) circleCI(ctx context.Context) {
	var server, local time.Time
	circle := k.cfg.circle()
	circle.OnDate = func(s, l time.Time) { server, local = s, l }
	client, err := circleci.New(circle)
	if err != nil {
		k.fault("circleci token", err.Error(), "")
		return
	}
	me, err := client.Me(ctx)
	var refused *approvals.CIError
	do := ""
	if errors.As(err, &refused) && refused.Status == http.StatusUnauthorized {
		do = "CIRCLECI_TOKEN must be a personal API token of the machine user (User Settings → Personal API Tokens) that was not revoked; a project's token cannot approve"
	}
	k.judge("circleci token", err, do, "user "+me.Login)
	if err != nil {
		return
	}
	for _, slug := range k.cfg.settings.Projects() {
		id, err := client.ProjectID(ctx, slug)
		if err != nil {
			k.fault("circleci project "+slug, err.Error(), "correct vcs_repo or circleci_project_slug of the app, or give the machine user access to the project")
			continue
		}
		k.ok("circleci project "+slug, "visible to the token")
		k.projectIDs(slug, id)
		k.gates(ctx, client, slug)
	}
	k.clock(server, local)
}

// clock judges the clock that codes and windows go by, which is that of the database's
// server if it has one, and then this machine's.
func (k *checker) clock(server, local time.Time) {
	skew, away := difference(server, local.Add(k.skew)), apart(k.skew, skewWarn)
	switch {
	case skew.Abs() > skewWarn && k.skew != 0:
		k.fault("clock", fmt.Sprintf("that of the database server differs from CircleCI's by %s", cli.Duration(skew.Round(time.Second))), "check NTP there")
	case skew.Abs() > skewWarn:
		k.fault("clock", fmt.Sprintf("differs from CircleCI's by %s", cli.Duration(skew.Round(time.Second))), "check NTP")
	case away != "":
		k.fault("clock", away, "")
	default:
		k.ok("clock", "agrees with CircleCI's")
	}
}

// projectIDs compares the ids of a project in the settings with the one that CircleCI
// has for it. The OIDC tokens of its jobs are told by that.
func (k *checker) projectIDs(slug, id string) {
	for _, p := range k.cfg.settings.Policies() {
		if p.Project == slug && p.ProjectID != "" && !strings.EqualFold(p.ProjectID, id) {
			k.fault("project id of "+placeOf(p), fmt.Sprintf("CircleCI's id of %s is %s", slug, id), "correct "+p.Source["circleci_project_id"])
		}
	}
}

// issuer looks whether the keys of OIDC tokens can be found.
func (k *checker) issuer(ctx context.Context) {
	if k.cfg.OIDCIssuer == "" {
		return
	}
	err := identity.New(k.cfg.issuer()).Reach(ctx)
	k.judge("oidc issuer", err, "compare RGW_OIDC_ISSUER with the organisation's id in Organization Settings > Overview", "answers; tokens need the audience "+k.cfg.audience)
}

// gitHub looks whether the token, if there is one, may read the apps' repositories.
func (k *checker) gitHub(ctx context.Context) {
	if k.cfg.GitHubToken.reveal() == "" {
		return
	}
	client, err := github.New(k.cfg.gitHub())
	if err != nil {
		k.fault("github", err.Error(), "")
		return
	}
	var seen []string
	for _, p := range k.cfg.settings.Policies() {
		if p.VCSProvider != "github" || slices.Contains(seen, p.VCSRepo) {
			continue
		}
		seen = append(seen, p.VCSRepo)
		k.judge("github repository "+p.VCSRepo, client.Readable(ctx, p.VCSRepo),
			"GITHUB_TOKEN needs read access to the contents and pull requests of this repository", "readable by the token")
	}
}

// gates looks whether the newest pipelines of a project have the approval jobs that
// the settings name.
func (k *checker) gates(ctx context.Context, client *circleci.Client, slug string) {
	wanted := slices.DeleteFunc(k.cfg.settings.Policies(), func(p approvals.Policy) bool { return p.Project != slug })
	pipelines, err := client.Recent(ctx, slug)
	if err != nil {
		k.warn("gates of "+slug, "could not be looked at: "+err.Error(), "")
		return
	}
	var seen []string // names of approval jobs
	missing := wanted
	for _, pipeline := range pipelines {
		if len(missing) == 0 {
			break
		}
		jobs, err := jobsOf(ctx, client, pipeline.ID)
		if err != nil {
			k.warn("gates of "+slug, "could not be looked at: "+err.Error(), "")
			return
		}
		for _, j := range jobs {
			if j.IsGate() {
				seen = append(seen, j.Name)
			}
		}
		missing = slices.DeleteFunc(slices.Clone(wanted), func(p approvals.Policy) bool { return slices.Contains(seen, p.Gate) })
	}
	slices.Sort(seen)
	seen = slices.Compact(seen)
	for _, p := range wanted {
		if slices.Contains(seen, p.Gate) {
			k.ok("gate of "+placeOf(p), "a recent pipeline has the approval job "+p.Gate)
			continue
		}
		text := fmt.Sprintf("no recent pipeline of %s (%d were looked at) has an approval job %q", slug, len(pipelines), p.Gate)
		do := "correct " + p.Source["circleci_approval_job_name"]
		switch {
		case len(pipelines) == 0:
			text, do = slug+" has no pipeline yet, so the name of the approval job could not be checked", "run one, then check again"
		case len(seen) > 0:
			text += "; they have " + strings.Join(seen, ", ")
			do += cli.DidYouMean(p.Gate, seen)
		default:
			do += ", or add a job with type: approval to .circleci/config.yml"
		}
		k.warn("gate of "+placeOf(p), text, do)
	}
}

func jobsOf(ctx context.Context, client *circleci.Client, pipelineID string) (all []approvals.Job, err error) {
	workflows, err := client.Workflows(ctx, pipelineID)
	for _, w := range workflows {
		jobs, err := client.Jobs(ctx, w.ID)
		if err != nil {
			return nil, err
		}
		all = append(all, jobs...)
	}
	return all, err
}

// placeOf names an app, and its environment where that is not the default one.
func placeOf(p approvals.Policy) string {
	if p.Environment == approvals.DefaultEnvironment {
		return p.App
	}
	return p.App + " in " + p.Environment
}

// daemon asks the daemon on this machine for its own board. The listener for health
// tells more than the first one.
func (k *checker) daemon(ctx context.Context) {
	address := k.cfg.Listen
	if k.cfg.MetricsListen != "" {
		address = k.cfg.MetricsListen
	}
	var ready webhook.Readiness
	answer, err := askDaemon(ctx, address, "/readyz")
	if err == nil {
		defer answer.Body.Close()
		err = json.NewDecoder(io.LimitReader(answer.Body, 1<<20)).Decode(&ready)
	}
	switch {
	case answer == nil:
		k.skip("daemon", "no daemon answers at "+address+", so what only a running daemon knows was not checked")
	case err != nil || len(ready.Parts) == 0:
		k.warn("daemon", "something other than the gateway answers at "+address, "stop it, or choose another RGW_LISTEN")
	default:
		k.board = append(k.board, remote(address, ready)...)
	}
}

// askDaemon calls a listener of a daemon on this machine.
func askDaemon(ctx context.Context, listen, path string) (*http.Response, error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return nil, err
	}
	// Addresses, because a container may have no /etc/hosts.
	switch host {
	case "", "0.0.0.0":
		host = "127.0.0.1"
	case "::":
		host = "::1"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+path, nil)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true}}
	return client.Do(req)
}
