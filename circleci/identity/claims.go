package identity

import (
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// claims are those of CircleCI's tokens that count. NotBefore hides the library's, into which no large number fits.
type claims struct {
	jwt.Claims
	NotBefore  *float64 `json:"nbf"`
	ProjectID  string   `json:"oidc.circleci.com/project-id"`
	PipelineID string   `json:"oidc.circleci.com/pipeline-id"`
	WorkflowID string   `json:"oidc.circleci.com/workflow-id"`
	JobID      string   `json:"oidc.circleci.com/job-id"`
	Origin     string   `json:"oidc.circleci.com/vcs-origin"`
	SSHRerun   bool     `json:"oidc.circleci.com/ssh-rerun"`
}

// check judges the claims of a token whose signature is right.
func (v *Verifier) check(c claims, now time.Time) error {
	if c.Issuer != v.keys.issuer {
		return refuse(approvals.ReasonIssuer, "the OIDC token is of another issuer than RGW_OIDC_ISSUER, such as that of another organisation")
	}
	switch {
	case len(c.Audience) > 1:
		return refuse(approvals.ReasonAudiences, "the OIDC token has several audiences: it needs exactly one, this gateway")
	case len(c.Audience) == 0 || c.Audience[0] != v.audience:
		return refuse(approvals.ReasonAudience, "the OIDC token is for another audience: this gateway's is %s", v.audience)
	}
	if err := checkTimes(c, now); err != nil {
		return err
	}
	switch {
	case c.SSHRerun:
		return refuse(approvals.ReasonSSH, "the job was run again with SSH, so a person may be at work in it")
	case !approvals.IsUUID(c.ProjectID):
		return refuse(approvals.ReasonProject, "the OIDC token names no project")
	case !approvals.IsUUID(c.WorkflowID):
		return refuse(approvals.ReasonWorkflow, "the OIDC token names no workflow")
	case !optional(c.PipelineID), !optional(c.JobID), len(c.Origin) > 500:
		return refuse(approvals.ReasonMalformed, "the OIDC token names a pipeline, a job or a repository that cannot be one")
	}
	return nil
}

func optional(id string) bool { return id == "" || approvals.IsUUID(id) }

// checkTimes refuses a token that is not valid now, or that lives longer than those
// of CircleCI do.
func checkTimes(c claims, now time.Time) error {
	issued, expiry := c.IssuedAt.Time(), c.Expiry.Time()
	switch {
	// A time that is absent is the zero time, which makes the life none or too long.
	case !expiry.After(issued) || expiry.Sub(issued) > maxLife:
		return refuse(approvals.ReasonLifetime, "the OIDC token does not say from when to when it is valid, or for longer than %d hours", maxLife/time.Hour)
	case issued.After(now.Add(skew)), c.NotBefore != nil && *c.NotBefore > float64(now.Add(skew).Unix()):
		return refuse(approvals.ReasonNotYet, "the OIDC token is not valid yet: compare the gateway's clock with CircleCI's")
	case !now.Add(-skew).Before(expiry):
		return refuse(approvals.ReasonExpired, "the OIDC token expired at %s", expiry.UTC().Format(time.RFC3339))
	}
	return nil
}

// job is what the rest of the product needs of the claims.
func (c claims) job() approvals.CIJob {
	lower := strings.ToLower
	return approvals.CIJob{
		ProjectID: lower(c.ProjectID), WorkflowID: lower(c.WorkflowID), PipelineID: lower(c.PipelineID), JobID: lower(c.JobID),
		Origin: strings.TrimPrefix(c.Origin, "https://"),
	}
}
