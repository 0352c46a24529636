package gatewayd_test

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
)

const readme = "../../../approvals/ledger/README.md"

// readmeCode takes the block of code out of the README that follows a marker.
func readmeCode(t *testing.T, marker string) string {
	t.Helper()
	text, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(text), "<!-- "+marker+" -->\n```")
	_, after, opened := strings.Cut(after, "\n")
	code, _, closed := strings.Cut(after, "\n```\n")
	if !found || !opened || !closed {
		t.Fatalf("%s has no code behind <!-- %s -->", readme, marker)
	}
	return code + "\n"
}

// The verifier that the README gives to auditors agrees with ours, on logs of
// every shape of tree and on damaged ones.
func TestVerifierOfTheREADME(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Log("no python3 here: the verifier of the README is not run")
		return
	}
	o := newOperator(t)
	script := o.write("verify.py", readmeCode(t, "verify.py"))
	o.events(0) // makes the database
	key := strings.TrimSpace(o.must("audit", "key"))
	agree := func(name, export, checkpoint string, intact bool) {
		t.Helper()
		file := o.write("log", export)
		code, said, errs := o.offline("audit", "verify", file, "--checkpoint", checkpoint, "--key", key)
		out, err := exec.CommandContext(t.Context(), python, script, file, checkpoint).CombinedOutput()
		if (code == 0) != intact || (err == nil) != intact {
			t.Errorf("%s: ours exit %d, %s%s; README's %v, %s; want intact %t of both", name, code, said, errs, err, out, intact)
		}
		if _, anchored, _ := strings.Cut(said, "; "); intact && !strings.HasSuffix(string(out), "; "+anchored) {
			t.Errorf("%s: got %s; want %s", name, out, anchored)
		}
	}
	for range 9 {
		o.events(1)
		agree("grown", o.must("audit", "export", "--with-checkpoint", o.path("checkpoint")), o.path("checkpoint"), true)
	}
	o.events(2)
	log := o.must("audit", "export")
	agree("not anchored", log, o.path("checkpoint"), true)
	lines := strings.SplitAfter(strings.TrimSuffix(log, "\n"), "\n")
	signed := strings.Join(lines[:18], "")
	agree("as signed", signed, o.path("checkpoint"), true)
	agree("cut", strings.Join(lines[:17], ""), o.path("checkpoint"), false)
	agree("empty", "", o.path("checkpoint"), false)
	agree("torn", strings.TrimSuffix(signed, "\n"), o.path("checkpoint"), false)
	agree("no first line", strings.Join(lines[1:], ""), o.path("checkpoint"), false)
	agree("changed", strings.Replace(signed, "number 0", "number 1", 1), o.path("checkpoint"), false)
	agree("last changed", signed[:len(signed)-20]+strings.Replace(signed[len(signed)-20:], "}", " }", 1), o.path("checkpoint"), false)
	agree("swapped", lines[1]+lines[0]+strings.Join(lines[2:], ""), o.path("checkpoint"), false)
	agree("twice", lines[0]+strings.Join(lines, ""), o.path("checkpoint"), false)
	agree("no JSON", "x\n"+signed, o.path("checkpoint"), false)
}

// What the README says to OpenSSL checks the signature.
func TestSignatureCheckOfTheREADME(t *testing.T) {
	t.Parallel()
	version, err := exec.CommandContext(t.Context(), "openssl", "version").Output()
	if err != nil || !bytes.HasPrefix(version, []byte("OpenSSL 3")) {
		t.Logf("no OpenSSL 3 here (%s): the README's check of the signature is not run", version)
		return
	}
	o := newOperator(t)
	o.events(0) // makes the database
	o.write("log.key", o.must("audit", "key"))
	o.events(3)
	checkpoint := o.must("audit", "checkpoint")
	code := readmeCode(t, "verify.sh")
	for text, want := range map[string]bool{checkpoint: true, strings.Replace(checkpoint, "\n3\n", "\n4\n", 1): false} {
		o.write("log.checkpoint", text)
		cmd := exec.CommandContext(t.Context(), "sh", "-ec", code)
		cmd.Dir = o.dir
		if out, err := cmd.CombinedOutput(); (err == nil) != want {
			t.Errorf("checkpoint\n%s got %v, %s; want accepted: %t", text, err, out, want)
		}
	}
}
