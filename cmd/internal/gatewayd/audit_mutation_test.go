package gatewayd_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var firstBad = regexp.MustCompile(`first bad sequence number (\d+)`)

// 1,000 random changes, deletions, insertions, swaps and cuts of an export are
// found, and the first bad sequence number is named. Where nothing tells which of
// two leaves that contradict each other was changed, it is that of the second.
func TestEveryMutationOfAnExportIsFound(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	o.events(40)
	intact := []byte(o.must("audit", "export", "--with-checkpoint", o.path("checkpoint")))
	key := strings.TrimSpace(o.must("audit", "key"))
	lines := bytes.SplitAfter(bytes.TrimSuffix(intact, []byte("\n")), []byte("\n"))
	lines[len(lines)-1] = append(bytes.Clone(lines[len(lines)-1]), '\n')
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 1000 {
		l := slices.Clone(lines)
		k := random.IntN(len(l))
		low, high := k, k
		kind := []string{"byte", "delete", "double", "forge", "swap", "cut", "tear"}[i%7]
		switch kind {
		case "byte":
			line := bytes.Clone(l[k])
			line[random.IntN(len(line))] ^= byte(1 + random.IntN(255))
			l[k] = line
			high = shown(k, len(l))
		case "delete":
			l = slices.Delete(l, k, k+1)
		case "double":
			l = slices.Insert(l, k, lines[random.IntN(len(lines))])
			high = k + 1
		case "forge":
			l[k] = bytes.Replace(l[k], []byte(`"v":1`), []byte(`"v":2`), 1)
			high = shown(k, len(l))
		case "swap":
			j := (k + 1 + random.IntN(len(l)-1)) % len(l)
			l[k], l[j] = l[j], l[k]
			low, high = min(k, j), min(k, j)
		case "cut":
			l = l[:k]
		case "tear":
			l = append(slices.Clone(l[:k]), l[k][:random.IntN(len(l[k])-1)+1])
			if len(l[k]) == len(lines[k]) {
				l[k] = l[k][:len(l[k])-1]
			}
		}
		file := o.write("mutant", string(bytes.Join(l, nil)))
		code, out, errs := o.offline("audit", "verify", file, "--checkpoint", o.path("checkpoint"), "--key", key)
		found := firstBad.FindStringSubmatch(errs)
		if code != 1 || found == nil || out != "" {
			t.Fatalf("%s at %d: got exit %d, %s%s; want exit 1 and the first bad sequence number", kind, k, code, out, errs)
		}
		if seq, _ := strconv.Atoi(found[1]); seq < low || seq > high {
			t.Fatalf("%s at %d: got %s; want %d to %d", kind, k, errs, low, high)
		}
	}
}

// shown is the greatest number that may be named for line k of n when its text
// was changed: without two lines after it, nothing vouches for the next one.
func shown(k, n int) int {
	if k+2 < n {
		return k
	}
	return k + 1
}

// Whoever writes into the database file changes what is exported; a checkpoint
// in other hands finds it.
func TestEveryMutationOfTheDatabaseIsFound(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	const n = 24
	o.events(n)
	key := strings.TrimSpace(o.must("audit", "key"))
	o.write("kept", o.must("audit", "checkpoint"))
	unguard := []string{}
	for _, table := range []string{"audit", "audit_hashes", "audit_index"} {
		unguard = append(unguard, "DROP TRIGGER "+table+"_no_update", "DROP TRIGGER "+table+"_no_delete")
	}
	o.raw("db", append(unguard, "PRAGMA wal_checkpoint(TRUNCATE)")...)
	o.copyDatabase("db", "intact")

	rounds := 1000
	if testing.Short() {
		rounds = 60
	}
	random := rand.New(rand.NewPCG(3, 4))
	refused := 0
	for i := range rounds {
		o.copyDatabase("intact", "db")
		k := random.IntN(n)
		want, or := k, k
		var statements []string
		kind := []string{"change", "byte", "delete", "swap", "renumber", "cut", "copy"}[i%7]
		switch kind {
		case "change":
			statements = []string{fmt.Sprintf(`UPDATE audit SET line = replace(line, 'U0ANA', 'U0BEA') WHERE seq = %d`, k)}
		case "byte":
			statements = []string{fmt.Sprintf(`UPDATE audit SET line = substr(line, 1, %d) || char(1) || substr(line, %[1]d + 2) WHERE seq = %d`, 20+random.IntN(150), k)}
		case "delete":
			statements = []string{fmt.Sprintf("DELETE FROM audit WHERE seq = %d", k)}
		case "swap":
			j := (k + 1 + random.IntN(n-1)) % n
			want = min(k, j)
			statements = []string{
				fmt.Sprintf("UPDATE audit SET seq = 1000 WHERE seq = %d", k), fmt.Sprintf("UPDATE audit SET seq = %d WHERE seq = %d", k, j),
				fmt.Sprintf("UPDATE audit SET seq = %d WHERE seq = 1000", j),
			}
		case "renumber": // delete without a hole
			statements = []string{
				fmt.Sprintf("DELETE FROM audit WHERE seq = %d", k), fmt.Sprintf("UPDATE audit SET seq = -seq WHERE seq > %d", k),
				"PRAGMA ignore_check_constraints = 1", "UPDATE audit SET seq = -seq - 1 WHERE seq < 0",
			}
			statements = append([]string{"PRAGMA ignore_check_constraints = 1"}, statements...)
			if k == n-1 {
				continue // is a cut, and without its hashes
			}
		case "cut":
			// The export's own event stands at k then, and what was signed ends behind it.
			or = k + 1
			position := storedHashes(int64(k))
			statements = []string{
				fmt.Sprintf("DELETE FROM audit WHERE seq >= %d", k), fmt.Sprintf("DELETE FROM audit_index WHERE seq >= %d", k),
				fmt.Sprintf("DELETE FROM audit_hashes WHERE position >= %d", position),
			}
		case "copy":
			j := (k + 1 + random.IntN(n-1)) % n
			statements = []string{fmt.Sprintf("UPDATE audit SET line = (SELECT line FROM audit WHERE seq = %d) WHERE seq = %d", j, k)}
		}
		o.raw("db", statements...)

		code, out, errs := o.run("audit", "export")
		if code != 0 {
			// The log cannot be continued, so it is not read either.
			if kind == "delete" && !strings.Contains(errs, fmt.Sprintf("leaf %d is missing", k)) && k < n-1 {
				t.Fatalf("delete %d: got %s; want the missing leaf named", k, errs)
			}
			refused++
			continue
		}
		code, _, errs = o.offline("audit", "verify", o.write("mutant", out), "--checkpoint", o.path("kept"), "--key", key)
		found := firstBad.FindStringSubmatch(errs)
		if code != 1 || found == nil {
			t.Fatalf("%s at %d: got exit %d, %s; want exit 1 and the first bad sequence number", kind, k, code, errs)
		}
		if seq, _ := strconv.Atoi(found[1]); seq != want && seq != or {
			t.Fatalf("%s at %d: got %s; want %d", kind, k, errs, want)
		}
	}
	t.Logf("%d of %d were found by the export itself", refused, rounds)
}

// storedHashes is how many hashes RFC 6962 trees of n leaves have, one for each
// complete subtree.
func storedHashes(n int64) (count int64) {
	for ; n > 0; n >>= 1 {
		count += n
	}
	return count
}
