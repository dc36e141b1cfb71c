package archtest_test

import (
	"testing"

	"github.com/ringfence/ringfence/testkit/archtest"
)

const root = "../.."

func TestThisModuleKeepsItsWalls(t *testing.T) {
	archtest.Test(t, root, archtest.Options{Exempt: []archtest.Exemption{
		{Rule: "core-io", File: "core/secret/secret.go", Why: "a secret says how slog prints it; it logs nothing"},
		{Rule: "package-state", File: "adapters/httpapi/api.go", Why: "huma's settings are its package's variables: set once, under a sync.Once, to the same for every server"},
		{Rule: "interface-size", File: "ports/store/store.go", Why: "Store: the ways in of the design (IngestBatch is Ingest of many tenants), the directory's door and Close"},
		{Rule: "skip", File: "deploy/testbed/servers/servers.go", Why: "a server that a laptop's owner may not install: testkit/archtest/tested counts it, names it, and in CI refuses it"},
	}})
}
