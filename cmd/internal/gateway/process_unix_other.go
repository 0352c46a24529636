//go:build unix && !linux

package gateway

// adoptOrphans does nothing: only Linux and FreeBSD let orphans be adopted. Their
// end is polled for instead, see awaitGroup.
func adoptOrphans() {}

// guardMemory does nothing: without /proc one process of a user cannot read
// another's memory without being a debugger.
func guardMemory() {}

// lendTerminal leaves the terminal with us. Ctrl-C reaches us, and the relay
// hands it on once.
func (c *program) lendTerminal(int) func() { return func() {} }
