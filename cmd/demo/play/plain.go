package main

import (
	"regexp"
	"strconv"
	"strings"
	"time"
)

// marked is Slack's markup where [slacktest.Text] shows that it is live.
var marked = regexp.MustCompile(`⟦<([^<>]*)>⟧`)

// plain turns what Slack would show as names, times and links into text: people by
// name, times in this machine's zone.
func plain(text string) string {
	return marked.ReplaceAllStringFunc(text, func(token string) string {
		target, label, _ := strings.Cut(marked.FindStringSubmatch(token)[1], "|")
		kind, rest, _ := strings.Cut(target, "^")
		switch {
		case strings.HasPrefix(target, "@"):
			if who, ok := someone(target[1:]); ok {
				return "@" + who.Name
			}
			return target
		case kind == "!date":
			return localDate(rest, label)
		case label != "":
			return label
		}
		return target
	})
}

var datePart = regexp.MustCompile(`\{[a-z_]+\}`)

// localDate renders "seconds^format", as Slack does in everybody's own zone.
// Source: https://docs.slack.dev/messaging/formatting-message-text#date-formatting
func localDate(spec, fallback string) string {
	seconds, format, _ := strings.Cut(spec, "^")
	format, _, _ = strings.Cut(format, "^") // a link may follow
	n, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return fallback
	}
	at, now := time.Unix(n, 0), time.Now()
	day := at.Format("Mon 2 Jan")
	for name, d := range map[string]int{"yesterday": -1, "today": 0, "tomorrow": 1} {
		if at.Format(time.DateOnly) == now.AddDate(0, 0, d).Format(time.DateOnly) {
			day = name
		}
	}
	return datePart.ReplaceAllStringFunc(format, func(part string) string {
		switch {
		case strings.HasPrefix(part, "{time_secs"):
			return at.Format("15:04:05")
		case strings.HasPrefix(part, "{time"):
			return at.Format("15:04")
		}
		return day
	})
}
