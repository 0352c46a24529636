package storetest

import (
	"slices"
	"testing"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// Run checks that what open returns keeps every promise of [approvals.Store].
// open returns a store that is empty. The tests with the names of except are left
// out.
func Run(t *testing.T, open func(t *testing.T) approvals.Store, except ...string) {
	for _, tt := range []struct {
		name string
		test func(t *testing.T, s approvals.Store)
	}{
		{"request comes back whole", testRequestRoundTrip},
		{"request conflicts", testRequestConflicts},
		{"requests are filtered", testFilters},
		{"states are kept", testKept},
		{"secrets", testSecrets},
		{"work is asked for once", testAsk},
		{"work is claimed in order", testClaimOrder},
		{"lanes", testLanes},
		{"a claim ends", testFinish},
		{"attempts are counted", testAttempts},
		{"asked for while claimed", testAgain},
		{"a lease that is over", testLease},
		{"two claimers", testClaimers},
		{"the log", testLog},
		{"all or nothing", testAllOrNothing},
		{"an error ends the transaction", testDead},
		{"a view does not move", testView},
		{"time does not go back", testNow},
		{"a commit changes the stamp", testStamp},
		{"many writers at once", testWriters},
		{"text that is not clean", testUnclean},
	} {
		if slices.Contains(except, tt.name) {
			continue
		}
		t.Run(tt.name, func(t *testing.T) { tt.test(t, open(t)) })
	}
}

func update(t testing.TB, s approvals.Store, fn func(tx approvals.Tx) error) {
	t.Helper()
	if err := s.Update(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func view(t testing.TB, s approvals.Store, fn func(tx approvals.Tx) error) {
	t.Helper()
	if err := s.View(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

// set and get use one small state.
func set(tx approvals.Tx, value string) error { return tx.Keep("suite", "state", []byte(value)) }

func get(t testing.TB, s approvals.Store) (value string) {
	t.Helper()
	view(t, s, func(tx approvals.Tx) error {
		state, err := tx.Kept("suite", "state")
		value = string(state)
		return err
	})
	return value
}
