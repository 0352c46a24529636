package approvals

import (
	"path"
	"strings"
	"time"
)

// Policy is what the settings say of one app in one environment.
type Policy struct {
	App             string
	Environment     string
	VCSProvider     string
	VCSRepo         string // org/repo
	CIProvider      string
	Gate            string
	AutoApprove     bool
	Project         string // slug: gh/org/repo, bb/org/repo or circleci/org/project
	Channel         string
	Approvers       []string // Slack user and group ids; empty = every admin
	Notify          []string
	Required        int
	AllowSelf       bool
	AllowedBranches []string // globs; "tag:" marks those for tags; empty = all
	PendingTTL      time.Duration
	Window          time.Duration
	MFAOnReject     bool
	OnClose         string
	Supersede       string

	// Source names the variable behind each key; a key without one has its default.
	Source map[string]string
}

// Values of the setting on_close.
const (
	CloseCancelJob      = "cancel_job"
	CloseCancelWorkflow = "cancel_workflow"
	CloseNothing        = "nothing"
)

// Values of the setting supersede.
const (
	SupersedeBranch      = "branch"
	SupersedeEnvironment = "environment"
	SupersedeOff         = "off"
)

// AllowsRef reports whether the settings allow deploys of this branch or tag.
// A tag matches only entries that start with "tag:".
func (p Policy) AllowsRef(branch, tag string) bool {
	if len(p.AllowedBranches) == 0 {
		return true
	}
	for _, g := range p.AllowedBranches {
		glob, forTags := strings.CutPrefix(g, "tag:")
		name := branch
		if tag != "" {
			name = tag
		}
		if forTags != (tag != "") || name == "" {
			continue
		}
		if ok, err := path.Match(glob, name); err == nil && ok {
			return true
		}
	}
	return false
}
