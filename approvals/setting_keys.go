package approvals

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/plain"
)

// setting is one row of the table of settings: a key, its default as it would be
// written in a variable, and the field of the policy that it fills.
type setting struct {
	key      string
	fallback string
	required bool
	field    field
}

// field is a field of a policy that can be set from a text and shown as one.
type field struct {
	set  func(*Policy, string) error
	show func(*Policy) string
}

// settings is the table of all keys, in the order of the documentation. Names of jobs are taken as they are: only
// CircleCI knows whether they are right.
var settings = []setting{
	{key: "vcs_provider", fallback: "github", field: in(func(p *Policy) *string { return &p.VCSProvider }, oneOf("github", "bitbucket"))},
	{key: "vcs_repo", required: true, field: in(func(p *Policy) *string { return &p.VCSRepo }, repoForm)},
	{key: "ci_provider", fallback: "circleci", field: in(func(p *Policy) *string { return &p.CIProvider }, oneOf("circleci"))},
	{key: "circleci_approval_job_name", required: true, field: in(func(p *Policy) *string { return &p.Gate }, CleanValue)},
	{key: "circleci_auto_approve_on_approval", fallback: "false", field: in(func(p *Policy) *bool { return &p.AutoApprove }, yesOrNo)},
	{key: "circleci_project_slug", field: in(func(p *Policy) *string { return &p.Project }, ParseSlug)},
	{key: "slack_channel", field: in(func(p *Policy) *string { return &p.Channel }, channelForm)},
	{key: "approvers", field: listIn(func(p *Policy) *[]string { return &p.Approvers }, peopleForm)},
	{key: "notify", field: listIn(func(p *Policy) *[]string { return &p.Notify }, peopleForm)},
	{key: "required_approvals", fallback: "1", field: in(func(p *Policy) *int { return &p.Required }, wholeNumber("number", 1, 20))},
	{key: "allow_self_approval", fallback: "false", field: in(func(p *Policy) *bool { return &p.AllowSelf }, yesOrNo)},
	{key: "allowed_branches", field: globsIn(func(p *Policy) *[]string { return &p.AllowedBranches })},
	{key: "pending_ttl", fallback: "24h", field: durationIn(func(p *Policy) *time.Duration { return &p.PendingTTL }, false, "must be a duration from 1s to 2160h, such as 24h")},
	{key: "deploy_approval_window_minutes", fallback: "15", field: minutesIn(func(p *Policy) *time.Duration { return &p.Window })},
	{key: "mfa_on_reject", fallback: "false", field: in(func(p *Policy) *bool { return &p.MFAOnReject }, yesOrNo)},
	{key: "on_close", fallback: string(CloseCancelJob), field: in(func(p *Policy) *OnClose { return &p.OnClose }, oneOf[OnClose](CloseCancelJob, CloseCancelWorkflow, CloseNothing))},
	{key: "supersede", fallback: string(SupersedeBranch), field: in(func(p *Policy) *Supersede { return &p.Supersede }, oneOf[Supersede](SupersedeBranch, SupersedeEnvironment, SupersedeOff))},
	{key: "freeze", field: in(func(p *Policy) *Freeze { return &p.Freeze }, ParseFreeze)},
	{key: "ci_identity", fallback: string(CredentialToken), field: in(func(p *Policy) *Credential { return &p.Credential }, oneOf[Credential](CredentialToken, CredentialOIDC, CredentialEither))},
	{key: "circleci_project_id", field: in(func(p *Policy) *string { return &p.ProjectID }, parseProjectID)},
	{key: "remind_after", fallback: "0s", field: durationIn(func(p *Policy) *time.Duration { return &p.RemindAfter }, true, "must be 0 for no reminder, or a duration from 1s to 2160h, such as 2h")},
	{key: "break_glass", field: listIn(func(p *Policy) *[]string { return &p.BreakGlass }, peopleForm)},
	{key: "allowed_triggers", field: listIn(func(p *Policy) *[]string { return &p.AllowedTriggers }, triggerForm)},
	{key: "unknown_starter", fallback: string(StarterNote), field: in(func(p *Policy) *UnknownStarter { return &p.UnknownStarter }, oneOf[UnknownStarter](StarterNote, StarterRefuse))},
	{key: "config_change_approvals", fallback: "0", field: in(func(p *Policy) *int { return &p.ConfigChange }, wholeNumber("number", 0, 20))},
	{key: "circleci_deploy_jobs", field: listIn(func(p *Policy) *[]string { return &p.DeployJobs }, CleanValue)},
}

// SettingKeys lists the keys in the order of the documentation.
func SettingKeys() (keys []string) {
	for _, s := range settings {
		keys = append(keys, s.key)
	}
	return keys
}

// settingOf finds the row of a key.
func settingOf(key string) (setting, bool) {
	i := slices.IndexFunc(settings, func(s setting) bool { return s.key == key })
	if i < 0 {
		return setting{}, false
	}
	return settings[i], true
}

// in is the field at a place in the policy. What parse says of a fault never
// repeats the text.
func in[T any](at func(*Policy) *T, parse func(text string) (T, error)) field {
	return field{
		set: func(p *Policy, text string) error {
			v, err := parse(text)
			if err == nil {
				*at(p) = v
			}
			return err
		},
		show: func(p *Policy) string { return fmt.Sprint(*at(p)) },
	}
}

