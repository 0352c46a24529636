package slackmanifest_test

import (
	"fmt"
	"strconv"
	"strings"
)

// yamlLine is a line that says something: its indentation and its text.
type yamlLine struct {
	indent int
	text   string
}

// parseYAML reads the part of YAML that the manifest keeps to: nested maps,
// lists of scalars or maps, plain and double-quoted scalars, comment lines.
// Anything else is an error, so that the manifest stays readable for it.
func parseYAML(text string) (any, error) {
	var lines []yamlLine
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		body := strings.TrimLeft(line, " ")
		if body == "" || strings.HasPrefix(body, "#") {
			continue
		}
		lines = append(lines, yamlLine{len(line) - len(body), body})
	}
	value, rest, err := parseBlock(lines)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("unexpected indentation: %q", rest[0].text)
	}
	return value, err
}

func parseBlock(lines []yamlLine) (any, []yamlLine, error) {
	if len(lines) == 0 {
		return nil, nil, fmt.Errorf("a block is empty")
	}
	if strings.HasPrefix(lines[0].text, "- ") {
		return parseList(lines)
	}
	return parseMap(lines)
}

func parseList(lines []yamlLine) (any, []yamlLine, error) {
	list, indent := []any{}, lines[0].indent
	for len(lines) > 0 && lines[0].indent == indent {
		item, ok := strings.CutPrefix(lines[0].text, "- ")
		if !ok {
			return nil, nil, fmt.Errorf("a list holds something else: %q", lines[0].text)
		}
		if !strings.Contains(item, ": ") {
			value, err := parseScalar(item)
			if err != nil {
				return nil, nil, err
			}
			list, lines = append(list, value), lines[1:]
			continue
		}
		lines[0] = yamlLine{indent + 2, item}
		value, rest, err := parseMap(lines)
		if err != nil {
			return nil, nil, err
		}
		list, lines = append(list, value), rest
	}
	return list, lines, nil
}

func parseMap(lines []yamlLine) (any, []yamlLine, error) {
	out, indent := map[string]any{}, lines[0].indent
	for len(lines) > 0 && lines[0].indent == indent {
		key, text, ok := strings.Cut(lines[0].text, ":")
		if _, twice := out[key]; !ok || twice || strings.ContainsAny(key, " \"") {
			return nil, nil, fmt.Errorf("not a key, or there twice: %q", lines[0].text)
		}
		lines = lines[1:]
		var err error
		switch {
		case text != "":
			out[key], err = parseScalar(strings.TrimPrefix(text, " "))
		case len(lines) > 0 && lines[0].indent > indent:
			out[key], lines, err = parseBlock(lines)
		default:
			err = fmt.Errorf("%s has no value", key)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	return out, lines, nil
}

func parseScalar(text string) (any, error) {
	if strings.HasPrefix(text, `"`) {
		return strconv.Unquote(text)
	}
	if text == "" || strings.ContainsAny(text[:1], "&*!|>%@`[]{}'#-?") || strings.Contains(text, ": ") || strings.Contains(text, " #") {
		return nil, fmt.Errorf("quote this scalar: %q", text)
	}
	if b, err := strconv.ParseBool(text); err == nil && len(text) > 1 {
		return b, nil
	}
	if n, err := strconv.Atoi(text); err == nil {
		return n, nil
	}
	return text, nil
}
