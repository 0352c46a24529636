package sheet_test

import (
	"encoding/csv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/audit/sheet"
)

func TestCell(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                     "",
		"main":                 "main",
		"release/1.0-rc=2+x@y": "release/1.0-rc=2+x@y",
		"2026-11-23T09:30:00Z": "2026-11-23T09:30:00Z",
		"12 15 16":             "12 15 16",
		"=1+1":                 "'=1+1",
		"+1":                   "'+1",
		"-1":                   "'-1",
		"@SUM(A1)":             "'@SUM(A1)",
		"\t=1":                 " '=1",
		"\r=1":                 " '=1",
		"  =1":                 "  '=1",
		"\u00a0=1":             "\u00a0'=1",
		"＝1":                   "'＝1",
		"a;=1":                 "a;'=1",
		`a; "=1`:               `a; "'=1`,
		"a\r\nb\tc":            "a  b c",
		"a\x00b\x1b[31mc\x7f":  "a\ufffdb\ufffd[31mc\ufffd",
		"user\u202etxt.exe":    "user\ufffdtxt.exe",
		"\u200b=1":             "\ufffd=1",
		"bad\xff":              "bad\ufffd",
		"Zoë ☃ 漢字, \"quoted\"": "Zoë ☃ 漢字, \"quoted\"",
	} {
		if got := sheet.Cell(in); got != want {
			t.Errorf("Cell(%q): got %q; want %q", in, got, want)
		}
	}
}

func TestWriter(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	w := sheet.NewWriter(&out)
	for _, row := range [][]string{{"app", "reason"}, {"myapp", "=cmd|' /C calc'!A0"}, {"a,b", "say \"no\"\nthen"}} {
		if err := w.Row(row...); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	want := "app,reason\nmyapp,'=cmd|' /C calc'!A0\n\"a,b\",\"say \"\"no\"\" then\"\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("CSV (-want +got):\n%s", diff)
	}
}

// Whatever goes in, a row of two cells comes out as one line of two cells, none
// of which a spreadsheet takes for a formula, whichever separator it goes by.
func FuzzCell(f *testing.F) {
	for _, s := range []string{"", "main", "=1+1", " \t\r=1", "a;=1", "\u202e", "\"=1\"", "＝x", "\xff=", "a;\"\";  @x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		cell := sheet.Cell(s)
		if !utf8.ValidString(cell) {
			t.Fatalf("%q: not valid UTF-8", cell)
		}
		for _, r := range cell {
			if unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) {
				t.Fatalf("%q holds %U", cell, r)
			}
		}
		for part := range strings.SplitSeq(cell, ";") {
			if bare := strings.TrimLeftFunc(part, unicode.IsSpace); bare != "" && strings.ContainsRune("=+-@＝＋－＠", []rune(bare)[0]) {
				t.Fatalf("%q begins a formula", part)
			}
		}
		if again := sheet.Cell(cell); again != cell {
			t.Fatalf("%q becomes %q the second time", cell, again)
		}
		var out strings.Builder
		w := sheet.NewWriter(&out)
		if err := w.Row("x", s); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		if strings.Count(out.String(), "\n") != 1 {
			t.Fatalf("%q is not one line", out.String())
		}
		rows, err := csv.NewReader(strings.NewReader(out.String())).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([][]string{{"x", cell}}, rows); diff != "" {
			t.Fatalf("read back (-want +got):\n%s", diff)
		}
	})
}
