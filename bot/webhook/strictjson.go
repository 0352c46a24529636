package webhook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

const (
	maxDepth = 16
	// bodyField names the body as a whole in errors[].
	bodyField = "body"
)

// object is one decoded JSON object whose members are not decoded yet.
type object map[string]json.RawMessage

// parseObject reads the one JSON object that a body must be. encoding/json
// alone would take the last of two equal keys, match keys whatever their case,
// replace invalid UTF-8 and ignore a second document: two readers of one body
// could then see two different requests.
func parseObject(body []byte, known ...string) (object, *approvals.Error) {
	if fault := checkJSON(body); fault != nil {
		return nil, invalid(*fault)
	}
	var members object
	if err := json.Unmarshal(body, &members); err != nil || members == nil {
		return nil, invalid(approvals.FieldError{Field: bodyField, Detail: "must be a JSON object"})
	}
	var faults []approvals.FieldError
	for _, key := range slices.Sorted(maps.Keys(members)) {
		if !slices.Contains(known, key) {
			faults = append(faults, approvals.FieldError{Field: shown(key), Detail: "is not a field of this call"})
		}
	}
	if len(faults) > 0 {
		return nil, invalid(faults...)
	}
	return members, nil
}

// checkJSON refuses what is not one JSON value, nested at most 16 deep, in
// valid UTF-8, with keys that differ in more than their spelling.
func checkJSON(body []byte) *approvals.FieldError {
	fault := func(format string, args ...any) *approvals.FieldError {
		return &approvals.FieldError{Field: bodyField, Detail: fmt.Sprintf(format, args...)}
	}
	if !utf8.Valid(body) {
		return fault("must be valid UTF-8")
	}
	if !json.Valid(body) {
		return fault("must be one JSON document")
	}
	type level struct {
		keys  map[string]bool // nil in an array
		value bool            // a value comes next, not a key
	}
	var open []level
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	for {
		token, err := dec.Token()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fault("must be one JSON document")
		}
		top := len(open) - 1
		switch token {
		case json.Delim('{'), json.Delim('['):
			if len(open) == maxDepth {
				return fault("must not be nested deeper than %d", maxDepth)
			}
			if top >= 0 {
				open[top].value = false
			}
			l := level{}
			if token == json.Delim('{') {
				l.keys = map[string]bool{}
			}
			open = append(open, l)
			continue
		case json.Delim('}'), json.Delim(']'):
			open = open[:top]
			continue
		}
		if top < 0 || open[top].keys == nil {
			continue
		}
		if open[top].value {
			open[top].value = false
			continue
		}
		key, _ := token.(string)
		folded := fold(key)
		if open[top].keys[folded] {
			return &approvals.FieldError{Field: shown(key), Detail: "stands more than once in an object (upper and lower case count as the same)"}
		}
		open[top].keys[folded] = true
		open[top].value = true
	}
}

// fold maps all spellings of a key that encoding/json takes for the same one
// to one text: ASCII case, and look-alikes such as the Kelvin sign.
func fold(key string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
			least = min(least, next)
		}
		return least
	}, key)
}

// shown makes a key that came from outside fit to be repeated.
func shown(key string) string {
	const most = 64
	if runes := []rune(key); len(runes) > most {
		key = string(runes[:most]) + "…"
	}
	quoted := strconv.QuoteToGraphic(key)
	return quoted[1 : len(quoted)-1]
}
