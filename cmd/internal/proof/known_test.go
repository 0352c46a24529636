package proof_test

import (
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// TestFoundBefore plays what went wrong once.
func TestFoundBefore(t *testing.T) {
	made := newTemplate(t)
	one := []laneScript{{Required: 1, Auto: true, OnHold: true, OnClose: approvals.CloseCancelJob, Acts: []act{
		{What: actRequest, Pause: 100 * time.Millisecond}, {What: actApprove, Pause: 8 * time.Second}, {What: actDeploy, Pause: 5 * time.Second},
	}}}
	for _, tt := range []struct {
		name   string
		script script
	}{
		{"a second card, for Slack had not said yet who we are", script{Lanes: one, Faults: []fault{
			{"slack chat.postMessage", 1, crashAfter}, {"slack auth.test", 2, failSlow},
		}}},
		{"a second reply, for Slack had not said yet who we are", script{Lanes: one, Faults: []fault{
			{"slack chat.postMessage", 2, crashAfter}, {"slack auth.test", 2, failSlow},
		}}},
		{"nobody may decide, for people were looked up before the workspace was known", script{Lanes: one, Faults: []fault{
			{"slack auth.test", 1, failSlow},
		}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := play(t, made, tt.script)
			for _, b := range p.broken {
				t.Error(b)
			}
			if p.ends[0] != approvals.Deployed {
				t.Errorf("got a request that is %s; want deployed", p.ends[0])
			}
		})
	}
}
