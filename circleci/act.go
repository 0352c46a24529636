package circleci

import (
	"context"
	"net/http"
)

// Approve asks CircleCI to open a gate. Nil means accepted, not done: read the job list until the gate is a success. An
// error that is Temporary may hide an approval that took effect: read the job list before another try.
func (c *Client) Approve(ctx context.Context, workflowID, approvalRequestID string) error {
	return c.post(ctx, call{op: "approve", doing: "approve gate", path: "/workflow/%s/approve/%s",
		ids: []id{{"workflow id", workflowID}, {"approval request id", approvalRequestID}}})
}

// CancelJob cancels one job by its id; for a held gate it is the documented way to deny it. Other branches of the
// workflow go on.
func (c *Client) CancelJob(ctx context.Context, jobID string) error {
	return c.post(ctx, call{op: "cancel-job", doing: "cancel job", path: "/jobs/%s/cancel", ids: []id{{"job id", jobID}}})
}

// CancelWorkflow cancels everything of a workflow that has not ended. Nil means accepted, not done.
func (c *Client) CancelWorkflow(ctx context.Context, workflowID string) error {
	return c.post(ctx, call{op: "cancel-workflow", doing: "cancel workflow", path: "/workflow/%s/cancel", ids: []id{{"workflow id", workflowID}}})
}

func (c *Client) post(ctx context.Context, k call) error {
	k.method = http.MethodPost
	_, err := c.do(ctx, k)
	return err
}
