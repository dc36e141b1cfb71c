//go:build services

package main

import (
	"os/exec"
	"testing"
)

// What the single binary is held to over HTTP, the scaled-out deployment is held to: the same tests, of its binaries.
func TestTheDeploymentKeepsWhatTheSingleBinaryDoes(t *testing.T) {
	dir := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", dir, "../platform-api", "../event-worker")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Setenv(deployedEnv, dir)
	for _, suite := range []struct {
		name string
		keep func(*testing.T)
	}{
		{"each kind of token opens its own door alone", TestEachKindOfTokenOpensItsOwnDoorAlone},
		{"rights follow the tree", TestRightsFollowTheTree},
		{"a role opens what it names", TestARoleOpensWhatItNames},
		{"no way round grants what is lacking", TestNoWayRoundGrantsWhatIsLacking},
		{"nobody grants what they lack", TestNobodyGrantsWhatTheyLackAndTheLastOwnerStays},
		{"a stolen refresh token ends its family", TestAStolenRefreshTokenEndsItsFamily},
		{"a failed sign-in says nothing about the name", TestAFailedSignInSaysNothingAboutTheName},
		{"off is off", TestOffIsOff},
		{"a reset link is no way into another tenant", TestAResetLinkIsNoWayIntoAnotherTenant},
		{"a reset link needs all that the person holds", TestAResetLinkNeedsAllThatThePersonHolds},
		{"a reset link is void once the person belongs elsewhere", TestAResetLinkIsVoidOnceThePersonBelongsElsewhereToo},
		{"a reset link is void once its maker may make none", TestAResetLinkIsVoidOnceItsMakerMayMakeNone},
		{"an invitation's page takes who is signed in", TestAnInvitationsPageTakesWhoIsSignedIn},
		{"the platform keeps an administrator", TestThePlatformKeepsAnAdministratorWhoStays},
		{"a deleted tenant is nobody's", TestADeletedTenantIsNobodysAnyMore},
		{"a create that is repeated makes one thing", TestACreateThatIsRepeatedMakesOneThing},
		{"retries that race make one thing", TestRetriesThatRaceMakeOneThing},
		{"retries beside the first try make one thing", TestRetriesBesideTheFirstTryMakeOneThing},
		{"callers of one tenant do not refuse each other", TestCallersOfOneTenantDoNotRefuseEachOther},
		{"a refusal's entry says why", TestARefusalsEntrySaysWhyAndByWhichPolicy},
		{"a key that is rotated at once needs no room", TestAKeyThatIsRotatedAtOnceNeedsNoRoom},
		{"an event of a device that is registered later is released", TestAnEventOfADeviceThatIsRegisteredLaterIsReleased},
		{"quarantine is asked by device", TestQuarantineIsAskedByDeviceAndSeenByWhoeverReadsItAtTheSource},
		{"a source suppresses no event of another's", TestASourceSuppressesNoEventOfAnothers},
		{"slow senders hold nobody else up", TestSlowSendersOfOneSourceHoldNobodyElseUp},
		{"dry runs come from the tenant's fuel", TestDryRunsComeFromTheTenantsFuelAndNameOneScript},
		{"a patch that changes nothing is no change", TestAPatchThatChangesNothingIsNoChange},
		{"an import tells which rows do not fit", TestAnImportTellsWhichRowsDoNotFit},
	} {
		t.Run(suite.name, suite.keep)
	}
}
