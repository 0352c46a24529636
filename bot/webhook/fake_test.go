package webhook_test

import (
	"context"
	"errors"
	"io"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/audit"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
)

const (
	ciToken      = "rgw_ci"
	otherCIToken = "rgw_ci2"
	auditToken   = "rgw_audit"
	newKey       = "signed.with.aNewKey"
	commit       = "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d"
	workflow     = "5034460f-c7c4-4c43-9457-de07e2029e7b"
	job          = "11111111-2222-4333-8444-555555555555"
)

// fakeService keeps requests in memory and holds callers to the contract of
// webhook.Service: known tokens, limited lists, waits that are granted.
type fakeService struct {
	t *testing.T

	mu       sync.Mutex
	requests []approvals.Request // by number, from 1
	refused  []string            // "token app code"
	reported []string
	changed  chan struct{}
	fail     error // what every call but Authenticate answers, if not nil
	panics   bool
	awaiting chan struct{} // gets a value when an Await begins
	exports  []audit.Export
	issuing  chan struct{} // gets a value for each OIDC token, which is then waited with; nil = none is
	cutOff   error         // what an export ends with after its second page
	paged    chan struct{} // an export writes one page for each value; nil = at once
}

func newFake(t *testing.T) *fakeService {
	return &fakeService{t: t, changed: make(chan struct{}), awaiting: make(chan struct{}, 100)}
}

var tokens = map[string]approvals.Token{
	ciToken:      {ID: "ci", Name: "ci-myapp", Role: approvals.RoleCICD, Apps: []string{"myapp"}},
	otherCIToken: {ID: "ci2", Name: "ci-other", Role: approvals.RoleCICD},
	auditToken:   {ID: "audit", Name: "auditor", Role: approvals.RoleAuditor},
}

func (f *fakeService) Authenticate(ctx context.Context, text string) (approvals.Token, error) {
	if t, ok := tokens[text]; ok {
		return t, nil
	}
	if f.issuing != nil && approvals.IsJWT(text) {
		f.issuing <- struct{}{}
		<-ctx.Done() // the issuer does not answer
	}
	if text == newKey {
		return approvals.Token{}, &approvals.Error{Code: approvals.CodeUnavailable, Reason: approvals.ReasonKey, Message: "perhaps new", RetryAfter: 7 * time.Second}
	}
	if approvals.IsJWT(text) {
		return approvals.Token{}, &approvals.Error{Code: approvals.CodeUnauthorized, Reason: approvals.ReasonAudience, Message: "another audience"}
	}
	if text == "rgw_storedown" {
		return approvals.Token{}, errors.New("read token: disk I/O error")
	}
	return approvals.Token{}, &approvals.Error{Code: approvals.CodeUnauthorized, Message: "expired at noon"}
}

func (f *fakeService) begin(t approvals.Token) error {
	if t.ID == "" {
		f.t.Error("the service was called without a token")
	}
	if f.panics {
		panic("boom with secret s3cr3t")
	}
	return f.fail
}

func (f *fakeService) Request(_ context.Context, t approvals.Token, n approvals.NewRequest) (approvals.Request, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.begin(t); err != nil {
		return approvals.Request{}, false, err
	}
	if len(n.Metadata) > 8<<10 {
		f.t.Errorf("Request got %d bytes of metadata; want at most 8 KiB", len(n.Metadata))
	}
	for _, r := range f.requests {
		if r.Facts.WorkflowID == n.WorkflowID {
			return r, false, nil
		}
	}
	r := approvals.Request{
		ID: "R" + strconv.Itoa(len(f.requests)+1), Number: int64(len(f.requests) + 1), App: n.App, Environment: n.Environment, Status: approvals.Pending,
		Asked: approvals.Asked{
			Facts:   approvals.Facts{WorkflowID: n.WorkflowID, PipelineNumber: 1234, Project: "gh/MyOrg/myapp", Revision: commit, Branch: n.Branch, Tag: n.Tag},
			Message: n.Message, JobID: n.JobID, Requester: approvals.Requester{TokenID: t.ID, TokenName: t.Name, Actor: "alice"},
			GateName: "approve_deploy_production", Required: 1, PendingTTL: 24 * time.Hour,
		},
		Metadata: n.Metadata, CreatedAt: time.Date(2026, 11, 23, 9, 30, 0, 5e6, time.UTC),
	}
	f.requests = append(f.requests, r)
	return r, true, nil
}

func (f *fakeService) Refused(ctx context.Context, t approvals.Token, app string, why *approvals.Error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if ctx.Err() != nil {
		f.t.Error("Refused got a context that is over")
	}
	f.refused = append(f.refused, strings.Join([]string{t.ID, app, string(why.Code)}, " "))
}

func (f *fakeService) find(t approvals.Token, id string) (*approvals.Request, error) {
	if err := f.begin(t); err != nil {
		return nil, err
	}
	for i, r := range f.requests {
		if (r.ID == id || strconv.FormatInt(r.Number, 10) == id) && t.Covers(r.App) {
			return &f.requests[i], nil
		}
	}
	return nil, &approvals.Error{Code: approvals.CodeNotFound, Message: "there is no such request"}
}

func (f *fakeService) Get(_ context.Context, t approvals.Token, id string) (approvals.Request, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r, err := f.find(t, id)
	if err != nil {
		return approvals.Request{}, err
	}
	return *r, nil
}

