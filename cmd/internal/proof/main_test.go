package proof_test

import (
	"os"
	"runtime/debug"
	"testing"
)

// TestMain lets garbage grow: a world holds little, and whoever collects it as
// often as usual spends a fifth of the time of a long run on that.
func TestMain(m *testing.M) {
	debug.SetGCPercent(400)
	os.Exit(m.Run())
}
