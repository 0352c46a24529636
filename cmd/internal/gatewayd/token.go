package gatewayd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli"
	"github.com/rack-gateway/rack-gateway-approvals/store"
)

// withStore runs an operator's command on the database, beside a running daemon.
// There must be one: a command that reads, or changes what is there, would
// otherwise show an empty gateway after a slip in RGW_DATABASE_URL.
func (c *program) withStore(ctx context.Context, run func(db *store.DB) error) error {
	cfg, err := storeConfig(c.env)
	if err != nil {
		return err
	}
	db, err := cfg.openExisting(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	return run(db)
}

// openExisting opens the database, and makes none.
func (c *config) openExisting(ctx context.Context) (*store.DB, error) {
	if c.database != "" {
		if err := existing(c.database); err != nil {
			return nil, err
		}
	}
	s := c.store()
	s.Existing = true
	return store.Open(ctx, s)
}

// existing refuses a path at which there is no database yet.
func existing(path string) error {
	info, err := os.Stat(path)
	if err == nil && info.Mode().IsRegular() && info.Size() == 0 && missing(path+"-wal") {
		err = fs.ErrNotExist
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil // what else is wrong with it the opening says
	}
	if whole, err := filepath.Abs(path); err == nil {
		path = whole
	}
	return fmt.Errorf("there is no database at %s. RGW_DATABASE_URL says where it is (sqlite:PATH, from the working directory); "+
		"serve, user add and token create make a new one there, this command does not", path)
}

// withAdmin runs an operator's command on people or tokens that are there.
func (c *program) withAdmin(ctx context.Context, run func(a approvals.Admin) error) error {
	return c.withStore(ctx, func(db *store.DB) error { return run(approvals.Admin{Store: db, Operator: c.operator()}) })
}

// withNew is withAdmin for the commands that a new gateway begins with: they make
// the database if there is none.
func (c *program) withNew(ctx context.Context, run func(a approvals.Admin) error) error {
	cfg, err := storeConfig(c.env)
	if err != nil {
		return err
	}
	db, err := store.Open(ctx, cfg.store())
	if err != nil {
		return err
	}
	defer db.Close()
	return run(approvals.Admin{Store: db, Operator: c.operator()})
}

func (c *program) tokenCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "token", Short: "Manage the API tokens of CI jobs and auditors",
		Example: `  rack-gatewayd token create --name ci-myapp --role cicd --app myapp
  rack-gatewayd token list`,
	}
	cmd.AddCommand(c.tokenCreate(), c.tokenList(), c.tokenRotate(), c.tokenRevoke())
	return cmd
}

