package approvals

import (
	"slices"
	"time"
)

// RefusalCode names why a person may not do what they pressed.
type RefusalCode string

// Why a person is refused.
const (
	RefusedUnknownRequest  RefusalCode = "unknown_request"
	RefusedClosed          RefusalCode = "closed"           // Status, By, At, Reason, Emergency, Retry say how it ended
	RefusedTaken           RefusalCode = "taken"            // retried in vain: a newer request, Number, is Status
	RefusedAppGone         RefusalCode = "app_gone"         // the app's settings are gone
	RefusedWorkspace       RefusalCode = "wrong_workspace"  // another Slack workspace
	RefusedNotAdmin        RefusalCode = "not_admin"        // not an active admin; Who can
	RefusedNotApprover     RefusalCode = "not_approver"     // an admin, but not for this app; Who can
	RefusedNotBreakGlass   RefusalCode = "not_break_glass"  // may not release in an emergency; Who can, empty = nobody
	RefusedStanding        RefusalCode = "standing"         // Slack says: Detail
	RefusedStalePerson     RefusalCode = "stale_person"     // not confirmed by Slack since At (zero = never)
	RefusedStaleGroup      RefusalCode = "stale_group"      // group Group not confirmed since At (zero = never)
	RefusedSelf            RefusalCode = "self_approval"    // the starter; Who can
	RefusedUnknownStarter  RefusalCode = "unknown_starter"  // nobody on record set it off, and the settings ask for somebody: By
	RefusedNoLogin         RefusalCode = "no_vcs_login"     // whether they are the starter cannot be told
	RefusedFrozen          RefusalCode = "frozen"           // until Detail; Who may release in an emergency
	RefusedVoted           RefusalCode = "already_voted"    // has a vote in this round
	RefusedNoAuthenticator RefusalCode = "no_authenticator" // not enrolled
	RefusedDisabled        RefusalCode = "authenticator_disabled"
	RefusedUnreadable      RefusalCode = "authenticator_unreadable" // the sealed secret does not open
	RefusedOnHold          RefusalCode = "decisions_on_hold"        // log, keys, lock or clock forbid: Detail
	RefusedReason          RefusalCode = "reason_invalid"           // a reason must be 1 to 500 characters, of an emergency release 10 to 500

	RefusedCodeMalformed RefusalCode = "code_malformed"
	RefusedCodeWrong     RefusalCode = "code_wrong"   // Left tries before a pause
	RefusedCodeUsed      RefusalCode = "code_used"    // the next one comes at Until
	RefusedCodeWaiting   RefusalCode = "code_waiting" // too many failures; pause until Until
)

// Refusal tells a person why, who can, and what is known of it. It is an error
// that the edge puts into words.
type Refusal struct {
	Code   RefusalCode
	App    string
	Who    []string // Slack user and group ids of those who can; empty = every admin
	Status Status
	By     string // Slack user, or a login at the CI provider
	Reason string
	Detail string
	Group  string
	Number int64
	At     time.Time
	Until  time.Time
	Left   int
	// Emergency says that By released it in an emergency.
	Emergency bool
	Retry     bool // Retry on the card brings it back
}

func (r *Refusal) Error() string { return "refused: " + string(r.Code) }

// stale reports whether only fresh knowledge is wanting.
func (r *Refusal) stale() bool {
	return r != nil && (r.Code == RefusedStalePerson || r.Code == RefusedStaleGroup)
}

// AboutCode reports whether the fault is in the code that was typed, so that
// the person may correct it in place.
func (r *Refusal) AboutCode() bool {
	return slices.Contains([]RefusalCode{RefusedCodeMalformed, RefusedCodeWrong, RefusedCodeUsed, RefusedCodeWaiting}, r.Code)
}

// AboutRight reports whether the person lacks the right, which the thread
// mentions, rather than having come too late.
func (r *Refusal) AboutRight() bool {
	return slices.Contains([]RefusalCode{
		RefusedWorkspace, RefusedNotAdmin, RefusedNotApprover, RefusedNotBreakGlass, RefusedStanding, RefusedSelf, RefusedNoLogin, RefusedUnknownStarter,
	}, r.Code)
}
