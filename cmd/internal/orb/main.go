// Command orb packs the orb of circleci/orb/src into the one file that CircleCI
// takes, circleci/orb.yml:
//
//	go run ./cmd/internal/orb
//
// It writes what "circleci orb pack" would: the sections commands, executors,
// jobs and examples hold one file each per name, and scripts are included. It
// works on text, so that comments and the order of lines stay.
package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

func main() {
	if err := run(filepath.Join("circleci", "orb", "src"), filepath.Join("circleci", "orb.yml")); err != nil {
		fmt.Fprintln(os.Stderr, "orb:", err)
		os.Exit(1)
	}
}

func run(src, packed string) error {
	text, err := pack(os.DirFS(src))
	if err != nil {
		return err
	}
	return os.WriteFile(packed, text, 0o644)
}

// pack makes one orb of its sources: @orb.yml, SECTION/NAME.yml and scripts.
func pack(src fs.FS) ([]byte, error) {
	var out bytes.Buffer
	out.WriteString("# Packed from circleci/orb/src: edit there, then run go run ./cmd/internal/orb.\n")
	head, err := fs.ReadFile(src, "@orb.yml")
	if err != nil {
		return nil, err
	}
	out.Write(head)
	for _, section := range []string{"commands", "executors", "jobs", "examples"} {
		files, err := fs.Glob(src, section+"/*.yml") // sorted by name
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&out, "\n%s:\n", section)
		for _, file := range files {
			text, err := fs.ReadFile(src, file)
			if err != nil {
				return nil, err
			}
			if text, err = include(src, text); err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			fmt.Fprintf(&out, "  %s:\n%s", strings.TrimSuffix(path.Base(file), ".yml"), indent(4, text))
		}
	}
	return out.Bytes(), nil
}

// included is a value that is the text of a file.
var included = regexp.MustCompile(`(?m)^( *)(\w+): << include\(([\w./-]+)\) >>$`)

// include puts scripts in as block scalars.
func include(src fs.FS, text []byte) (_ []byte, err error) {
	text = included.ReplaceAllFunc(text, func(line []byte) []byte {
		m := included.FindSubmatch(line)
		script, failed := fs.ReadFile(src, string(m[3]))
		switch {
		case failed != nil:
			err = failed
		case bytes.Contains(script, []byte("<<")):
			// CircleCI would take it for a parameter.
			err = fmt.Errorf("%s contains <<", m[3])
		case !bytes.HasPrefix(script, []byte("#!")) || !bytes.HasSuffix(script, []byte("\n")):
			err = fmt.Errorf("%s has no #! at its start or no line end at its end", m[3])
		}
		return fmt.Appendf(nil, "%s%s: |\n%s", m[1], m[2], bytes.TrimSuffix(indent(len(m[1])+2, script), []byte("\n")))
	})
	return text, err
}

// indent moves all lines to the right but the empty ones.
func indent(by int, text []byte) []byte {
	var out bytes.Buffer
	for line := range bytes.Lines(text) {
		if len(bytes.TrimSpace(line)) > 0 {
			out.WriteString(strings.Repeat(" ", by))
		}
		out.Write(line)
	}
	return out.Bytes()
}