// set changes a request and wakes who waits.
func (f *fakeService) set(id string, change func(*approvals.Request)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r, err := f.find(tokens[otherCIToken], id)
	if err != nil {
		f.t.Fatalf("set %s: %v", id, err)
	}
	change(r)
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fakeService) Await(ctx context.Context, t approvals.Token, id string, not approvals.Status, wait time.Duration) (approvals.Request, error) {
	if wait <= 0 || wait > time.Minute {
		f.t.Errorf("Await got wait %s; want more than 0, at most 1m", wait)
	}
	over := time.After(wait)
	f.awaiting <- struct{}{}
	for {
		f.mu.Lock()
		changed := f.changed
		f.mu.Unlock()
		r, err := f.Get(ctx, t, id)
		if err != nil || r.Status != not {
			return r, err
		}
		select {
		case <-changed:
		case <-over:
			return r, nil
		case <-ctx.Done():
			return r, ctx.Err()
		}
	}
}

func (f *fakeService) List(_ context.Context, t approvals.Token, q approvals.Filter) ([]approvals.Request, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.begin(t); err != nil {
		return nil, err
	}
	if q.Limit < 2 || q.Limit > 201 {
		f.t.Errorf("List got limit %d; want a page and one more", q.Limit)
	}
	var out []approvals.Request
	for _, r := range slices.Backward(f.requests) {
		if t.Covers(r.App) && (q.Apps == nil || slices.Contains(q.Apps, r.App)) && (q.Before == 0 || r.Number < q.Before) &&
			(q.Statuses == nil || slices.Contains(q.Statuses, r.Status)) && strings.HasPrefix(r.Facts.Revision, q.Revision) && len(out) < q.Limit {
			out = append(out, r)
		}
	}
	return out, nil
}

func (f *fakeService) History(_ context.Context, t approvals.Token, id string) ([]approvals.Event, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r, err := f.find(t, id)
	if err != nil {
		return nil, err
	}
	return []approvals.Event{{Version: 1, Seq: 7, Prev: "x", Time: "2026-11-23T09:30:00.005Z", Type: approvals.EventRequested, Request: r.ID, App: r.App, Actor: approvals.Actor{Kind: approvals.ActorToken, ID: "ci"}}}, nil
}

func (f *fakeService) Withdraw(_ context.Context, t approvals.Token, id, reason string) (approvals.Request, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r, err := f.find(t, id)
	if err != nil {
		return approvals.Request{}, err
	}
	r.Status, r.Failure = approvals.Canceled, approvals.Failure{Code: "withdrawn", Detail: reason}
	return *r, nil
}

func (f *fakeService) Verify(_ context.Context, t approvals.Token, v approvals.NewRequest) (approvals.Verified, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.begin(t); err != nil {
		return approvals.Verified{}, err
	}
	for _, r := range f.requests {
		if r.Facts.WorkflowID == v.WorkflowID && r.Status == approvals.Approved {
			return approvals.Verified{Request: r, Receipt: ledger.Receipt{Leaf: `{"seq":7}`, Seq: 7, Checkpoint: "rack-gateway\n8\nabc\n"}}, nil
		}
	}
	return approvals.Verified{}, &approvals.Error{Code: approvals.CodeNotApproved, Message: "request #1 is pending"}
}

func (f *fakeService) ReportDeploy(_ context.Context, t approvals.Token, id string, phase approvals.Phase, detail, jobID string) (approvals.Request, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r, err := f.find(t, id)
	if err != nil {
		return approvals.Request{}, err
	}
	f.reported = append(f.reported, string(phase)+" "+detail+" "+jobID)
	r.Deploy = approvals.Deploy{Phase: phase, Detail: detail}
	return *r, nil
}

func (f *fakeService) Checkpoint(_ context.Context, size int64) ([]byte, error) {
	if size != 0 {
		f.t.Errorf("Checkpoint got size %d; want 0", size)
	}
	if f.panics {
		panic("boom with secret s3cr3t")
	}
	return []byte("rack-gateway\n8\nabc\n\n— rack-gateway sig\n"), f.fail
}

func (f *fakeService) VerifierKey() string {
	if f.panics {
		panic("boom with secret s3cr3t")
	}
	return "rack-gateway+1234+key"
}

// Export gives every call three pages of a format that names what was asked for.
func (f *fakeService) Export(ctx context.Context, x audit.Export, w io.Writer) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if x.Token == nil {
		f.t.Error("Export was called without a token")
	}
	if err := f.begin(*x.Token); err != nil {
		return 0, err
	}
	f.exports = append(f.exports, x)
	for page := range 3 {
		if f.cutOff != nil && page == 2 {
			return 0, f.cutOff
		}
		if f.paged != nil {
			select {
			case <-f.paged:
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		}
		if _, err := io.WriteString(w, x.Format+" page "+strconv.Itoa(page)+"\n"); err != nil {
			return 0, err
		}
	}
	return 3, nil
}

type fakeLinks struct{}

func (fakeLinks) PipelineURL(slug string, number int64) string {
	return "https://app.circleci.com/pipelines/" + slug + "/" + strconv.FormatInt(number, 10)
}

func (l fakeLinks) WorkflowURL(slug string, number int64, id string) string {
	return l.PipelineURL(slug, number) + "/workflows/" + id
}

// serve starts the API on a fake service.
func serve(t *testing.T, change func(*webhook.Config)) (*fakeService, *httptest.Server) {
	t.Helper()
	f := newFake(t)
	c := webhook.Config{Service: f, Links: fakeLinks{}}
	if change != nil {
		change(&c)
	}
	s := httptest.NewServer(checked(t, webhook.New(c)))
	t.Cleanup(s.Close)
	return f, s
}

func (f *fakeService) state() approvals.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests[0].Status
}

// The real use cases fit.
var _ webhook.Service = audit.Log{}
