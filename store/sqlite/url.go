package sqlite

import (
	"errors"
	"strings"
)

// ParseURL reads a database URL "sqlite:PATH". The path may be relative. There
// are no parameters: the settings of the database are not for choice.
func ParseURL(url string) (path string, err error) {
	path, found := strings.CutPrefix(url, "sqlite:")
	switch {
	case !found:
		return "", errors.New("must be sqlite:PATH or postgres://…")
	case strings.ContainsAny(path, "?#"):
		return "", errors.New("must be sqlite:PATH without parameters")
	case strings.HasPrefix(path, "//"):
		return "", errors.New("must be sqlite:PATH without slashes before the path")
	case path == "", strings.HasSuffix(path, "/"):
		return "", errors.New("must be sqlite:PATH with the name of a file")
	case strings.ContainsRune(path, 0), path == ":memory:":
		return "", errors.New("must be sqlite:PATH with the name of a file on disk")
	}
	return path, nil
}
