package circleci

import (
	"fmt"
	"regexp"
	"strings"
)

// slugPart holds what organisations, workspaces, repositories and CircleCI's own short ids are made of.
var slugPart = regexp.MustCompile(`^[A-Za-z0-9._-]{1,100}$`)

// NormalizeSlug gives the one spelling of a project slug that the API answers with: gh/org/repo, bb/workspace/repo or
// circleci/org/project. Webhooks and people also write github/ and bitbucket/. Upper and lower case are kept.
// See https://circleci.com/docs/api-developers-guide/#getting-started-with-the-api.
func NormalizeSlug(slug string) (string, error) {
	parts := strings.Split(slug, "/")
	if len(parts) != 3 {
		return "", fmt.Errorf("project slug %.120q is not of the form provider/organisation/project", slug)
	}
	switch parts[0] {
	case "gh", "bb", "circleci":
	case "github":
		parts[0] = "gh"
	case "bitbucket":
		parts[0] = "bb"
	default:
		return "", fmt.Errorf("project slug %.120q begins with none of gh, github, bb, bitbucket, circleci", slug)
	}
	for _, p := range parts[1:] {
		if !slugPart.MatchString(p) || p == "." || p == ".." {
			return "", fmt.Errorf("project slug %.120q has an empty or unusual part", slug)
		}
	}
	return strings.Join(parts, "/"), nil
}

// SameSlug tells whether two slugs name the same project. GitHub and Bitbucket ignore case; CircleCI's own ids do not.
// A slug that is not valid is the same as none.
func SameSlug(a, b string) bool {
	a, errA := NormalizeSlug(a)
	b, errB := NormalizeSlug(b)
	if errA != nil || errB != nil {
		return false
	}
	if strings.HasPrefix(a, "circleci/") {
		return a == b
	}
	return strings.EqualFold(a, b)
}
