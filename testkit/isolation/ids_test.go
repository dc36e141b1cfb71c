package isolation

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/ident"
)

// What never was must be told from what is another's by looking it up alone: not by its form, its age or its letters.
func TestIdsThatNeverWereLookLikeMintedOnes(t *testing.T) {
	n := byte(0)
	mint := ident.Mint{Now: time.Now, Random: func(b []byte) {
		for i := range b {
			n += 89
			b[i] = n
		}
	}}
	entry, platform := ident.NewEntry(mint), ident.Platform.String()
	was := &tenant{ids: map[string]string{"entry": entry.String(), "tenant": platform, "device": "dev" + platform[3:], "digits": "7"}}
	never := was.neverWas()
	var id ident.Entry
	if err := id.UnmarshalText([]byte(never.ids["entry"])); err != nil || id == entry || !id.Time().Equal(entry.Time()) {
		t.Errorf("%s became %s: %v", entry, never.ids["entry"], err)
	}
	if id[6]>>4 != entry[6]>>4 || id[8]>>6 != entry[8]>>6 {
		t.Errorf("%s is of another version than minted ids", id)
	}
	if never.id != never.ids["tenant"] || never.id == platform || never.ids["digits"] != "7" {
		t.Errorf("never was: %v", never.ids)
	}
	if again := was.neverWas(); again.ids["entry"] != never.ids["entry"] {
		t.Error("two runs disagree about what never was")
	}
	if never.ids["device"][4:] == never.ids["tenant"][4:] || !strings.HasPrefix(never.ids["device"], "dev_") {
		t.Errorf("%s and %s", never.ids["device"], never.ids["tenant"])
	}
	for kind, text := range never.ids {
		if letters := []byte(text); kind != "digits" && len(slices.Compact(letters)) < len(text)-6 {
			t.Errorf("%s %s has runs that no minted id has", kind, text)
		}
	}
}
