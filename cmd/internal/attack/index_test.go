package attack_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// proofs names what proves each row of the threat table: a script of this package, or
// "folder TestName" from the root of the repository.
var proofs = map[int][]string{
	1:  {"attack-01-stolen-ci-token", "cmd/internal/stage TestRevokedTokenStopsWorkingAtOnce"},
	2:  {"attack-02-token-beyond-its-role", "bot/webhook TestEveryRouteHasItsRoles"},
	3:  {"attack-03-stolen-slack-session"},
	4:  {"attack-04-not-an-admin", "attack-04-emergency-release", "cmd/internal/stage TestWhoMayNotApproveIsToldWhyAndNothingChanges"},
	5:  {"attack-05-own-deploy", "attack-05-own-deploy-in-an-emergency"},
	6:  {"attack-06-replayed-code"},
	7:  {"cmd/internal/attack TestGuessingEndsAtTheTwentiethFailure", "approvals/totp TestThrottleBoundsGuessing"},
	8:  {"attack-08-forged-slack", "bot TestSignature"},
	9:  {"attack-08-forged-slack", "cmd/internal/stage TestSameSubmissionTwiceIsOneDecision"},
	10: {"attack-10-foreign-workflow"},
	11: {"attack-10-foreign-workflow"},
	12: {"attack-12-changed-under-the-approval", "cmd/internal/stage TestChangedFactsCloseTheRequest"},
	13: {"attack-13-stale-request"},
	14: {"attack-14-race", "cmd/internal/stage TestTwentyAdminsDecideAtOnce"},
	15: {"attack-15-altered-payload"},
	16: {"attack-16-markup-and-links", "bot FuzzText"},
	17: {"attack-16-markup-and-links", "bot TestLinks"},
	18: {"attack-18-text-into-log-terminal-sheet", "approvals/audit/sheet FuzzCell"},
	19: {"cmd/internal/attack TestSecretsStayInside", "cmd/internal/attack TestSecretsInTheWrongPlaceAreNotRepeated"},
	20: {"attack-20-stolen-database", "store/sqlite TestFileModes", "cmd/internal/attack TestSecretsStayInside"},
	21: {"attack-21-swapped-rows", "store TestSeal"},
	22: {"attack-22-edited-log", "attack-22-forged-approval", "cmd/internal/gatewayd TestEveryMutationOfTheDatabaseIsFound"},
	23: {"attack-23-steered-calls", "circleci TestRedirectsStayOnTheHost"},
	24: {
		"cmd/internal/attack TestSlowClientsDoNotStopTheService", "cmd/internal/attack TestOversizedCallsAreRefused",
		"cmd/internal/attack TestIdleConnectionsDoNotStopTheService", "cmd/internal/attack TestStalledPostsTakeLittleMemory",
		"cmd/internal/attack TestRefusedClicksDoNotStopDecisions", "cmd/internal/attack TestSlowBodiesLeaveRoom", "cmd/internal/attack TestSlowExportsLeaveRoom",
	},
	25: {"cmd/internal/stage TestRequestDuringAnOutageOfSlackGetsItsCardAfterwards"},
	26: {"attack-26-circleci-refuses", "cmd/internal/stage TestReleaseThroughTroubleAtCircleCI"},
	27: {"attack-27-clock"},
	28: {"cmd/internal/proof TestCrashAfterEveryCommit", "cmd/internal/attack TestGuessingEndsAtTheTwentiethFailure"},
	29: {"cmd/internal/gatewayd TestRestoredBackup"},
	30: {"attack-30-somebody-else-says-approved"},
	31: {"attack-30-somebody-else-says-approved"},
	32: {"attack-32-nuisance-lock"},
	33: {"attack-33-enrolment-link", "bot/enroll TestHTTPSWantsAnOrigin", "cmd/internal/attack TestStrangersAreHeldBack"},
}

// TestEveryThreatHasATest fails when a row has no proof, or one that does not exist,
// and when a script proves nothing.
func TestEveryThreatHasATest(t *testing.T) {
	t.Parallel()
	const rows = 33 // 34, on dependencies and images, is checked where they are built
	used := []string{}
	for row := 1; row <= rows; row++ {
		if len(proofs[row]) == 0 {
			t.Errorf("threat %d: got no test", row)
		}
		for _, name := range proofs[row] {
			folder, test, ok := strings.Cut(name, " ")
			if !ok {
				used = append(used, name)
				if _, err := os.Stat(filepath.Join(scripts, name+".txtar")); err != nil {
					t.Errorf("threat %d: %v", row, err)
				}
				continue
			}
			if !declares(t, filepath.Join("../../..", folder), test) {
				t.Errorf("threat %d: got no %s in %s", row, test, folder)
			}
		}
	}
	files, err := filepath.Glob(filepath.Join(scripts, "*.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if name := strings.TrimSuffix(filepath.Base(file), ".txtar"); !slices.Contains(used, name) {
			t.Errorf("%s proves no threat", name)
		}
	}
}

// declares reports whether the tests of a folder have a function of that name.
func declares(t *testing.T, folder, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^func ` + name + `\(`)
	return slices.ContainsFunc(files, func(file string) bool {
		text, err := os.ReadFile(file)
		return err == nil && found.Match(text)
	})
}
