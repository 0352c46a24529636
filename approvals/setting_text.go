package approvals

import (
	"errors"
	"regexp"
	"strings"
	"unicode"
)

// CleanValue returns the value of a variable, or the text of a file that holds one,
// without the blanks, line ends and byte order mark around it. A value that begins
// with a quote is an error, which does not repeat the value: Docker's --env-file,
// Kubernetes and others take the quotes of what was written for a part of it.
func CleanValue(text string) (string, error) {
	text = strings.TrimFunc(text, func(r rune) bool { return unicode.IsSpace(r) || r == '\ufeff' })
	if strings.HasPrefix(text, `"`) || strings.HasPrefix(text, `'`) {
		return "", errors.New("is in quotes: write the value without them")
	}
	return text, nil
}

// serviceLink has the names of
// https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
var serviceLink = regexp.MustCompile(`^[A-Z][A-Z0-9_]*_(PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?|SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?)$`)

// ServiceLink reports whether Kubernetes makes variables of this name for the
// services of a namespace. A service "rgw-app" makes RGW_APP_PORT, which is no
// setting of an app.
func ServiceLink(name string) bool { return serviceLink.MatchString(name) }
