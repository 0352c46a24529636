package circleci

import (
	"fmt"
	"strings"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// NormalizeSlug is [approvals.ParseSlug] with an error that names the slug.
func NormalizeSlug(slug string) (string, error) {
	normal, err := approvals.ParseSlug(slug)
	if err != nil {
		return "", fmt.Errorf("project slug %.120q is not of the form provider/organisation/project", slug)
	}
	return normal, nil
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
