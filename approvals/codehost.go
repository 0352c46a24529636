package approvals

import (
	"context"
	"slices"
	"strings"
	"time"
)

// CodeHost tells what the code host knows of a commit. It is asked beside the CI
// provider, and nothing waits for it.
type CodeHost interface {
	// Commits reads what there is to say. What it may not read, or does not find, is left
	// unknown. When it could not be asked for now, nothing is returned but a *[CIError].
	Commits(ctx context.Context, q CommitQuery) (Commits, error)
	// Rest makes no calls for d, because the code host asked some node for it.
	Rest(d time.Duration)
}

// CommitQuery names a commit, and what to compare it with.
type CommitQuery struct {
	Repository string // org/repo
	Commit     string // full hash
	Since      string // full hash of the commit that was deployed last; empty = none
	ConfigPath string // of the CI configuration in the repository
	Config     Digest // of the configuration that the pipeline began with; empty = not known
}

// Commits is what the code host says of a commit, and of what is new in it since the
// last deploy. All texts are bounded.
type Commits struct {
	Count     int          `json:"count,omitempty"`     // since the last deploy; 0 = none, or not known
	Behind    int          `json:"behind,omitempty"`    // how many commits of the last deploy are not in it
	Newest    []Commit     `json:"newest,omitempty"`    // five at the most, newest first
	Authors   []string     `json:"authors,omitempty"`   // logins of those who wrote the commits
	Everybody bool         `json:"everybody,omitempty"` // the authors lack nobody
	Pull      *PullRequest `json:"pull,omitempty"`
	Config    ConfigMatch  `json:"config,omitempty"`
}

// Commit is one commit for people.
type Commit struct {
	Hash    string `json:"hash"`
	Subject string `json:"subject"`
	Author  string `json:"author"` // login, or the name where there is none
}

// PullRequest is the pull request that a commit came by.
type PullRequest struct {
	Number int    `json:"number"`
	Title  string `json:"title"`
	Review Review `json:"review"`
}

// Review is how far the review of a pull request is.
type Review string

// Values of [Review]; empty = not known.
const (
	ReviewApproved Review = "approved"
	ReviewChanges  Review = "changes_requested"
	ReviewMissing  Review = "not_approved"
)

// ConfigMatch says whether the pipeline's configuration is the file of its commit.
type ConfigMatch string

// Values of [ConfigMatch]; empty = not known.
const (
	ConfigSame  ConfigMatch = "same"
	ConfigOther ConfigMatch = "other"
)

// wrote reports whether a person is one of the authors.
func (c *Commits) wrote(p Person) bool {
	return c != nil && p.VCSLogin != "" && slices.ContainsFunc(c.Authors, func(login string) bool { return strings.EqualFold(login, p.VCSLogin) })
}

// defaultConfigPath is where CircleCI looks for the configuration unless it says otherwise.
const defaultConfigPath = ".circleci/config.yml"
