package approvals

import (
	"cmp"
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

// settings is the table of all keys, in the order of the documentation.
var settings = []setting{
	{key: "vcs_provider", fallback: "github", field: in(func(p *Policy) *string { return &p.VCSProvider }, oneOf("github", "bitbucket"))},
	{key: "vcs_repo", required: true, field: in(func(p *Policy) *string { return &p.VCSRepo }, parseRepo)},
	{key: "ci_provider", fallback: "circleci", field: in(func(p *Policy) *string { return &p.CIProvider }, oneOf("circleci"))},
	{key: "circleci_approval_job_name", required: true, field: in(func(p *Policy) *string { return &p.Gate }, anyText)},
	{key: "circleci_auto_approve_on_approval", fallback: "false", field: in(func(p *Policy) *bool { return &p.AutoApprove }, yesOrNo)},
	{key: "circleci_project_slug", field: in(func(p *Policy) *string { return &p.Project }, parseSlug)},
	{key: "slack_channel", field: in(func(p *Policy) *string { return &p.Channel }, parseChannel)},
	{key: "approvers", field: listIn(func(p *Policy) *[]string { return &p.Approvers }, checkPerson)},
	{key: "notify", field: listIn(func(p *Policy) *[]string { return &p.Notify }, checkPerson)},
	{key: "required_approvals", fallback: "1", field: in(func(p *Policy) *int { return &p.Required }, wholeNumber("number", 1, 20))},
	{key: "allow_self_approval", fallback: "false", field: in(func(p *Policy) *bool { return &p.AllowSelf }, yesOrNo)},
	{key: "allowed_branches", field: globsIn(func(p *Policy) *[]string { return &p.AllowedBranches })},
	{key: "pending_ttl", fallback: "24h", field: durationIn(func(p *Policy) *time.Duration { return &p.PendingTTL }, parseTTL)},
	{key: "deploy_approval_window_minutes", fallback: "15", field: minutesIn(func(p *Policy) *time.Duration { return &p.Window }, 1, 24*60)},
	{key: "mfa_on_reject", fallback: "false", field: in(func(p *Policy) *bool { return &p.MFAOnReject }, yesOrNo)},
	{key: "on_close", fallback: string(CloseCancelJob), field: in(func(p *Policy) *OnClose { return &p.OnClose }, oneOf[OnClose](CloseCancelJob, CloseCancelWorkflow, CloseNothing))},
	{key: "supersede", fallback: string(SupersedeBranch), field: in(func(p *Policy) *Supersede { return &p.Supersede }, oneOf[Supersede](SupersedeBranch, SupersedeEnvironment, SupersedeOff))},
	{key: "freeze", field: in(func(p *Policy) *Freeze { return &p.Freeze }, ParseFreeze)},
	{key: "ci_identity", fallback: string(CredentialToken), field: in(func(p *Policy) *Credential { return &p.Credential }, oneOf[Credential](CredentialToken, CredentialOIDC, CredentialEither))},
	{key: "circleci_project_id", field: in(func(p *Policy) *string { return &p.ProjectID }, parseProjectID)},
	{key: "remind_after", fallback: "0s", field: durationIn(func(p *Policy) *time.Duration { return &p.RemindAfter }, parseReminder)},
	{key: "break_glass", field: listIn(func(p *Policy) *[]string { return &p.BreakGlass }, checkPerson)},
	{key: "allowed_triggers", field: listIn(func(p *Policy) *[]string { return &p.AllowedTriggers }, checkTrigger)},
	{key: "unknown_starter", fallback: string(StarterNote), field: in(func(p *Policy) *UnknownStarter { return &p.UnknownStarter }, oneOf[UnknownStarter](StarterNote, StarterRefuse))},
	{key: "config_change_approvals", fallback: "0", field: in(func(p *Policy) *int { return &p.ConfigChange }, wholeNumber("number", 0, 20))},
	{key: "circleci_deploy_jobs", field: listIn(func(p *Policy) *[]string { return &p.DeployJobs }, checkJob)},
}

// SettingKeys lists the keys in the order of the documentation.
func SettingKeys() []string {
	keys := make([]string, len(settings))
	for i, s := range settings {
		keys[i] = s.key
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
func listIn(at func(*Policy) *[]string, check func(entry string) error) field {
	f := in(at, func(text string) ([]string, error) {
		var entries []string
		for entry := range strings.SplitSeq(text, ",") {
			if entry = strings.TrimSpace(entry); entry == "" || slices.Contains(entries, entry) {
				continue
			}
			if err := check(entry); err != nil {
				return nil, err
			}
			entries = append(entries, entry)
		}
		if len(entries) == 0 {
			return nil, errors.New("is a list without entries: name some, or leave the value empty")
		}
		return entries, nil
	})
	f.show = func(p *Policy) string { return strings.Join(*at(p), ",") }
	return f
}

// durationIn is a field that is shown as people write durations.
func durationIn(at func(*Policy) *time.Duration, parse func(text string) (time.Duration, error)) field {
	f := in(at, parse)
	f.show = func(p *Policy) string { return plain.Duration(*at(p)) }
	return f
}

// minutesIn is a field that is written as a number of minutes.
func minutesIn(at func(*Policy) *time.Duration, low, high int) field {
	number := wholeNumber("number of minutes", low, high)
	f := in(at, func(text string) (time.Duration, error) {
		n, err := number(text)
		return time.Duration(n) * time.Minute, err
	})
	f.show = func(p *Policy) string { return strconv.Itoa(int(*at(p) / time.Minute)) }
	return f
}

// anyText takes every text: only CircleCI knows whether it is right.
func anyText(text string) (string, error) { return text, nil }

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

func parseReminder(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d != 0 && d < time.Second || d > 90*24*time.Hour {
		return 0, fmt.Errorf("must be 0 for no reminder, or a duration from 1s to 2160h, such as 2h")
	}
	return d, nil
}

func parseTTL(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d < time.Second || d > 90*24*time.Hour {
		// A gate itself can wait for 90 days in CircleCI.
		return 0, fmt.Errorf("must be a duration from 1s to 2160h, such as 24h")
	}
	return d, nil
}

var (
	uuidPattern    = regexp.MustCompile(`^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$`)
	repoPattern    = regexp.MustCompile(`^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$`)
	slugPattern    = regexp.MustCompile(`^(gh|github|bb|bitbucket|circleci)/[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$`)
	channelPattern = regexp.MustCompile(`^[CGD][A-Z0-9]{2,}$`)
	peoplePattern  = regexp.MustCompile(`^[UWS][A-Z0-9]{2,}$`)
)

// IsUUID reports whether id is a UUID, as the ids of CircleCI are.
func IsUUID(id string) bool { return uuidPattern.MatchString(id) }

func parseRepo(s string) (string, error) {
	if !repoPattern.MatchString(s) || path.Clean(s) != s {
		return "", fmt.Errorf("must be org/repo")
	}
	return s, nil
}

// parseSlug reads a slug and returns it with the short names of the providers,
// which are those in CircleCI's answers.
func parseSlug(s string) (string, error) {
	if !slugPattern.MatchString(s) || path.Clean(s) != s {
		return "", fmt.Errorf("must be circleci/<org>/<project>, gh/<org>/<repo> or bb/<org>/<repo>")
	}
	provider, rest, _ := strings.Cut(s, "/")
	return cmp.Or(slugProviders[provider], provider) + "/" + rest, nil
}

func parseProjectID(s string) (string, error) {
	if !IsUUID(s) {
		return "", fmt.Errorf("must be the project's id (a UUID): Project Settings > Overview in CircleCI shows it")
	}
	return strings.ToLower(s), nil
}

// slugProviders are the names of the providers in slugs.
var slugProviders = map[string]string{"github": "gh", "bitbucket": "bb"}

// ValidChannel reports whether id has the form of a Slack channel id: C…, G… or
// D…. Whether there is such a channel only Slack knows.
func ValidChannel(id string) bool { return channelPattern.MatchString(id) }

// IsGroup reports whether a Slack id is that of a user group: S….
func IsGroup(id string) bool { return strings.HasPrefix(id, "S") }

func parseChannel(s string) (string, error) {
	if !ValidChannel(s) {
		return "", fmt.Errorf("must be a Slack channel id (C…)")
	}
	return s, nil
}

func checkPerson(id string) error {
	if !peoplePattern.MatchString(id) {
		return fmt.Errorf("must be a comma list of Slack user ids (U…, W…) and user group ids (S…)")
	}
	return nil
}

var triggerPattern = regexp.MustCompile(`^[a-z][a-z0-9_]{0,99}$`)

func checkTrigger(name string) error {
	if !triggerPattern.MatchString(name) {
		return errors.New("must be a comma list of CircleCI's trigger types, such as webhook,scheduled_pipeline,api,explicit")
	}
	return nil
}

// checkJob takes every name but one in quotes: only CircleCI knows its jobs.
func checkJob(name string) error {
	_, err := CleanValue(name)
	return err
}
