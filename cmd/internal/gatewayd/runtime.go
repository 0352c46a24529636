package gatewayd

import (
	"os"
	"runtime"
	"strconv"
	"strings"
)

// ofRuntime are the metrics of the Go runtime and of the process, under the names that
// the libraries of Prometheus give them.
func ofRuntime() []*family {
	var found []*family
	one := func(name, kind, help string, v float64) {
		f := newFamily(name, kind, help, nil)
		f.set(v)
		found = append(found, f)
	}
	info := newFamily("go_info", gauge, "Information about the Go environment.", nil, "version")
	info.set(1, runtime.Version())
	found = append(found, info)
	threads, _ := runtime.ThreadCreateProfile(nil)
	one("go_goroutines", gauge, "Number of goroutines that currently exist.", float64(runtime.NumGoroutine()))
	one("go_threads", gauge, "Number of OS threads created.", float64(threads))
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	one("go_gc_cycles_total", counter, "Number of garbage collections since the start.", float64(m.NumGC))
	one("go_memstats_alloc_bytes_total", counter, "Total number of bytes allocated in heap, even if freed.", float64(m.TotalAlloc))
	one("go_memstats_heap_alloc_bytes", gauge, "Number of heap bytes allocated and currently in use.", float64(m.HeapAlloc))
	one("go_memstats_heap_inuse_bytes", gauge, "Number of heap bytes that are in use.", float64(m.HeapInuse))
	one("go_memstats_heap_idle_bytes", gauge, "Number of heap bytes waiting to be used.", float64(m.HeapIdle))
	one("go_memstats_heap_released_bytes", gauge, "Number of heap bytes released to OS.", float64(m.HeapReleased))
	one("go_memstats_heap_objects", gauge, "Number of currently allocated objects.", float64(m.HeapObjects))
	one("go_memstats_stack_inuse_bytes", gauge, "Number of bytes in use by the stack allocator.", float64(m.StackInuse))
	one("go_memstats_sys_bytes", gauge, "Number of bytes obtained from system.", float64(m.Sys))
	one("go_memstats_next_gc_bytes", gauge, "Number of heap bytes when next garbage collection will take place.", float64(m.NextGC))
	one("go_memstats_last_gc_time_seconds", gauge, "Number of seconds since 1970 of last garbage collection.", float64(m.LastGC)/1e9)
	ofProcess(one)
	return found
}

// ticks is in how many parts of a second Linux counts the time of processes, whatever
// the kernel's own clock does: sysconf(_SC_CLK_TCK).
const ticks = 100

// ofProcess tells what Linux says of this process, see proc_pid_stat(5). Elsewhere
// there is nothing to be read.
func ofProcess(one func(name, kind, help string, v float64)) {
	stat, _ := os.ReadFile("/proc/self/stat")
	// The second field is the name of the program, which may hold blanks.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 22 {
		return
	}
	field := func(n int) float64 { return number(fields[n-3]) }
	one("process_cpu_seconds_total", counter, "Total user and system CPU time spent in seconds.", (field(14)+field(15))/ticks)
	one("process_virtual_memory_bytes", gauge, "Virtual memory size in bytes.", field(23))
	one("process_resident_memory_bytes", gauge, "Resident memory size in bytes.", field(24)*float64(os.Getpagesize()))
	if boot, ok := entry("/proc/stat", "btime "); ok {
		one("process_start_time_seconds", gauge, "Start time of the process since unix epoch in seconds.", boot+field(22)/ticks)
	}
	if most, ok := entry("/proc/self/limits", "Max open files "); ok {
		one("process_max_fds", gauge, "Maximum number of open file descriptors.", most)
	}
	if open, err := os.ReadDir("/proc/self/fd"); err == nil {
		one("process_open_fds", gauge, "Number of open file descriptors.", float64(len(open)-1)) // but that of the directory
	}
}

// entry is the first number of the line of a file that begins with name.
func entry(file, name string) (v float64, ok bool) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name); ok && strings.TrimSpace(rest) != "" {
			return number(strings.Fields(rest)[0]), true
		}
	}
	return 0, false
}

// number is 0 for what is no number, such as "unlimited".
func number(text string) float64 {
	v, _ := strconv.ParseFloat(text, 64)
	return v
}
