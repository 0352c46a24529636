package attack_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

func answered(w *world, args []string) (bool, error) {
	if got := strconv.Itoa(w.status); got != args[0] {
		return false, fmt.Errorf("got status %s; want %s", got, args[0])
	}
	return true, nil
}

// noApprovalInCircleCI checks that CircleCI was not asked to open the gate.
func noApprovalInCircleCI(w *world, _ *testscript.TestScript, args []string) error {
	f, err := w.flow(args[0])
	if err != nil {
		return err
	}
	if n := len(w.Circle.Approvals(f.workflow)); n != 0 {
		return fmt.Errorf("got %d approvals in CircleCI; want none", n)
	}
	return nil
}

// noApproval checks that nothing was approved: neither here nor in CircleCI.
func noApproval(w *world, _ *testscript.TestScript, args []string) error {
	if err := noApprovalInCircleCI(w, nil, args); err != nil {
		return err
	}
	f, err := w.flow(args[0])
	if err != nil || f.id == "" {
		return err
	}
	r, err := w.request(f)
	if n := len(r.Deciding()); err == nil && (n != 0 || !r.ApprovedAt.IsZero()) {
		err = fmt.Errorf("got %s with %d votes; want no approval", r.Status, n)
	}
	return err
}

// noRequest checks that nothing was stored or posted.
func noRequest(w *world, _ *testscript.TestScript, _ []string) error {
	var n int
	err := w.view(func(tx approvals.Tx) error {
		found, err := tx.Requests(approvals.Filter{})
		n = len(found)
		return err
	})
	if m := len(w.Slack.AllMessages(stage.Channel)); err == nil && (n != 0 || m != 0) {
		err = fmt.Errorf("got %d requests and %d messages; want none", n, m)
	}
	return err
}

// approvedOnce waits for the release: one decision, one effective POST.
func approvedOnce(w *world, _ *testscript.TestScript, args []string) error {
	f, err := w.flow(args[0])
	if err != nil {
		return err
	}
	if err := w.becomes(f, approvals.Released); err != nil {
		return err
	}
	took, decided := 0, 0
	for _, a := range w.Circle.Approvals(f.workflow) {
		if a.Took {
			took++
		}
	}
	events, err := w.events()
	for _, e := range events {
		if e.Request == f.id && e.Type.Approves() {
			decided++
		}
	}
	if err == nil && (took != 1 || decided != 1) {
		err = fmt.Errorf("got %d decisions and %d effective approvals; want one of each", decided, took)
	}
	return err
}

// logHas: log-has TYPE [at-least] [reason= outcome= actor=].
func logHas(w *world, _ *testscript.TestScript, args []string) (bool, error) {
	o, rest := options(args)
	least := 1
	if len(rest) > 1 {
		least, _ = strconv.Atoi(rest[1])
	}
	events, err := w.events()
	for _, e := range events {
		if string(e.Type) != rest[0] || o["reason"] != "" && e.Reason != o["reason"] ||
			o["outcome"] != "" && e.Outcome != o["outcome"] || o["actor"] != "" && e.Actor.ID != o["actor"] {
			continue
		}
		least--
	}
	return least <= 0, err
}

// jsonLog checks that the daemon's log is one JSON object per line.
func jsonLog(w *world, _ *testscript.TestScript, _ []string) error {
	for line := range strings.SplitSeq(strings.TrimSpace(w.log.String()), "\n") {
		if !json.Valid([]byte(line)) || strings.ContainsFunc(line, control) {
			return fmt.Errorf("log line %q", line)
		}
	}
	return nil
}

func control(r rune) bool {
	return r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069
}

// noControls checks what the last program printed.
func noControls(_ *world, ts *testscript.TestScript, _ []string) error {
	for _, stream := range []string{"stdout", "stderr"} {
		if text := ts.ReadFile(stream); strings.ContainsFunc(text, control) {
			return fmt.Errorf("controls in %s: %q", stream, text)
		}
	}
	return nil
}

// safeCSV checks that no cell that the last program printed is a formula.
func safeCSV(_ *world, ts *testscript.TestScript, _ []string) error {
	rows, err := csv.NewReader(bytes.NewReader([]byte(ts.ReadFile("stdout")))).ReadAll()
	for _, row := range rows {
		for _, cell := range row {
			if cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
				return fmt.Errorf("cell %q", cell)
			}
		}
	}
	if err == nil && len(rows) < 2 {
		err = errors.New("no rows")
	}
	return err
}

// checkMode: mode FILE 0600.
func checkMode(_ *world, _ *testscript.TestScript, args []string) error {
	info, err := os.Stat(args[0])
	if err == nil && fmt.Sprintf("%04o", info.Mode().Perm()) != args[1] {
		err = fmt.Errorf("got mode %04o; want %s", info.Mode().Perm(), args[1])
	}
	return err
}
