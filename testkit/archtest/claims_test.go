package archtest_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ringfence/ringfence/testkit/archtest"
)

// acceptance is every row of the acceptance page.
func acceptance() []string {
	var ids []string
	for i := 1; i <= 52; i++ {
		ids = append(ids, fmt.Sprintf("S%02d", i))
	}
	for i := 1; i <= 79; i++ {
		ids = append(ids, fmt.Sprintf("M%02d", i))
	}
	for i := 1; i <= 22; i++ {
		ids = append(ids, fmt.Sprintf("N%d", i))
	}
	return ids
}

func TestEachClaimNamesTestsThatAreThere(t *testing.T) {
	claims, err := archtest.Claims(filepath.Join(root, "CLAIMS.md"))
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := archtest.CheckClaims(t.Context(), root, claims, acceptance())
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range wrong {
		t.Error("CLAIMS.md: " + w)
	}
}

func TestFalseClaimsAreFound(t *testing.T) {
	page := filepath.Join(t.TempDir(), "CLAIMS.md")
	text := "| id | promise | state | proof |\n|---|---|---|---|\n" +
		"| A1 | names a test | holds | `testkit/archtest.TestFalseClaimsAreFound`, `make test` |\n" +
		"| A2 | names a test that is not there | partly | `testkit/archtest.TestThatNobodyWrote` |\n" +
		"| A3 | holds by its word | holds | `make test` |\n" +
		"| A4 | in a state of its own | nearly | |\n" +
		"| A5 | twice | not yet | |\n| A5 | twice | not yet | |\n"
	if err := os.WriteFile(page, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	claims, err := archtest.Claims(page)
	if err != nil {
		t.Fatal(err)
	}
	got, err := archtest.CheckClaims(t.Context(), root, claims, []string{"A1", "A6"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"A2: testkit/archtest.TestThatNobodyWrote is not there",
		"A3: holds, and names no test",
		`A4: "nearly" is no state`,
		"A5: stands 2 times",
		"A6: stands 0 times, once is wanted",
	}
	if !slices.Equal(got, want) {
		t.Errorf("found %q\nwanted %q", got, want)
	}
}
