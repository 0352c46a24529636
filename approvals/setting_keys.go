package approvals

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// setting is one key: how a value gets into a policy and how it is shown.
type setting struct {
	key      string
	fallback string
	required bool
	set      func(*Policy, string) error
}

var settings = []setting{
	{key: "vcs_provider", fallback: "github", set: oneOf(func(p *Policy) *string { return &p.VCSProvider }, "github", "bitbucket")},
	{key: "vcs_repo", required: true, set: setRepo},
	{key: "ci_provider", fallback: "circleci", set: oneOf(func(p *Policy) *string { return &p.CIProvider }, "circleci")},
	{key: "circleci_approval_job_name", required: true, set: func(p *Policy, v string) error { p.Gate = v; return nil }},
	{key: "circleci_auto_approve_on_approval", fallback: "false", set: setBool(func(p *Policy) *bool { return &p.AutoApprove })},
	{key: "circleci_project_slug", set: setSlug},
	{key: "slack_channel", set: setChannel},
	{key: "approvers", set: setIDs(func(p *Policy) *[]string { return &p.Approvers })},
	{key: "notify", set: setIDs(func(p *Policy) *[]string { return &p.Notify })},
	{key: "required_approvals", fallback: "1", set: setRequired},
	{key: "allow_self_approval", fallback: "false", set: setBool(func(p *Policy) *bool { return &p.AllowSelf })},
	{key: "allowed_branches", set: setBranches},
	{key: "pending_ttl", fallback: "24h", set: setTTL},
	{key: "deploy_approval_window_minutes", fallback: "15", set: setWindow},
	{key: "mfa_on_reject", fallback: "false", set: setBool(func(p *Policy) *bool { return &p.MFAOnReject })},
	{key: "on_close", fallback: CloseCancelJob, set: oneOf(func(p *Policy) *string { return &p.OnClose }, CloseCancelJob, CloseCancelWorkflow, CloseNothing)},
	{key: "supersede", fallback: SupersedeBranch, set: oneOf(func(p *Policy) *string { return &p.Supersede }, SupersedeBranch, SupersedeEnvironment, SupersedeOff)},
}

// SettingKeys lists the keys in the order of the documentation.
func SettingKeys() []string {
	keys := make([]string, len(settings))
	for i, s := range settings {
		keys[i] = s.key
	}
	return keys
}

// Value renders the effective value of a key for people.
func (p Policy) Value(key string) string {
	switch key {
	case "vcs_provider":
		return p.VCSProvider
	case "vcs_repo":
		return p.VCSRepo
	case "ci_provider":
		return p.CIProvider
	case "circleci_approval_job_name":
		return p.Gate
	case "circleci_auto_approve_on_approval":
		return strconv.FormatBool(p.AutoApprove)
	case "circleci_project_slug":
		return p.Project
	case "slack_channel":
		return p.Channel
	case "approvers":
		return strings.Join(p.Approvers, ",")
	case "notify":
		return strings.Join(p.Notify, ",")
	case "required_approvals":
		return strconv.Itoa(p.Required)
	case "allow_self_approval":
		return strconv.FormatBool(p.AllowSelf)
	case "allowed_branches":
		return strings.Join(p.AllowedBranches, ",")
	case "pending_ttl":
		return p.PendingTTL.String()
	case "deploy_approval_window_minutes":
		return strconv.Itoa(int(p.Window / time.Minute))
	case "mfa_on_reject":
		return strconv.FormatBool(p.MFAOnReject)
	case "on_close":
		return p.OnClose
	case "supersede":
		return p.Supersede
	}
	return ""
}

func oneOf(field func(*Policy) *string, values ...string) func(*Policy, string) error {
	return func(p *Policy, v string) error {
		if !slices.Contains(values, v) {
			return fmt.Errorf("must be one of %s", strings.Join(values, ", "))
		}
		*field(p) = v
		return nil
	}
}

func setBool(field func(*Policy) *bool) func(*Policy, string) error {
	return func(p *Policy, v string) error {
		b, err := strconv.ParseBool(v)
		if err != nil {
			return fmt.Errorf("must be true or false")
		}
		*field(p) = b
		return nil
	}
}

var repoPattern = regexp.MustCompile(`^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$`)

func setRepo(p *Policy, v string) error {
	if !repoPattern.MatchString(v) || path.Clean(v) != v {
		return fmt.Errorf("must be org/repo")
	}
	p.VCSRepo = v
	return nil
}

var slugPattern = regexp.MustCompile(`^(gh|github|bb|bitbucket|circleci)/[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$`)

func setSlug(p *Policy, v string) error {
	if !slugPattern.MatchString(v) || path.Clean(v) != v {
		return fmt.Errorf("must be circleci/<org>/<project>, gh/<org>/<repo> or bb/<org>/<repo>")
	}
	vcs, rest, _ := strings.Cut(v, "/")
	switch vcs {
	case "github":
		vcs = "gh"
	case "bitbucket":
		vcs = "bb"
	}
	p.Project = vcs + "/" + rest
	return nil
}

var (
	channelPattern = regexp.MustCompile(`^[CGD][A-Z0-9]{2,}$`)
	peoplePattern  = regexp.MustCompile(`^[UWS][A-Z0-9]{2,}$`)
)

// ValidChannel reports whether id looks like a Slack channel id.
func ValidChannel(id string) bool { return channelPattern.MatchString(id) }

// IsGroup reports whether a Slack id is a user group's.
func IsGroup(id string) bool { return strings.HasPrefix(id, "S") }

func setChannel(p *Policy, v string) error {
	if !ValidChannel(v) {
		return fmt.Errorf("must be a Slack channel id (C…)")
	}
	p.Channel = v
	return nil
}

func setIDs(field func(*Policy) *[]string) func(*Policy, string) error {
	return func(p *Policy, v string) error {
		ids := splitList(v)
		for _, id := range ids {
			if !peoplePattern.MatchString(id) {
				return fmt.Errorf("must be a comma list of Slack user ids (U…, W…) and user group ids (S…)")
			}
		}
		*field(p) = ids
		return nil
	}
}

func splitList(v string) []string {
	var out []string
	for part := range strings.SplitSeq(v, ",") {
		if part = strings.TrimSpace(part); part != "" && !slices.Contains(out, part) {
			out = append(out, part)
		}
	}
	return out
}

func setRequired(p *Policy, v string) error {
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > 20 {
		return fmt.Errorf("must be a whole number from 1 to 20")
	}
	p.Required = n
	return nil
}

func setBranches(p *Policy, v string) error {
	globs := splitList(v)
	for _, g := range globs {
		if _, err := path.Match(strings.TrimPrefix(g, "tag:"), ""); err != nil {
			return fmt.Errorf("must be a comma list of globs such as main,release/*,tag:v*")
		}
	}
	p.AllowedBranches = globs
	return nil
}

func setTTL(p *Policy, v string) error {
	d, err := time.ParseDuration(v)
	if err != nil || d < time.Minute || d > 90*24*time.Hour {
		// A gate itself can wait 90 days in CircleCI.
		return fmt.Errorf("must be a duration from 1m to 2160h, such as 24h")
	}
	p.PendingTTL = d
	return nil
}

func setWindow(p *Policy, v string) error {
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > 24*60 {
		return fmt.Errorf("must be a whole number of minutes from 1 to 1440")
	}
	p.Window = time.Duration(n) * time.Minute
	return nil
}
