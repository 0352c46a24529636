package approvals

import (
	"cmp"
	"path"
	"slices"
	"strings"
	"time"
)

// Policy is what the settings say of one app in one environment. Its fields hold
// the effective values of the keys that SettingKeys lists.
type Policy struct {
	App             string
	Environment     string
	VCSProvider     string // github or bitbucket
	VCSRepo         string // org/repo
	CIProvider      string // circleci
	Gate            string // exact name of the approval job
	AutoApprove     bool
	Project         string        // slug: gh/org/repo, bb/org/repo or circleci/org/project
	Channel         string        // Slack id
	Approvers       []string      // Slack user and group ids; empty = every admin
	Notify          []string      // Slack user and group ids
	Required        int           // distinct approvals, 1 to 20
	AllowSelf       bool          // the starter of the pipeline may approve
	AllowedBranches []string      // globs, see AllowsRef; empty = all
	PendingTTL      time.Duration // from the request to its expiry, 1 minute to 90 days
	Window          time.Duration // from the decision to its expiry, whole minutes up to a day
	MFAOnReject     bool
	OnClose         OnClose
	Supersede       Supersede
	Freeze          Freeze // when nobody may approve
	ProjectID       string // id (UUID) of the project, lower case; empty = not set
	Credential      Credential
	RemindAfter     time.Duration // from the request to the one reminder; 0 = none
	BreakGlass      []string      // Slack user and group ids of those who may release in an emergency; empty = nobody
	AllowedTriggers []string      // as CircleCI names them; empty = all
	UnknownStarter  UnknownStarter
	ConfigChange    int      // approvals when the CI configuration is not the one last deployed, 0 to 20; 0 = as many as otherwise
	DeployJobs      []string // exact names of the jobs that are the deploy; empty = all that need the gate

	// Source names the variable behind each key; a key without one has its default.
	Source map[string]string
}

// Value shows the effective value of a key as a variable would hold it: numbers
// and durations with the unit of the key, lists with commas. It is empty for an
// unknown key and for a value that is not set.
func (p Policy) Value(key string) string {
	if s, ok := settingOf(key); ok {
		return s.field.show(&p)
	}
	return ""
}

// Credential is the setting ci_identity: with what CI jobs may file and verify.
type Credential string

// Values of [Credential].
const (
	CredentialToken  Credential = "token"
	CredentialOIDC   Credential = "oidc"
	CredentialEither Credential = "either"
)

// takes reports whether CI jobs may file and verify with this kind of credential.
func (p Policy) takes(kind Credential) bool {
	return p.Credential == kind || p.Credential == CredentialEither
}

// builds reports whether a repository, written as host and path, is the app's. An
// empty one is unknown, and its host is left to the id of the project.
func (p Policy) builds(origin string) bool {
	_, repo, _ := strings.Cut(strings.TrimSuffix(origin, ".git"), "/")
	return origin == "" || strings.EqualFold(repo, p.VCSRepo)
}

// OnClose is the setting on_close: what is done in CircleCI to a gate that will
// not be approved any more.
type OnClose string

// Values of [OnClose].
const (
	CloseCancelJob      OnClose = "cancel_job"
	CloseCancelWorkflow OnClose = "cancel_workflow"
	CloseNothing        OnClose = "nothing"
)

// Supersede is the setting supersede: which older pending requests of the same
// app and environment a newer pipeline's request closes.
type Supersede string

// Values of [Supersede].
const (
	SupersedeBranch      Supersede = "branch"
	SupersedeEnvironment Supersede = "environment"
	SupersedeOff         Supersede = "off"
)

// UnknownStarter is the setting unknown_starter: what follows when nobody on record
// set the workflow off.
type UnknownStarter string

// Values of [UnknownStarter].
const (
	StarterNote   UnknownStarter = "note"
	StarterRefuse UnknownStarter = "refuse"
)

// AllowsRef reports whether the settings allow deploys of this branch or tag; one
// of both is empty. The entries of AllowedBranches are globs for [path.Match]. A
// tag matches only those behind "tag:", a branch only the others.
func (p Policy) AllowsRef(branch, tag string) bool {
	name := cmp.Or(tag, branch)
	return len(p.AllowedBranches) == 0 || name != "" && slices.ContainsFunc(p.AllowedBranches, func(g string) bool {
		glob, forTags := strings.CutPrefix(g, "tag:")
		ok, err := path.Match(glob, name)
		return forTags == (tag != "") && ok && err == nil
	})
}

// needed is how many distinct admins must approve: what was agreed at the
// creation or what the settings say now, whichever is more. A configuration that
// is not known to be the one last deployed counts as another one. An emergency
// release needs nobody else.
func needed(r Request, p Policy) int {
	if _, ok := r.Emergency(); ok {
		return 1
	}
	n := max(r.Required, p.Required, 1)
	if changed, known := r.ConfigChanged(); changed || !known {
		n = max(n, p.ConfigChange)
	}
	return n
}

// allows lists who may do an action; an empty list of approvers allows every admin.
func (p Policy) allows(action Action) []string {
	if action == ActionBreakGlass {
		return p.BreakGlass
	}
	return p.Approvers
}
