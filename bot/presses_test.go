package bot

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestPresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPresses()
		for i := range 10 {
			if !p.allow("U1") {
				t.Fatalf("press %d was not looked at", i+1)
			}
		}
		if p.allow("U1") {
			t.Error("the eleventh press within a minute was looked at")
		}
		if !p.allow("U2") {
			t.Error("somebody else has to wait, too")
		}
		time.Sleep(time.Minute)
		if !p.allow("U1") {
			t.Error("a press a minute later was not looked at")
		}
	})
}
