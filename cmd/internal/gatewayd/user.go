package gatewayd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/boombuler/barcode/qr"
	"github.com/spf13/cobra"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/totp"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli"
)

// issuer is what authenticator apps show.
const issuer = "Rack Gateway"

func (c *program) userCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "user", Short: "Manage the admins and their authenticators",
		Example: `  rack-gatewayd user add --slack-id U012ABCDEF --name Ana --vcs-login ana
  rack-gatewayd user list`,
	}
	cmd.AddCommand(c.userAdd(), c.userEnroll(), c.userList(),
		c.userAct("remove", "End somebody's rights at once and destroy the authenticator", "%s is not an admin any more.", approvals.Admin.RemovePerson),
		c.userAct("unlock", "End the pause after too many wrong codes", "%s may try again.", approvals.Admin.Unlock),
		c.userAct("reset", "Destroy somebody's authenticator", "The authenticator of %s is gone: run user enroll for a new one.", approvals.Admin.Reset),
	)
	return cmd
}

func slackIDFlag(cmd *cobra.Command, id *string) {
	cmd.Flags().StringVar(id, "slack-id", "", "member id in Slack (U…): profile → … → Copy member ID")
	cli.Required(cmd, "slack-id")
}

func (c *program) userAdd() *cobra.Command {
	var id, name, login string
	cmd := &cobra.Command{
		Use: "add --slack-id U… [--name NAME] [--vcs-login LOGIN]", Short: "Make somebody an admin, or change name and login of one", Args: cobra.NoArgs,
		Example: "  rack-gatewayd user add --slack-id U012ABCDEF --name Ana --vcs-login ana",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := approvals.CheckPerson(id, name, login); err != nil {
				return err // before a database is made
			}
			return c.withNew(cmd.Context(), func(a approvals.Admin) error {
				p, err := a.AddPerson(cmd.Context(), id, name, login)
				if err != nil {
					return err
				}
				c.Say("%s is an admin.", nameOf(p))
				if p.VCSLogin == "" {
					c.Say("Without --vcs-login they can reject but not approve, because nobody could tell whether a deploy is their own.")
				}
				if !p.Enrolled {
					c.Say("Next: rack-gatewayd user enroll --slack-id %s", p.SlackID)
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "name for lists and the log")
	cmd.Flags().StringVar(&login, "vcs-login", "", "GitHub or Bitbucket user name, to tell the starter of a pipeline")
	slackIDFlag(cmd, &id)
	return cmd
}

// nameOf is how people are called in what is printed: by name, with the id behind it.
func nameOf(p approvals.Person) string {
	if p.Name == "" {
		return p.SlackID
	}
	return p.Name + " (" + p.SlackID + ")"
}

func (c *program) userAct(verb, short, done string, act func(approvals.Admin, context.Context, string) error) *cobra.Command {
	var id string
	cmd := &cobra.Command{
		Use: verb + " --slack-id U…", Short: short, Args: cobra.NoArgs,
		Example: "  rack-gatewayd user " + verb + " --slack-id U012ABCDEF",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withAdmin(cmd.Context(), func(a approvals.Admin) error {
				err := act(a, cmd.Context(), id)
				if err == nil {
					c.Say(done, id)
				}
				return err
			})
		},
	}
	slackIDFlag(cmd, &id)
	return cmd
}

func (c *program) userEnroll() *cobra.Command {
	var id string
	var terminal, fromStdin bool
	cmd := &cobra.Command{
		Use: "enroll --slack-id U… [--terminal | --secret-stdin]", Short: "Give an admin an authenticator, in place of any other", Args: cobra.NoArgs,
		Example: `  rack-gatewayd user enroll --slack-id U012ABCDEF
  rack-gatewayd user enroll --slack-id U012ABCDEF --terminal`,
		Long: `Print a one-time link, alone on stdout, with which the admin sets the
authenticator up in a browser within 10 minutes. Hand it over by a way that is not
Slack: code and click must not share one channel.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if terminal && fromStdin {
				return cli.Usage("choose one of --terminal and --secret-stdin")
			}
			return c.withAdmin(cmd.Context(), func(a approvals.Admin) error {
				p, err := a.CheckActive(cmd.Context(), id)
				if err != nil {
					return err
				}
				switch {
				case fromStdin:
					return c.importSecret(cmd.Context(), a, id)
				case terminal:
					return c.enrollHere(cmd.Context(), a, p)
				}
				return c.enrollByLink(cmd.Context(), a, id)
			})
		},
	}
	cmd.Flags().BoolVar(&terminal, "terminal", false, "show a QR code on this terminal and ask for a code")
	cmd.Flags().BoolVar(&fromStdin, "secret-stdin", false, "read a base32 secret from stdin")
	slackIDFlag(cmd, &id)
	return cmd
}

// enrollByLink prints a link to the enrolment page.
func (c *program) enrollByLink(ctx context.Context, a approvals.Admin, id string) error {
	var f faults
	cfg := config{variables: readVariables(c.env, &f)}
	cfg.checkListen(&f)
	if err := onlyAbout(f, "RGW_LISTEN", "RGW_PUBLIC_URL").err(); err != nil {
		return err
	}
	token, expires, err := a.EnrolLink(ctx, id)
	if err != nil {
		return err
	}
	if cfg.PublicURL == "" && !cfg.loopback() {
		c.Say("RGW_PUBLIC_URL is not set, so the link may not work on other machines. Set it to the address at which they reach the gateway.")
	}
	c.Say("The link works once, until %s. Do not send it through Slack.", expires.Local().Format("15:04 MST"))
	return c.Println(cfg.publicURL + "/enroll/" + token)
}

// maxSecretLine is far more than any base32 secret.
const maxSecretLine = 4 << 10

func (c *program) importSecret(ctx context.Context, a approvals.Admin, id string) error {
	text, err := io.ReadAll(io.LimitReader(c.In, maxSecretLine))
	if err != nil {
		return fmt.Errorf("read the secret: %w", err)
	}
	secret, err := totp.ParseSecret(strings.TrimSpace(string(text)))
	if err != nil {
		return fmt.Errorf("read the secret: %w", err)
	}
	if err := a.Enrol(ctx, id, secret, "", approvals.EnrolledByImport); err != nil {
		return err
	}
	c.Say("%s has an authenticator.", id)
	return nil
}

// enrollHere shows a new secret on the operator's terminal. It must be one: a
// secret does not belong into a pipe or a file.
func (c *program) enrollHere(ctx context.Context, a approvals.Admin, p approvals.Person) error {
	if !cli.IsTerminal(c.Out) || !cli.IsTerminal(c.In) {
		return cli.Usage("--terminal needs a terminal")
	}
	secret := totp.NewSecret()
	name := p.Name
	if name == "" {
		name = p.SlackID
	}
	picture, err := qrText(secret.URL(issuer, name))
	if err != nil {
		return err
	}
	fmt.Fprintf(c.Out, "%s\nKey, if it cannot be scanned: %s\n\n", picture, secret.Base32())
	in := bufio.NewReader(io.LimitReader(c.In, maxSecretLine))
	for range 3 {
		fmt.Fprint(c.Out, "Code that the app shows now: ")
		line, err := in.ReadString('\n')
		if err != nil && line == "" {
			return errors.New("no code was typed; nothing was changed")
		}
		if err = a.Enrol(ctx, p.SlackID, secret, line, approvals.EnrolledByTerminal); err == nil {
			c.Say("%s has an authenticator. Clear this screen.", p.SlackID)
			return nil
		}
		var why *approvals.Error
		if !errors.As(err, &why) || why.Code != approvals.CodeInvalid {
			return err
		}
		c.Say("%s", why.Message)
	}
	return errors.New("three codes were wrong; nothing was changed")
}

// qrText draws a QR code with half blocks, dark on light whatever the
// terminal's colours are.
func qrText(content string) (string, error) {
	code, err := qr.Encode(content, qr.M, qr.Auto)
	if err != nil {
		return "", fmt.Errorf("draw QR code: %w", err)
	}
	const quiet = 2
	size := code.Bounds().Dx()
	dark := func(x, y int) bool {
		if x < 0 || y < 0 || x >= size || y >= size {
			return false
		}
		r, _, _, _ := code.At(x, y).RGBA()
		return r == 0
	}
	var b strings.Builder
	for y := -quiet; y < size+quiet; y += 2 {
		b.WriteString("\x1b[30;107m")
		for x := -quiet; x < size+quiet; x++ {
			switch top, bottom := dark(x, y), dark(x, y+1); {
			case top && bottom:
				b.WriteRune('█')
			case top:
				b.WriteRune('▀')
			case bottom:
				b.WriteRune('▄')
			default:
				b.WriteRune(' ')
			}
		}
		b.WriteString("\x1b[0m\n")
	}
	return b.String(), nil
}

func (c *program) userList() *cobra.Command {
	var output cli.Format
	cmd := &cobra.Command{
		Use: "list", Short: "List the admins", Args: cobra.NoArgs,
		Example: `  rack-gatewayd user list
  rack-gatewayd user list -o json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withAdmin(cmd.Context(), func(a approvals.Admin) error {
				people, _, err := a.Access(cmd.Context())
				if err != nil {
					return err
				}
				views := []personView{}
				for _, p := range people {
					if p.RemovedAt.IsZero() {
						views = append(views, personView{p.SlackID, p.Name, p.VCSLogin, p.Enrolled, p.AddedAt, optional(p.Standing.CheckedAt), p.Standing.Problem})
					}
				}
				rows := [][]string{{"SLACK ID", "NAME", "VCS LOGIN", "AUTHENTICATOR", "ADDED", "CONFIRMED BY SLACK", "PROBLEM"}}
				for _, v := range views {
					rows = append(rows, []string{v.SlackID, v.Name, v.VCSLogin, map[bool]string{true: "yes", false: "no"}[v.Enrolled], day(v.AddedAt), minute(v.CheckedAt), v.Problem})
				}
				return c.Show(output, cli.Result{JSON: views, Tables: [][][]string{rows}})
			})
		},
	}
	cli.FormatFlag(cmd, &output)
	return cmd
}

type personView struct {
	SlackID   string     `json:"slack_id"`
	Name      string     `json:"name"`
	VCSLogin  string     `json:"vcs_login"`
	Enrolled  bool       `json:"enrolled"`
	AddedAt   time.Time  `json:"added_at"`
	CheckedAt *time.Time `json:"checked_at"`
	Problem   string     `json:"problem"`
}
