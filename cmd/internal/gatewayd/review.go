package gatewayd

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/audit"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/audit/sheet"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli"
	"github.com/rack-gateway/rack-gateway-approvals/store"
)

func (c *program) accessReview() *cobra.Command {
	var output cli.Format
	cmd := &cobra.Command{
		Use: "access-review", Short: "List who and what has access: admins, authenticators, tokens, removed people", Args: cobra.NoArgs,
		Example: `  rack-gatewayd access-review
  rack-gatewayd access-review -o csv > access.csv`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withStore(cmd.Context(), func(db *store.DB) error {
				r, err := audit.ReviewAccess(cmd.Context(), db)
				if err != nil {
					return err
				}
				return c.Show(output, reviewResult(r))
			})
		},
	}
	cli.FormatFlag(cmd, &output, cli.CSV)
	return cmd
}

// reviewView is an access review as JSON.
type reviewView struct {
	At      time.Time        `json:"at"`
	Admins  []reviewedPerson `json:"admins"`
	Removed []reviewedPerson `json:"removed"`
	Tokens  []tokenView      `json:"tokens"`
}

type reviewedPerson struct {
	personView
	RemovedAt     *time.Time         `json:"removed_at"`
	Authenticator *authenticatorView `json:"authenticator"`
}

type authenticatorView struct {
	State       string     `json:"state"`
	EnrolledAt  *time.Time `json:"enrolled_at"`
	EnrolledBy  string     `json:"enrolled_by"`
	FirstUsedAt *time.Time `json:"first_used_at"`
}

func viewReviewed(p audit.ReviewedPerson, now time.Time) reviewedPerson {
	v := reviewedPerson{
		personView: personView{p.SlackID, p.Name, p.VCSLogin, p.Enrolled, p.AddedAt, optional(p.Standing.CheckedAt), p.Standing.Problem},
		RemovedAt:  optional(p.RemovedAt),
	}
	if a := p.Authenticator; a != nil {
		v.Authenticator = &authenticatorView{"active", optional(a.EnrolledAt), a.EnrolledBy, optional(a.FirstUsed)}
		switch {
		case a.Unreadable:
			v.Authenticator.State = "unreadable"
		case a.Disabled:
			v.Authenticator.State = "disabled"
		case now.Before(a.WaitUntil):
			v.Authenticator.State = "paused"
		}
	}
	return v
}

func reviewResult(r audit.Review) cli.Result {
	v := reviewView{At: r.At, Admins: []reviewedPerson{}, Removed: []reviewedPerson{}, Tokens: []tokenView{}}
	admins := [][]string{{"ADMIN", "NAME", "VCS LOGIN", "ADDED", "AUTHENTICATOR", "ENROLLED", "BY", "FIRST USED", "PROBLEM"}}
	removed := [][]string{{"REMOVED", "NAME", "VCS LOGIN", "ADDED", "REMOVED ON"}}
	tokens := [][]string{{"TOKEN", "NAME", "ROLE", "APPS", "STATE", "CREATED", "EXPIRES", "LAST USED", "REVOKED"}}
	sheet := [][]string{{
		"kind", "id", "name", "vcs_login", "role", "apps", "state", "added_at_utc", "authenticator", "enrolled_at_utc", "enrolled_by", "first_used_at_utc",
		"expires_at_utc", "last_used_at_utc", "ended_at_utc", "problem",
	}}
	person := func(kind string, p reviewedPerson) {
		a := authenticatorView{State: "none"}
		if p.Authenticator != nil {
			a = *p.Authenticator
		}
		if kind == "admin" {
			admins = append(admins, []string{p.SlackID, p.Name, p.VCSLogin, day(p.AddedAt), a.State, minuteOr(a.EnrolledAt, ""), a.EnrolledBy, minuteOr(a.FirstUsedAt, "never"), p.Problem})
		} else {
			removed = append(removed, []string{p.SlackID, p.Name, p.VCSLogin, day(p.AddedAt), minuteOr(p.RemovedAt, "")})
		}
		sheet = append(sheet, []string{
			kind, p.SlackID, p.Name, p.VCSLogin, "approver", "", kind, full(&p.AddedAt), a.State, full(a.EnrolledAt), a.EnrolledBy, full(a.FirstUsedAt),
			"", "", full(p.RemovedAt), p.Problem,
		})
	}
	for _, p := range r.Admins {
		v.Admins = append(v.Admins, viewReviewed(p, r.At))
		person("admin", v.Admins[len(v.Admins)-1])
	}
	for _, p := range r.Removed {
		v.Removed = append(v.Removed, viewReviewed(p, r.At))
		person("removed", v.Removed[len(v.Removed)-1])
	}
	for _, t := range r.Tokens {
		tv := viewToken(t, r.At)
		v.Tokens = append(v.Tokens, tv)
		apps := strings.Join(tv.Apps, ",")
		tokens = append(tokens, []string{tv.ID, tv.Name, tv.Role, apps, tv.State, day(tv.CreatedAt), day(tv.ExpiresAt), minute(tv.LastUsedAt), minuteOr(tv.RevokedAt, "")})
		sheet = append(sheet, []string{
			"token", tv.ID, tv.Name, "", tv.Role, apps, tv.State, full(&tv.CreatedAt), "", "", "", "",
			full(&tv.ExpiresAt), full(tv.LastUsedAt), full(tv.RevokedAt), "",
		})
	}
	return cli.Result{JSON: v, Tables: [][][]string{admins, tokens, removed}, Sheet: sheet}
}

// minuteOr shows a time to the minute, or a word for none.
func minuteOr(t *time.Time, none string) string {
	if t == nil {
		return none
	}
	return minute(t)
}

// full shows a time for spreadsheets; nothing for none.
func full(t *time.Time) string {
	if t == nil {
		return ""
	}
	return sheet.Time(*t)
}
