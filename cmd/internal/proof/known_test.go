package proof_test

import (
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/story"
)

// TestFoundBefore plays what went wrong once.
func TestFoundBefore(t *testing.T) {
	made := newTemplate(t)
	one := []story.Script{{Required: 1, Auto: true, OnHold: true, OnClose: approvals.CloseCancelJob, Acts: []story.Act{
		{What: story.Request, Pause: 100 * time.Millisecond}, {What: story.Approve, Pause: 8 * time.Second}, {What: story.Deploy, Pause: 5 * time.Second},
	}}}
	lane := func(auto bool, onClose approvals.OnClose, acts ...story.Act) []story.Script {
		return []story.Script{{Required: 1, Auto: auto, OnHold: true, OnClose: onClose, Acts: append([]story.Act{{What: story.Request, Pause: time.Second}}, acts...)}}
	}
	for _, tt := range []struct {
		name   string
		script script
		want   approvals.Status
	}{
		{"a second card, for Slack had not said yet who we are", script{Lanes: one, Faults: []fault{
			{"slack chat.postMessage", 1, crashAfter}, {"slack auth.test", 2, failSlow},
		}}, approvals.Deployed},
		{"a second reply, for Slack had not said yet who we are", script{Lanes: one, Faults: []fault{
			{"slack chat.postMessage", 2, crashAfter}, {"slack auth.test", 2, failSlow},
		}}, approvals.Deployed},
		{"nobody may decide, for people were looked up before the workspace was known", script{Lanes: one, Faults: []fault{
			{"slack auth.test", 1, failSlow},
		}}, approvals.Deployed},
		{"a gate that was opened at the moment of the reject is taken for cancelled", script{
			Lag: 2, Lanes: lane(true, approvals.CloseCancelWorkflow, story.Act{What: story.Bypass, Pause: 2 * time.Second}, story.Act{What: story.Reject}),
		}, approvals.Rejected},
		{"a code that was used approves the next request, too", script{
			Lanes: lane(true, approvals.CloseCancelJob, story.Act{What: story.Approve, Pause: 2 * time.Second}, story.Act{What: story.Push, Pause: time.Second}, story.Act{What: story.Replay, Pause: 2 * time.Second}),
		}, approvals.Expired},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := play(t, made, tt.script)
			for _, b := range p.broken {
				t.Error(b)
			}
			if p.ends[0] != tt.want {
				t.Errorf("got a request that is %s; want %s", p.ends[0], tt.want)
			}
		})
	}
}

// TestOpenedWhileTheListLags lets a person open the gate, and its deploy end, at
// every moment between two readings of the workflow itself, while the job list is
// behind: the workflow that is over must not be taken for one that never reached
// its gate.
func TestOpenedWhileTheListLags(t *testing.T) {
	made := newTemplate(t)
	for from := 36 * time.Second; from < 44*time.Second; from += 4 * time.Second {
		s := script{Lag: 2}
		for i := range maxLanes {
			s.Lanes = append(s.Lanes, story.Script{Required: 1, OnHold: true, OnClose: approvals.CloseCancelJob, Acts: []story.Act{
				{What: story.Request}, {What: story.Approve, Pause: 2 * time.Second}, {What: story.Hand, Pause: from + time.Duration(i)*time.Second/2},
			}})
		}
		t.Run(from.String(), func(t *testing.T) {
			t.Parallel()
			p := play(t, made, s)
			for _, b := range p.broken {
				t.Error(b)
			}
			for i, end := range p.ends {
				if end != approvals.Deployed {
					t.Errorf("lane %d: got a request that is %s; want deployed", i, end)
				}
			}
		})
	}
}
