package webhook

import (
	"context"
	"io"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/audit"
)

// Service is what the API needs of the use cases. Refusals are
// *[approvals.Error]; any other error means that the work could not be done
// now, and that doing it again is safe.
type Service interface {
	Authenticator
	Filing
	Reading
	Deploying
	Auditing
}

// Authenticator tells whose token a text is. The refusal of an API token is always
// the same, that of an OIDC token has a Reason.
type Authenticator interface {
	Authenticate(ctx context.Context, text string) (approvals.Token, error)
}

// Filing takes requests in and out.
type Filing interface {
	// Request files a request; created is false when it stood already.
	Request(ctx context.Context, t approvals.Token, n approvals.NewRequest) (r approvals.Request, created bool, err error)
	// Refused records a create that was refused before Request saw it.
	Refused(ctx context.Context, t approvals.Token, app string, why *approvals.Error)
	Withdraw(ctx context.Context, t approvals.Token, idOrNumber, reason string) (approvals.Request, error)
}

// Reading shows requests, only those that the token covers.
type Reading interface {
	Get(ctx context.Context, t approvals.Token, idOrNumber string) (approvals.Request, error)
	// Await answers when the status is no longer the given one, or after wait
	// with the state as it then is.
	Await(ctx context.Context, t approvals.Token, idOrNumber string, not approvals.Status, wait time.Duration) (approvals.Request, error)
	// List answers newest first, at most f.Limit.
	List(ctx context.Context, t approvals.Token, f approvals.Filter) ([]approvals.Request, error)
	History(ctx context.Context, t approvals.Token, idOrNumber string) ([]approvals.Event, error)
}

// Deploying serves the deploy job.
type Deploying interface {
	Verify(ctx context.Context, t approvals.Token, v approvals.NewRequest) (approvals.Verified, error)
	ReportDeploy(ctx context.Context, t approvals.Token, idOrNumber string, phase approvals.Phase, detail, jobID string) (approvals.Request, error)
}

// Auditing hands out what an auditor checks the log with.
type Auditing interface {
	// Checkpoint is the signed note of that tree size; 0 = the newest.
	Checkpoint(ctx context.Context, size int64) ([]byte, error)
	VerifierKey() string
	// Export writes what x asks for, one Write per page; an error that comes
	// before the first Write is a refusal.
	Export(ctx context.Context, x audit.Export, w io.Writer) (size int64, err error)
}
