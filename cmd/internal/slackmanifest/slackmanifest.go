// Package slackmanifest renders the manifest of the Slack app: for Socket Mode
// as in manifest.yml at the top of the repository, or for HTTP request URLs.
//
// It does not talk to Slack: the operator pastes the text at
// https://api.slack.com/apps. What a manifest cannot hold is set there: the
// app-level token of Socket Mode, the signing secret and the icon.
package slackmanifest

import (
	"bytes"
	_ "embed"
	"errors"
	"net/url"
	"regexp"
	"strings"
)

// source is the manifest of both modes. A line that begins with the name of a mode in
// brackets is for that mode alone, and BASE stands for the base of the URLs.
//
//go:embed manifest.yml.in
var source string

// maxBase leaves room for our paths below the 3,000 characters that Slack
// allows for the URL of a slash command.
const maxBase = 2900

// basePattern keeps to characters that mean nothing to YAML inside quotes.
var basePattern = regexp.MustCompile(`^https://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._~/-]*)?$`)

// Socket renders the manifest for Socket Mode.
func Socket() []byte { return render("") }

// HTTP renders the manifest for request URLs below base, such as
// https://gate.example.com. Slack calls only https addresses.
func HTTP(base string) ([]byte, error) {
	base = strings.TrimRight(base, "/")
	u, err := url.Parse(base)
	if err != nil || u.Hostname() == "" || len(base) > maxBase || !basePattern.MatchString(base) {
		return nil, errors.New("the base must be an https URL without user, query and fragment, such as https://gate.example.com")
	}
	return render(base), nil
}

// render keeps the lines of the source that are for both modes, and those of the mode.
// With a base that is HTTP.
func render(base string) []byte {
	ours, others := "[socket]", "[http]"
	if base != "" {
		ours, others = others, ours
	}
	var out bytes.Buffer
	for line := range strings.Lines(source) {
		if !strings.HasPrefix(line, others) {
			out.WriteString(strings.ReplaceAll(strings.TrimPrefix(line, ours), "BASE", base))
		}
	}
	return out.Bytes()
}