func (c *program) tokenCreate() *cobra.Command {
	var name, expires string
	var role approvals.Role
	var output cli.Format
	var apps []string
	var all bool
	cmd := &cobra.Command{
		Use: "create --name NAME --role cicd|auditor (--app APP… | --all-apps)", Short: "Make a token and print it once",
		Long: "Make a token and print it once, alone on stdout. Only a hash of it is kept.", Args: cobra.NoArgs,
		Example: `  rack-gatewayd token create --name ci-myapp --role cicd --app myapp
  rack-gatewayd token create --name auditors --role auditor --all-apps --expires 30d`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if all == (len(apps) > 0) {
				return cli.Usage("give either --app (once or more) or --all-apps")
			}
			life, err := approvals.ParseLife(expires)
			if err != nil {
				return cli.Usage("--expires %w", err)
			}
			if err := approvals.CheckToken(strings.TrimSpace(name), role, apps, life); err != nil {
				return err // before a database is made
			}
			return c.withNew(cmd.Context(), func(a approvals.Admin) error {
				text, t, err := a.CreateToken(cmd.Context(), name, role, apps, life)
				if err != nil {
					return err
				}
				return c.printToken(output, t, text)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&name, "name", "", "name that says what the token is for, such as ci-myapp")
	cli.Choice(cmd, &role, "role", "", "what the token may do", approvals.RoleCICD, approvals.RoleAuditor)
	f.StringArrayVarP(&apps, "app", "a", nil, "`APP` that the token is for; may be repeated")
	f.BoolVar(&all, "all-apps", false, "the token is for all apps")
	f.StringVar(&expires, "expires", "90d", "lifetime, such as 90d: a number with d, h, m or s")
	cli.Complete(cmd, "app", c.knownApps)
	cli.FormatFlag(cmd, &output)
	cli.Required(cmd, "name", "role")
	return cmd
}

// printToken prints the text of a new token, this once.
func (c *program) printToken(output cli.Format, t approvals.Token, text string) error {
	c.Say("Token %s (%s) expires on %s. It is shown this once.", t.ID, t.Name, day(t.ExpiresAt))
	return c.Show(output, cli.Result{Text: text + "\n", JSON: struct {
		tokenView
		Token string `json:"token"`
	}{viewToken(t, time.Now()), text}})
}

func (c *program) tokenList() *cobra.Command {
	var output cli.Format
	cmd := &cobra.Command{
		Use: "list", Short: "List all tokens", Args: cobra.NoArgs,
		Example: `  rack-gatewayd token list
  rack-gatewayd token list -o json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withAdmin(cmd.Context(), func(a approvals.Admin) error {
				_, tokens, err := a.Access(cmd.Context())
				if err != nil {
					return err
				}
				views := make([]tokenView, len(tokens))
				for i, t := range tokens {
					views[i] = viewToken(t, time.Now())
				}
				rows := [][]string{{"ID", "NAME", "ROLE", "APPS", "STATE", "EXPIRES", "LAST USED"}}
				for _, v := range views {
					rows = append(rows, []string{v.ID, v.Name, v.Role, strings.Join(v.Apps, ","), v.State, day(v.ExpiresAt), minute(v.LastUsedAt)})
				}
				return c.Show(output, cli.Result{JSON: views, Tables: [][][]string{rows}})
			})
		},
	}
	cli.FormatFlag(cmd, &output)
	return cmd
}

func (c *program) tokenRotate() *cobra.Command {
	var expires string
	var output cli.Format
	grace := cli.Duration(time.Hour)
	cmd := &cobra.Command{
		Use: "rotate ID|NAME", Short: "Replace a token, and print the new one once", Args: cobra.ExactArgs(1),
		Long: `Make a token with the name, role and apps of another one, and print it once, alone
on stdout. The old one stays valid for --grace, so that jobs under way can end
and the new one can be put where CI reads it.`,
		Example: `  rack-gatewayd token rotate ci-myapp
  rack-gatewayd token rotate ci-myapp --grace 24h --expires 30d`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var life time.Duration
			if expires != "" {
				var err error
				if life, err = approvals.ParseLife(expires); err != nil {
					return cli.Usage("--expires %w", err)
				}
			}
			return c.withAdmin(cmd.Context(), func(a approvals.Admin) error {
				text, t, old, err := a.RotateToken(cmd.Context(), args[0], life, time.Duration(grace))
				if err != nil {
					return err
				}
				until, verb := old.RevokedAt, "is valid until"
				if old.ExpiresAt.Before(until) {
					until = old.ExpiresAt
				}
				if !until.After(time.Now()) {
					verb = "ended on"
				}
				c.Say("The old token %s %s %s.", old.ID, verb, until.Local().Format("2006-01-02 15:04 MST"))
				return c.printToken(output, t, text)
			})
		},
	}
	cmd.Flags().Var(&grace, "grace", "how long the old token stays valid; 0 = it ends at once")
	cmd.Flags().StringVar(&expires, "expires", "", "lifetime of the new one, such as 90d (default: as long as the old one's)")
	cli.FormatFlag(cmd, &output)
	return cmd
}

func (c *program) tokenRevoke() *cobra.Command {
	return &cobra.Command{
		Use: "revoke ID|NAME", Short: "End a token at once", Args: cobra.ExactArgs(1),
		Example: "  rack-gatewayd token revoke ci-myapp",
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withAdmin(cmd.Context(), func(a approvals.Admin) error {
				t, err := a.RevokeToken(cmd.Context(), args[0])
				if err == nil {
					c.Say("Token %s (%s) is revoked.", t.ID, t.Name)
				}
				return err
			})
		},
	}
}

// tokenView is a token as it is shown: never its text or hash.
type tokenView struct {
	ID         string     `json:"id"`
	Name       string     `json:"name"`
	Role       string     `json:"role"`
	Apps       []string   `json:"apps"` // ["*"] = all
	State      string     `json:"state"`
	CreatedAt  time.Time  `json:"created_at"`
	ExpiresAt  time.Time  `json:"expires_at"`
	RevokedAt  *time.Time `json:"revoked_at"`
	LastUsedAt *time.Time `json:"last_used_at"`
}

func viewToken(t approvals.Token, now time.Time) tokenView {
	v := tokenView{
		ID: t.ID, Name: t.Name, Role: string(t.Role), Apps: t.Apps, State: "active",
		CreatedAt: t.CreatedAt, ExpiresAt: t.ExpiresAt, RevokedAt: optional(t.RevokedAt), LastUsedAt: optional(t.LastUsedAt),
	}
	if t.Apps == nil {
		v.Apps = []string{"*"}
	}
	switch {
	case !t.RevokedAt.IsZero() && t.Usable(now):
		v.State = "rotated" // and in force for a while
	case !t.RevokedAt.IsZero():
		v.State = "revoked"
	case !t.Usable(now):
		v.State = "expired"
	}
	return v
}

func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func day(t time.Time) string { return t.Format(time.DateOnly) }

func minute(t *time.Time) string {
	if t == nil {
		return "never"
	}
	return t.Format("2006-01-02 15:04")
}
