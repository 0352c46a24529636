package sqlite

import (
	"strings"
	"testing"
)

func TestParseURL(t *testing.T) {
	for _, tt := range []struct {
		url, want string
		bad       bool
	}{
		{url: "sqlite:rack-gateway.db", want: "rack-gateway.db"},
		{url: "sqlite:/data/rack-gateway.db", want: "/data/rack-gateway.db"},
		{url: "sqlite:a b%20c.db", want: "a b%20c.db"},
		{url: "", bad: true},
		{url: "sqlite:", bad: true},
		{url: "sqlite:/data/", bad: true},
		{url: "sqlite:///data/x.db", bad: true},
		{url: "sqlite::memory:", bad: true},
		{url: "sqlite:x.db?_synchronous=OFF", bad: true},
		{url: "sqlite:x.db#y", bad: true},
		{url: "sqlite:x\x00.db", bad: true},
		{url: "SQLITE:x.db", bad: true},
		{url: "postgres://u:secret@host/db", bad: true},
		{url: "rack-gateway.db", bad: true},
	} {
		got, err := ParseURL(tt.url)
		if got != tt.want || (err != nil) != tt.bad {
			t.Errorf("ParseURL(%q): got %q, %v; want %q, error %v", tt.url, got, err, tt.want, tt.bad)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("ParseURL(%q): the error repeats the URL: %v", tt.url, err)
		}
	}
}
