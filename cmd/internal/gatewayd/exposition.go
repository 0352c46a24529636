package gatewayd

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// The types of metrics.
const (
	counter   = "counter"
	gauge     = "gauge"
	histogram = "histogram"
)

// family is one metric with the values of its labels, as the text format of Prometheus
// has it: https://prometheus.io/docs/instrumenting/exposition_formats/. Prometheus's own
// library would bring Protocol Buffers and 2.3 MB of program along.
type family struct {
	name, kind, help string
	labels           []string
	bounds           []float64 // of a histogram's buckets, ascending

	mu     sync.Mutex
	series map[string]*series // by the labels as they are written, without braces
}

// series is what was counted for one set of labels.
type series struct {
	value  float64  // of a histogram: the sum of what was observed
	counts []uint64 // how much of that was at most each bound
	count  uint64   // how much that was in all
}

// newFamily makes a metric. One without labels has its value from the start.
func newFamily(name, kind, help string, bounds []float64, labels ...string) *family {
	f := &family{name: name, kind: kind, help: help, bounds: bounds, labels: labels}
	f.reset()
	return f
}

// reset forgets all values.
func (f *family) reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.series = map[string]*series{}
	if len(f.labels) == 0 {
		f.at(nil)
	}
}

// set sets a gauge. The values are those of the labels, in the same order.
func (f *family) set(v float64, values ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at(values).value = v
}

// add adds to a counter.
func (f *family) add(v float64, values ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at(values).value += v
}

// observe adds to a histogram.
func (f *family) observe(v float64, values ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.at(values)
	for i, bound := range f.bounds {
		if v <= bound {
			s.counts[i]++
		}
	}
	s.count++
	s.value += v
}

// at is the series of some values of the labels.
func (f *family) at(values []string) *series {
	var b strings.Builder
	for i, label := range f.labels {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(label + `="` + escape(values[i]) + `"`)
	}
	s := f.series[b.String()]
	if s == nil {
		s = &series{counts: make([]uint64, len(f.bounds))}
		f.series[b.String()] = s
	}
	return s
}

// escape has a label's value as it is written between quotes.
func escape(value string) string {
	return strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`).Replace(strings.ToValidUTF8(value, "\uFFFD"))
}

// write writes the metric, unless it has no values yet.
func (f *family) write(b *bytes.Buffer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.series) == 0 {
		return
	}
	fmt.Fprintf(b, "# HELP %s %s\n# TYPE %s %s\n", f.name, f.help, f.name, f.kind)
	for _, labels := range slices.Sorted(maps.Keys(f.series)) {
		s := f.series[labels]
		if f.kind != histogram {
			line(b, f.name, labels, decimal(s.value))
			continue
		}
		comma := ""
		if labels != "" {
			comma = ","
		}
		for i, bound := range f.bounds {
			line(b, f.name+"_bucket", labels+comma+`le="`+decimal(bound)+`"`, strconv.FormatUint(s.counts[i], 10))
		}
		line(b, f.name+"_bucket", labels+comma+`le="+Inf"`, strconv.FormatUint(s.count, 10))
		line(b, f.name+"_sum", labels, decimal(s.value))
		line(b, f.name+"_count", labels, strconv.FormatUint(s.count, 10))
	}
}

func line(b *bytes.Buffer, name, labels, value string) {
	if labels != "" {
		labels = "{" + labels + "}"
	}
	b.WriteString(name + labels + " " + value + "\n")
}

func decimal(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
