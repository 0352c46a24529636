//go:build unix

package gateway

import (
	"encoding/json"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// envHidden names the pipe that hands the hidden variables to the program that
// runs in our place.
const envHidden = "RACK_GATEWAY_HIDDEN_FD"

// mostHidden fits into every system's pipe, so that writing never waits for a
// reader.
const mostHidden = 4096

// hide takes the tokens and the proxy, which may hold a password, out of
// this process's environment, and returns the whole environment.
//
// Unsetting a variable would not do: the environment that a process started
// with stays in its memory, and /proc/PID/environ shows it to every process of
// the same user, so also to the command that deploy runs. Only an exec makes a
// new one. So the program puts the variables into a pipe and executes itself
// without them; it keeps its process id, and nobody else ever holds the pipe.
// If that is not possible, everything goes on as before: guardMemory alone then
// stands before /proc.
func hide(env []string) []string {
	if fd, rest, ok := hiddenPipe(env); ok {
		return append(rest, readHidden(fd)...)
	}
	secret, rest := split(env, func(name string) bool { return name == envToken || name == envOIDCToken || name == envProxy })
	text, err := json.Marshal(secret)
	if len(secret) == 0 || err != nil || len(text) > mostHidden {
		return env
	}
	program, err := os.Executable()
	if err != nil {
		return env
	}
	var pipe [2]int
	if err := unix.Pipe(pipe[:]); err != nil { // without close-on-exec, for the next program
		return env
	}
	unix.CloseOnExec(pipe[1])
	if _, err := unix.Write(pipe[1], text); err == nil {
		// It only returns with an error.
		_ = unix.Exec(program, os.Args, append(rest, envHidden+"="+strconv.Itoa(pipe[0])))
	}
	_ = unix.Close(pipe[0])
	_ = unix.Close(pipe[1])
	return env
}

// hiddenPipe finds the pipe that hide left for us.
func hiddenPipe(env []string) (fd int, rest []string, ok bool) {
	own, rest := split(env, func(name string) bool { return name == envHidden })
	if len(own) != 1 {
		return 0, nil, false
	}
	fd, err := strconv.Atoi(strings.TrimPrefix(own[0], envHidden+"="))
	var stat unix.Stat_t
	if err != nil || fd < 3 || unix.Fstat(fd, &stat) != nil || stat.Mode&unix.S_IFMT != unix.S_IFIFO {
		return 0, nil, false
	}
	return fd, rest, true
}

func readHidden(fd int) []string {
	unix.CloseOnExec(fd)
	pipe := os.NewFile(uintptr(fd), "hidden")
	defer pipe.Close()
	text, err := io.ReadAll(io.LimitReader(pipe, mostHidden))
	var secret []string
	if err != nil || json.Unmarshal(text, &secret) != nil {
		return nil
	}
	return secret
}
