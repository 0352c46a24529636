// Command demo plays the whole product on loopback: a simulated Slack and a
// simulated CircleCI with the real daemon and the real client between them. It
// needs no accounts and leaves nothing behind.
//
// This program compiles the demo proper, package play, and becomes it: to compile
// SQLite takes minutes once, and somebody who waits wants to know for what.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

const program = "github.com/rack-gateway/rack-gateway-approvals/cmd/demo/play"

// patience is how long nothing is said: a second run compiles nothing.
const patience = 2 * time.Second

func main() {
	code, err := run(os.Args[1:], os.Stderr)
	if err != nil {
		fmt.Fprintf(os.Stderr, "demo: %v\n", err)
	}
	os.Exit(code)
}

// run compiles the demo, runs it and returns its exit code.
func run(args []string, stderr io.Writer) (int, error) {
	// Ctrl-C reaches the whole foreground group; SIGTERM only us.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	dir, err := os.MkdirTemp("", "rack-gateway-demo-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "demo")
	began := time.Now()
	waiting := time.AfterFunc(patience, func() {
		fmt.Fprintln(stderr, "Compiling the demo. The first time this takes one to three minutes, most of it for SQLite, which is part of the daemon; later starts take seconds.")
	})
	compile := exec.Command("go", "build", "-o", binary, program)
	compile.Stdout, compile.Stderr = stderr, stderr
	if code, err := pass(compile, caught); err != nil || code != 0 {
		return 1, errors.Join(err, errors.New("the demo was not compiled"))
	}
	if !waiting.Stop() {
		fmt.Fprintf(stderr, "Compiled in %s.\n", time.Since(began).Round(time.Second))
	}
	demo := exec.Command(binary, args...)
	demo.Stdin, demo.Stdout, demo.Stderr = os.Stdin, os.Stdout, os.Stderr
	return pass(demo, caught)
}

// pass runs a command, which gets our signals, and returns its exit code.
func pass(cmd *exec.Cmd, caught <-chan os.Signal) (int, error) {
	if err := cmd.Start(); err != nil {
		return 1, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case s := <-caught:
			if s != os.Interrupt {
				_ = cmd.Process.Signal(s) // it may have ended
			}
		case err := <-ended:
			var failed *exec.ExitError
			if err != nil && !errors.As(err, &failed) {
				return 1, err
			}
			return cmd.ProcessState.ExitCode(), nil
		}
	}
}
