package main

import (
	"encoding/json"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/ringfence/ringfence/app/signin"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/secret"
)

// document runs a command with --json and answers the one document that it says.
func document(t *testing.T, code int, vars map[string]string, stdin string, args ...string) obj {
	t.Helper()
	got, out, errs := told(t, vars, stdin, append(args, "--json")...)
	d := json.NewDecoder(strings.NewReader(out))
	var o obj
	if err := d.Decode(&o); err != nil || got != code {
		t.Fatalf("%v: exit %d %v\n%s%s", args, got, err, out, errs)
	}
	if err := d.Decode(&obj{}); err != io.EOF {
		t.Errorf("%v: there is more than one document: %s", args, out)
	}
	return o
}

func TestEveryCommandWithOutputSaysItToMachinesToo(t *testing.T) {
	parser, err := kong.New(&commands{}, kong.Name("ringfence"))
	if err != nil {
		t.Fatal(err)
	}
	without := map[string]string{
		"ringfence serve": "its log is JSON", "ringfence demo": "a story for people", "ringfence audit verify": "takes the flags of audit-verify, --json among them",
		"ringfence audit export": "a file", "ringfence completion": "a script", "ringfence migrate roles": "a script",
	}
	for _, n := range parser.Model.Leaves(false) {
		has := false
		for _, f := range n.Flags {
			has = has || f.Name == "json"
		}
		if _, none := without[n.FullPath()]; has == none {
			t.Errorf("%s: --json is %v", n.FullPath(), has)
		}
	}
	if v := document(t, exitDone, nil, "", "version"); v["version"] != version() {
		t.Errorf("%v", v)
	}
	if v := document(t, exitDone, nil, "", "config", "check"); v["good"] != true || len(v["problems"].([]any)) != 0 {
		t.Errorf("%v", v)
	}
	if v := document(t, exitNo, nil, "", "--set", "docs=maybe", "--set", "lisen=1", "config", "check"); v["good"] != false || len(v["problems"].([]any)) != 2 {
		t.Errorf("%v", v)
	}
}

func TestSetupAndReceiptsAreSaidToMachinesToo(t *testing.T) {
	s, token := served(t)
	v := document(t, exitDone, nil, demoPassword+"\n", "setup", s.base+"/setup?token="+token, "--email", "olga@platform.example", "--name", "Olga", "--tenant", "Acme Water")
	ten, _ := v["tenant_id"].(string)
	if who, _ := v["principal_id"].(string); !strings.HasPrefix(ten, "ten_") || !strings.HasPrefix(who, "usr_") {
		t.Fatalf("%v", v)
	}
	olga, err := s.login("olga@platform.example")
	if err != nil {
		t.Fatal(err)
	}
	v = document(t, exitDone, map[string]string{"RINGFENCE_TOKEN": olga}, "", "audit", "prove", ten, "0", "--server", s.base)
	digest := document(t, exitDone, map[string]string{"RINGFENCE_TOKEN": olga}, "ana@acme.example\n", "audit", "hash", "--server", s.base)
	if d, _ := digest["digest"].(string); d == "" {
		t.Errorf("%v", digest)
	}
	if proof, _ := v["proof"].(string); !strings.HasPrefix(proof, "c2sp.org/tlog-proof") {
		t.Errorf("%v", v)
	}
}

func TestWhatTheHostAloneMayDoIsSaidToMachinesToo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	warm(t, dir)
	conf, err := loadConfig("/dev/null", []string{"data=" + dir}, environment{lookup: func(string) (string, bool) { return "", false }})
	if err != nil {
		t.Fatal(err)
	}
	app, err := wire(t.Context(), conf, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	token, err := app.signin.SetupLink(t.Context())
	if err == nil {
		_, _, err = app.signin.Setup(t.Context(), token, signin.NewPerson{Email: "olga@platform.example", Name: "Olga", Password: secret.New(demoPassword)}, nil, access.Origin{})
	}
	if cerr := app.close(t.Context()); err != nil || cerr != nil {
		t.Fatal(err, cerr)
	}
	at := []string{"--set", "data=" + dir, "--set", "log_level=error"}
	v := document(t, exitDone, nil, "", append(at, "admin", "reset", "olga@platform.example")...)
	if link, _ := v["link"].(string); !strings.HasPrefix(link, "http://127.0.0.1:8080/reset?token=rf_") {
		t.Errorf("%v", v)
	}
	v = document(t, exitDone, nil, "", append(at, "audit", "key")...)
	if _, policy, _ := told(t, nil, "", append(at, "audit", "key")...); policy == "" || v["policy"] != policy || !strings.HasPrefix(v["tenant_id"].(string), "ten_") {
		t.Errorf("%v", v)
	}
}
