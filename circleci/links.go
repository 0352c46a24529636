package circleci

import (
	"cmp"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// Links builds links to CircleCI's pages for people, only from checked parts.
type Links struct {
	AppURL string // empty means DefaultAppURL
}

// PipelineURL is the page of a pipeline, such as https://app.circleci.com/pipelines/gh/MyOrg/myapp/1234. It is empty
// when slug or number cannot be right: no link is better than a false one.
func (l Links) PipelineURL(slug string, number int64) string {
	slug, err := NormalizeSlug(slug)
	if err != nil || number <= 0 {
		return ""
	}
	base := strings.TrimRight(cmp.Or(l.AppURL, DefaultAppURL), "/")
	// A normalised slug holds only characters that a path carries as they are.
	return base + "/pipelines/" + slug + "/" + strconv.FormatInt(number, 10)
}

// WorkflowURL is the page of one workflow of a pipeline; empty when a part cannot be right.
func (l Links) WorkflowURL(slug string, number int64, workflowID string) string {
	pipeline := l.PipelineURL(slug, number)
	if pipeline == "" || !approvals.IsUUID(workflowID) {
		return ""
	}
	return pipeline + "/workflows/" + url.PathEscape(workflowID)
}

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
	return errA == nil && errB == nil && (a == b || !strings.HasPrefix(a, "circleci/") && strings.EqualFold(a, b))
}
