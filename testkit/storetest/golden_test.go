package storetest_test

import (
	"flag"
	"os"
	"testing"

	"github.com/ringfence/ringfence/adapters/memory"
	"github.com/ringfence/ringfence/ports/store"
	"github.com/ringfence/ringfence/testkit/storetest"
)

var update = flag.Bool("update", false, "write the golden files")

func TestTheGoldenLogIsTheScripts(t *testing.T) {
	w := storetest.NewWorld(t, func(_ testing.TB, o storetest.Options) store.Store {
		return memory.New(memory.Options{Now: o.Now, Revised: o.Revised})
	})
	got := storetest.Script(t, w)
	if *update {
		if err := os.WriteFile("testdata/audit.golden", []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/audit.golden")
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != got {
		t.Error("the script leaves another log than testdata/audit.golden; if that is meant, every deployed log changes: see make goldens")
	}
}
