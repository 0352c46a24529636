package approvals

import "context"

// The pure rules, for tables.
var (
	Ours            = ours
	WindowOver      = windowOver
	OpenedInWindow  = openedInWindow
	Dependents      = dependents
	JudgeJobs       = outcome
	Stuck           = stuck
	ClosesGate      = closesGate
	AcceptsCanceled = acceptsCanceled
	NewTokenText    = newTokenText
)

// SightOf names what a job list says of a request's gate.
func SightOf(r Request, jobs []Job) string {
	return map[gateState]string{
		gateWaits: "waits", gateOnHold: "on hold", gateOpened: "opened", gateEnded: "ended", gateChanged: "changed",
	}[sight(r, jobs).state]
}

// Differs names the fact that changed.
func (f Facts) Differs(now Facts) string { return f.differs(now) }

// Line is the branch or tag line.
func (f Facts) Line() string { return f.line() }

// Drain delivers, one after another, everything that is due now. It reports
// false when there is no end to it.
func (w *Worker) Drain(ctx context.Context) bool {
	left := 3000
	for busy := true; busy; {
		busy = false
		for _, family := range []string{FamilyLocal, FamilyCI, FamilyWatch, FamilySlack} {
			for ; one(ctx, w, family); left-- {
				if busy = true; left == 0 {
					return false
				}
			}
		}
	}
	return true
}

// one delivers one effect; false when none is due.
func one(ctx context.Context, w *Worker, family string) bool {
	e, err := w.claim(ctx, family)
	if err == nil {
		w.carry(ctx, e)
	}
	return err == nil
}
