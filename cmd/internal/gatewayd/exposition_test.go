package gatewayd

import (
	"bytes"
	"runtime"
	"testing"
	"time"
)

func TestExposition(t *testing.T) {
	calls := newFamily("calls_total", counter, "Calls.", nil, "method", "result")
	seconds := newFamily("call_seconds", histogram, "Duration.", []float64{.005, 1, 86400}, "op")
	plain := newFamily("plain_seconds", histogram, "Of one kind.", []float64{.5})
	never := newFamily("never", gauge, "Has labels, and never had a value.", nil, "x")
	up := newFamily("up", gauge, "Has none.", nil)
	calls.add(1, "b", "ok")
	calls.add(1, "a", "quote \" back \\ line \n not UTF-8 \xff")
	calls.add(2, "b", "ok")
	for _, v := range []float64{.005, .25, 90000} {
		seconds.observe(v, "jobs")
	}
	gone := newFamily("gone", gauge, "Was forgotten.", nil, "x")
	gone.set(1, "a")
	gone.reset()
	gone.set(2.5, "b")
	var b bytes.Buffer
	for _, f := range []*family{calls, seconds, plain, never, up, gone} {
		f.write(&b)
	}
	const want = `# HELP calls_total Calls.
# TYPE calls_total counter
calls_total{method="a",result="quote \" back \\ line \n not UTF-8 ` + "\uFFFD" + `"} 1
calls_total{method="b",result="ok"} 3
# HELP call_seconds Duration.
# TYPE call_seconds histogram
call_seconds_bucket{op="jobs",le="0.005"} 1
call_seconds_bucket{op="jobs",le="1"} 2
call_seconds_bucket{op="jobs",le="86400"} 2
call_seconds_bucket{op="jobs",le="+Inf"} 3
call_seconds_sum{op="jobs"} 90000.255
call_seconds_count{op="jobs"} 3
# HELP plain_seconds Of one kind.
# TYPE plain_seconds histogram
plain_seconds_bucket{le="0.5"} 0
plain_seconds_bucket{le="+Inf"} 0
plain_seconds_sum 0
plain_seconds_count 0
# HELP up Has none.
# TYPE up gauge
up 0
# HELP gone Was forgotten.
# TYPE gone gauge
gone{x="b"} 2.5
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &b, want)
	}
}

// The dashboard asks for the memory of the process, and people for the rest.
func TestMetricsOfTheRuntime(t *testing.T) {
	values := map[string]float64{}
	for _, f := range ofRuntime() {
		if s := f.series[""]; s != nil {
			values[f.name] = s.value
		}
	}
	want := []string{"go_goroutines", "go_threads", "go_memstats_heap_alloc_bytes", "go_memstats_sys_bytes"}
	if runtime.GOOS == "linux" {
		want = append(want, "process_resident_memory_bytes", "process_virtual_memory_bytes", "process_open_fds", "process_start_time_seconds")
	}
	for _, name := range want {
		if values[name] <= 0 {
			t.Errorf("%s: got %v; want more than 0", name, values[name])
		}
	}
	if start := time.Unix(int64(values["process_start_time_seconds"]), 0); runtime.GOOS == "linux" && time.Since(start) > time.Hour {
		t.Errorf("got a start at %s, which was not just now", start)
	}
}
