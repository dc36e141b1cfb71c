package auditverify_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ringfence/ringfence/adapters/auditverify"
)

func run(args ...string) (code int, stdout, stderr string) {
	var out, errs strings.Builder
	code = auditverify.Main(args, nil, &out, &errs)
	return code, out.String(), errs.String()
}

func TestHelpIsAnAnswerAndBeginsWithAnExample(t *testing.T) {
	for _, flag := range []string{"--help", "-h"} {
		code, out, errs := run(flag)
		if code != 0 || errs != "" || !strings.HasPrefix(out, "For example:\n\n  audit-verify ") || !strings.Contains(out, "first_bad") {
			t.Errorf("%s: exit %d\n%s%s", flag, code, out, errs)
		}
	}
	for _, args := range [][]string{nil, {"a", "b"}, {"--jsn", "a"}} {
		if code, out, errs := run(args...); code != 2 || out != "" || !strings.Contains(errs, "For example:") {
			t.Errorf("%v: exit %d\n%s%s", args, code, out, errs)
		}
	}
}

// A checkpoint that was changed is named; there is no entry to name.
func TestAChangedCheckpointIsNamed(t *testing.T) {
	bundle, policy := written(t, 7)
	whole, err := os.ReadFile(bundle) //nolint:gosec // made by this test
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bundle, bytes.Replace(whole, []byte("\n7\n"), []byte("\n6\n"), 1), 0o600); err != nil { //nolint:gosec // as above
		t.Fatal(err)
	}
	code, out, errs := run(bundle, "--policy", policy)
	if code != 1 || out != "TAMPERED: a checkpoint\nCheckpoint 1 of the bundle, which says that it is of size 6, is not what the policy's log key signed.\n" {
		t.Errorf("exit %d %s%s", code, out, errs)
	}
	if code, out, errs = run(bundle, "--policy", policy, "--json"); code != 1 || !strings.Contains(out, `"verdict":"tampered"`) || !strings.Contains(out, `"first_bad":null,"range":null`) {
		t.Errorf("exit %d %s%s", code, out, errs)
	}
}

// The document is what scripts hold on to: its words are held here to the letter.
func TestTheDocumentSaysTheVerdictInWords(t *testing.T) {
	bundle, policy := written(t, 1000)
	code, out, errs := run(bundle, "--policy", policy, "--json")
	if code != 0 || out != `{"verdict":"good","entries":1000,"checkpoints":1,"size":1000,"first_bad":null,"range":null,"private":0,"since":false,"reason":"Held against no older checkpoint: that the whole log was rolled back could not be seen."}`+"\n" {
		t.Errorf("exit %d %s%s", code, out, errs)
	}
	whole, err := os.ReadFile(bundle) //nolint:gosec // made by this test
	if err != nil {
		t.Fatal(err)
	}
	forged := bytes.Replace(whole, []byte("dev_500"), []byte("dev_501"), 1)
	cut := whole[:len(whole)/2]
	for verdict, text := range map[string][]byte{"tampered": forged, "incomplete": cut} {
		file := filepath.Join(t.TempDir(), "audit.tar")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		code, out, errs := run(file, "--policy", policy, "--json")
		var got map[string]any
		if err := json.Unmarshal([]byte(out), &got); err != nil {
			t.Fatalf("%s: exit %d %v %s%s", verdict, code, err, out, errs)
		}
		if got["verdict"] != verdict || got["reason"] == "" || code == 0 {
			t.Errorf("%s: exit %d %s", verdict, code, out)
		}
		if bad := got["first_bad"]; (verdict == "tampered" && bad != 500.0) || (verdict != "tampered" && bad != nil) {
			t.Errorf("%s: %s", verdict, out)
		}
	}
}
