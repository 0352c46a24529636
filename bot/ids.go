package bot

// Ids of actions, blocks, callbacks and metadata. People's scripts and checks
// know them: they never change.
const (
	ActionApprove      = "approve"
	ActionReject       = "reject"
	ActionRetry        = "retry"
	ActionBreakGlass   = "break_glass"
	ActionViewPipeline = "view_pipeline"

	CallbackApprove    = "approve_request"
	CallbackReject     = "reject_request"
	CallbackBreakGlass = "break_glass_request"

	BlockCode    = "totp"
	InputCode    = "code"
	BlockReason  = "reason"
	InputReason  = "text"
	CommandName  = "/approvals"
	callbackDone = "done"

	// Metadata holds ids only: other apps can read it.
	MetadataCard  = "deploy_approval_request"
	MetadataReply = "deploy_approval_event"
	keyRequest    = "request_id"
	keySeq        = "seq"
)
