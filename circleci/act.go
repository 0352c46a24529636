package circleci

import (
	"context"
	"net/http"
)

// Approve asks CircleCI to open a gate. Nil means accepted, not done: read the job list until the gate is a success. An
// error that is Temporary may hide an approval that took effect: read the job list before another try.
func (c *Client) Approve(ctx context.Context, workflowID, approvalRequestID string) error {
	k := call{op: "approve", doing: "approve gate", method: http.MethodPost,
		path: []string{"workflow", workflowID, "approve", approvalRequestID}}
	switch {
	case !isUUID(workflowID):
		return invalid(k.doing, "the workflow id is not a UUID")
	case !isUUID(approvalRequestID):
		return invalid(k.doing, "the approval request id is not a UUID")
	}
	_, err := c.do(ctx, k)
	return err
}

// CancelJob cancels one job by its id; for a held gate it is the documented way to deny it. Other branches of the
// workflow go on.
func (c *Client) CancelJob(ctx context.Context, jobID string) error {
	k := call{op: "cancel-job", doing: "cancel job", method: http.MethodPost, path: []string{"jobs", jobID, "cancel"}}
	if !isUUID(jobID) {
		return invalid(k.doing, "the job id is not a UUID")
	}
	_, err := c.do(ctx, k)
	return err
}

// CancelWorkflow cancels everything of a workflow that has not ended. Nil means accepted, not done.
func (c *Client) CancelWorkflow(ctx context.Context, workflowID string) error {
	k := call{op: "cancel-workflow", doing: "cancel workflow", method: http.MethodPost, path: []string{"workflow", workflowID, "cancel"}}
	if !isUUID(workflowID) {
		return invalid(k.doing, "the workflow id is not a UUID")
	}
	_, err := c.do(ctx, k)
	return err
}
