package gatewayd

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// Slack may name its errors as it likes: they make no page that Prometheus refuses.
func TestLabelsArePlain(t *testing.T) {
	m := newMetrics()
	m.bot().Call("chat.postMessage", "quote \" back \\ line \n brace } é")
	m.took(3*time.Millisecond, "rgw_http_seconds", "route", "create", "status", "200")
	var b bytes.Buffer
	m.counted.WritePrometheus(&b)
	for _, want := range []string{
		"# TYPE rgw_slack_calls_total counter\n" + `rgw_slack_calls_total{method="chat.postMessage",result="quote _ back _ line _ brace } _"} 1`,
		"# TYPE rgw_http_seconds histogram\n",
		`rgw_http_seconds_bucket{route="create",status="200",le="0.0025"} 0`,
		`rgw_http_seconds_bucket{route="create",status="200",le="0.005"} 1`,
		`rgw_http_seconds_count{route="create",status="200"} 1`,
		"rgw_slack_socket_connected 0\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("got\n%s\nwant %s", &b, want)
		}
	}
}