// listIn is a field that is written as a comma list. Blanks around an entry do
// not count, nor do empty entries and repeated ones. A text of commas alone is an
// error: the empty list often means everybody or everything.
func listIn(at func(*Policy) *[]string, parse func(entry string) (string, error)) field {
	f := in(at, func(text string) ([]string, error) {
		var entries []string
		for entry := range strings.SplitSeq(text, ",") {
			if entry = strings.TrimSpace(entry); entry == "" || slices.Contains(entries, entry) {
				continue
			}
			value, err := parse(entry)
			if err != nil {
				return nil, err
			}
			entries = append(entries, value)
		}
		if len(entries) == 0 {
			return nil, errors.New("is a list without entries: name some, or leave the value empty")
		}
		return entries, nil
	})
	f.show = func(p *Policy) string { return strings.Join(*at(p), ",") }
	return f
}

// durationIn is a field that is shown as people write durations. A gate itself can wait for 90 days in CircleCI.
func durationIn(at func(*Policy) *time.Duration, zero bool, fault string) field {
	f := in(at, func(text string) (time.Duration, error) {
		d, err := time.ParseDuration(text)
		if err != nil || d > 90*24*time.Hour || d < time.Second && !(zero && d == 0) {
			return 0, errors.New(fault)
		}
		return d, nil
	})
	f.show = func(p *Policy) string { return plain.Duration(*at(p)) }
	return f
}

// minutesIn is a field that is written as a number of minutes, up to a day.
func minutesIn(at func(*Policy) *time.Duration) field {
	f := in(at, func(text string) (time.Duration, error) {
		n, err := wholeNumber("number of minutes", 1, 24*60)(text)
		return time.Duration(n) * time.Minute, err
	})
	f.show = func(p *Policy) string { return strconv.Itoa(int(*at(p) / time.Minute)) }
	return f
}

// oneOf takes the words of a closed set.
func oneOf[T ~string](words ...T) func(string) (T, error) {
	return func(text string) (T, error) {
		if !slices.Contains(words, T(text)) {
			return "", fmt.Errorf("must be one of %s", strings.ReplaceAll(strings.Trim(fmt.Sprint(words), "[]"), " ", ", "))
		}
		return T(text), nil
	}
}

func yesOrNo(text string) (bool, error) {
	v, err := strconv.ParseBool(text)
	if err != nil {
		return false, fmt.Errorf("must be true or false")
	}
	return v, nil
}

func wholeNumber(what string, low, high int) func(string) (int, error) {
	return func(text string) (int, error) {
		n, err := strconv.Atoi(text)
		if err != nil || n < low || n > high {
			return 0, fmt.Errorf("must be a whole %s from %d to %d", what, low, high)
		}
		return n, nil
	}
}

// form takes the texts of a pattern, if none of their parts is . or .. for a path.
func form(pattern *regexp.Regexp, fault string) func(string) (string, error) {
	return func(text string) (string, error) {
		if !pattern.MatchString(text) || path.Clean(text) != text {
			return "", errors.New(fault)
		}
		return text, nil
	}
}

var (
	uuidPattern = regexp.MustCompile(`^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$`)

	repoForm    = form(regexp.MustCompile(`^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$`), "must be org/repo")
	channelForm = form(regexp.MustCompile(`^[CGD][A-Z0-9]{2,}$`), "must be a Slack channel id (C…)")
	peopleForm  = form(regexp.MustCompile(`^[UWS][A-Z0-9]{2,}$`), "must be a comma list of Slack user ids (U…, W…) and user group ids (S…)")
	triggerForm = form(regexp.MustCompile(`^[a-z][a-z0-9_]{0,99}$`),
		"must be a comma list of CircleCI's trigger types, such as webhook,scheduled_pipeline,api,explicit")
	slugForm = form(regexp.MustCompile(`^(gh|github|bb|bitbucket|circleci)/[A-Za-z0-9._-]{1,100}/[A-Za-z0-9._-]{1,100}$`),
		"must be circleci/<org>/<project>, gh/<org>/<repo> or bb/<org>/<repo>")
	projectForm = form(uuidPattern, "must be the project's id (a UUID): Project Settings > Overview in CircleCI shows it")
)

// IsUUID reports whether id is a UUID, as the ids of CircleCI are.
func IsUUID(id string) bool { return uuidPattern.MatchString(id) }

// slugProviders are the short names of the providers, which are those in CircleCI's answers.
var slugProviders = map[string]string{"github": "gh", "bitbucket": "bb"}

// ParseSlug gives the one spelling of a project slug that CircleCI answers with: gh/org/repo, bb/workspace/repo or
// circleci/org/project. Webhooks and people also write github/ and bitbucket/. Upper and lower case are kept.
// See https://circleci.com/docs/api-developers-guide/#getting-started-with-the-api.
func ParseSlug(text string) (string, error) {
	text, err := slugForm(text)
	provider, rest, _ := strings.Cut(text, "/")
	if name, ok := slugProviders[provider]; ok {
		text = name + "/" + rest
	}
	return text, err
}

func parseProjectID(text string) (string, error) {
	text, err := projectForm(text)
	return strings.ToLower(text), err
}

// ValidChannel reports whether id has the form of a Slack channel id: C…, G… or
// D…. Whether there is such a channel only Slack knows.
func ValidChannel(id string) bool {
	_, err := channelForm(id)
	return err == nil
}

// IsGroup reports whether a Slack id is that of a user group: S….
func IsGroup(id string) bool { return strings.HasPrefix(id, "S") }
