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
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"text/template"
)

//go:embed manifest.yml.tmpl
var source string

// maxBase leaves room for our paths below the 3,000 characters that Slack
// allows for the URL of a slash command.
const maxBase = 2900

// basePattern keeps to characters that mean nothing to YAML inside quotes.
var basePattern = regexp.MustCompile(`^https://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._~/-]*)?$`)

// Socket renders the manifest for Socket Mode.
func Socket() ([]byte, error) { return render("") }

// HTTP renders the manifest for request URLs below base, such as
// https://gate.example.com. Slack calls only https addresses.
func HTTP(base string) ([]byte, error) {
	base = strings.TrimRight(base, "/")
	u, err := url.Parse(base)
	if err != nil || u.Hostname() == "" || len(base) > maxBase || !basePattern.MatchString(base) {
		return nil, errors.New("the base must be an https URL without user, query and fragment, such as https://gate.example.com")
	}
	return render(base)
}

func render(base string) ([]byte, error) {
	t, err := template.New("manifest.yml").Option("missingkey=error").Parse(source)
	if err != nil {
		return nil, fmt.Errorf("parse manifest: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, struct{ Base string }{base}); err != nil {
		return nil, fmt.Errorf("render manifest: %w", err)
	}
	return out.Bytes(), nil
}
