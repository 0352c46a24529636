package gatewayd_test

import (
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/gatewayd"
)

// Export and verification of a long log take seconds, and memory that does not
// grow with it: compare the heap of the two sizes.
func BenchmarkAudit(b *testing.B) {
	for _, n := range []int{1_000, 100_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			o := newOperator(b)
			o.events(n)
			key := strings.TrimSpace(o.must("audit", "key"))
			heap := peakHeap(b)
			for b.Loop() {
				file, err := os.Create(o.path("log"))
				if err != nil {
					b.Fatal(err)
				}
				start := time.Now()
				code := gatewayd.Run(b.Context(), []string{"audit", "export", "--with-checkpoint", o.path("checkpoint")}, o.env, nil, file, io.Discard)
				if err := file.Close(); code != 0 || err != nil {
					b.Fatalf("export: exit %d, %v", code, err)
				}
				b.ReportMetric(time.Since(start).Seconds(), "s/export")
				start = time.Now()
				if code, _, err := o.offline("audit", "verify", o.path("log"), "--checkpoint", o.path("checkpoint"), "--key", key); code != 0 {
					b.Fatalf("verify: exit %d, %s", code, err)
				}
				b.ReportMetric(time.Since(start).Seconds(), "s/verify")
			}
			b.ReportMetric(float64(heap())/(1<<20), "MiB-heap")
		})
	}
}

// peakHeap samples the heap until it is asked for the most that it saw.
func peakHeap(b *testing.B) (most func() uint64) {
	stop, result := make(chan struct{}), make(chan uint64)
	runtime.GC()
	go func() {
		var peak uint64
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapInuse)
			select {
			case <-stop:
				result <- peak
				return
			case <-tick.C:
			}
		}
	}()
	return func() uint64 { close(stop); return <-result }
}
