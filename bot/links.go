package bot

import (
	"net/url"
	"regexp"
	"strings"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// Links builds links to the CI provider's pages, "" where a part cannot be right.
type Links interface {
	PipelineURL(project string, number int64) string
	WorkflowURL(project string, number int64, workflowID string) string
}

var (
	// repositoryURL is how CircleCI names a repository where the slug of its project does not.
	repositoryURL = regexp.MustCompile(`^(?:https://|ssh://git@|git@)(github\.com|bitbucket\.org)[/:]([^/]+)/([^/]+?)(?:\.git)?$`)
	vcsPart       = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)
	fullHash      = regexp.MustCompile(`^[0-9a-f]{40}$`)
)

// repository is the base of a repository's pages on its host, built from checked
// parts: those of the project's slug or, where that names no repository, as for
// projects of the GitHub App, of the URL that CircleCI gives. It is "" where neither
// names one at a host that we know.
func repository(f approvals.Facts) (base string, bitbucket bool) {
	parts := strings.Split(f.Project, "/")
	if len(parts) == 3 && parts[0] == "circleci" {
		if parts = repositoryURL.FindStringSubmatch(f.Target); parts != nil {
			parts = parts[1:]
		}
	}
	if len(parts) != 3 {
		return "", false
	}
	for _, p := range parts[1:] {
		if !vcsPart.MatchString(p) || strings.Trim(p, ".") == "" {
			return "", false
		}
	}
	switch parts[0] {
	case "gh", "github", "github.com":
		return "https://github.com/" + parts[1] + "/" + parts[2], false
	case "bb", "bitbucket", "bitbucket.org":
		return "https://bitbucket.org/" + parts[1] + "/" + parts[2], true
	}
	return "", false
}

// CommitURL is the page of a commit on the host of the code; "" where a part cannot be
// right.
func CommitURL(f approvals.Facts, revision string) string {
	base, bitbucket := repository(f)
	switch {
	case base == "" || !fullHash.MatchString(revision):
		return ""
	case bitbucket:
		return base + "/commits/" + revision
	}
	return base + "/commit/" + revision
}

// compareURL is the page of what changed from one commit to another.
func compareURL(f approvals.Facts, from, to string) string {
	base, bitbucket := repository(f)
	switch {
	case base == "" || !fullHash.MatchString(from) || !fullHash.MatchString(to) || from == to:
		return ""
	case bitbucket:
		// Bitbucket names the newer commit first; %0D parts the two.
		return base + "/branches/compare/" + to + "%0D" + from
	}
	return base + "/compare/" + from + "..." + to
}

// pullURL is the page of a pull request.
func pullURL(f approvals.Facts, number string) string {
	base, bitbucket := repository(f)
	switch {
	case base == "":
		return ""
	case bitbucket:
		return base + "/pull-requests/" + number
	}
	return base + "/pull/" + number
}

// webURL lets only absolute http and https links through, of characters that
// cannot end the markup around them.
func webURL(link string) string {
	if len(link) > limitURL || strings.ContainsFunc(link, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("<>|\"`\\^{}", r) }) {
		return ""
	}
	u, err := url.Parse(link)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return ""
	}
	return link
}

func short(revision string) string {
	if len(revision) > 7 {
		return revision[:7]
	}
	return revision
}

// pipelineURL is the most exact page that can be linked: the workflow's, else the pipeline's.
func (v view) pipelineURL(r approvals.Request) string {
	if v.links == nil {
		return ""
	}
	if u := v.links.WorkflowURL(r.Facts.Project, r.Facts.PipelineNumber, r.Facts.WorkflowID); u != "" {
		return webURL(u)
	}
	return webURL(v.links.PipelineURL(r.Facts.Project, r.Facts.PipelineNumber))
}
