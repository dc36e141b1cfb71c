package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ringfence/ringfence/adapters/keyring"
	"github.com/ringfence/ringfence/core/secret"
)

func TestKeysAreMadeOnceAndEachProcessIsGivenItsOwn(t *testing.T) {
	all, worker := filepath.Join(t.TempDir(), "all"), filepath.Join(t.TempDir(), "worker")
	v := document(t, exitDone, nil, "", "keys", "init", all, "--event-worker", worker)
	who := map[string]string{}
	for _, f := range v["files"].([]any) {
		var names []string
		for _, n := range f.(map[string]any)["for"].([]any) {
			names = append(names, n.(string))
		}
		who[f.(map[string]any)["name"].(string)] = strings.Join(names, " ")
	}
	if len(who) != 4 || who["seal-0001.key"] != "platform-api event-worker" || who["pepper-0001.key"] != "platform-api" || who["audit.key"] != "platform-api" || who["instance"] == "" {
		t.Errorf("%v", who)
	}
	api, err := keyring.Read(all, keyring.Seals, keyring.Peppers, keyring.Log)
	if err != nil {
		t.Fatal(err)
	}
	its, err := keyring.Read(worker, keyring.Seals)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keyring.Read(worker, keyring.Seals, keyring.Peppers); err == nil {
		t.Error("the event worker was given peppers")
	}
	if left, err := os.ReadDir(worker); err != nil || len(left) != 1 {
		t.Errorf("%v %v", left, err)
	}
	mine, err := its.Marks()
	theirs, err2 := api.Marks()
	if err != nil || err2 != nil || len(mine) != 1 {
		t.Fatal(mine, err, err2)
	}
	for file, mark := range mine {
		if theirs[file] != mark {
			t.Errorf("%s is another key for the event worker", file)
		}
	}
	// What is there is never replaced, and nothing is begun that cannot be ended.
	fresh := filepath.Join(t.TempDir(), "fresh")
	for _, args := range [][]string{{all}, {fresh, "--event-worker", worker}, {fresh, "--event-worker", fresh}} {
		if code, out, errs := told(t, nil, "", append([]string{"keys", "init"}, args...)...); code == exitDone || out != "" || errs == "" {
			t.Errorf("%v: exit %d %s", args, code, out)
		}
	}
	if _, err := os.Stat(fresh); err == nil {
		t.Error("keys were made for nobody")
	}
}

func TestTheConfigurationInEffectIsShownGoodOrBad(t *testing.T) {
	if code, said := checked(t, nil, "devices=7"); code != exitDone || !strings.Contains(said, "\ndevices: 7\n") || !strings.Contains(said, "# the configuration is good") {
		t.Errorf("exit %d %s", code, said)
	}
	if code, said := checked(t, map[string]string{"RINGFENCE_DEVICES": "9"}, "docs=maybe"); code != exitNo || !strings.Contains(said, "\ndevices: 9\n") || !strings.Contains(said, "docs: want one of") || strings.Contains(said, "is good") {
		t.Errorf("exit %d %s", code, said)
	}
	v := document(t, exitNo, nil, "", "--config", os.DevNull, "--set", "docs=maybe", "config", "check")
	if s, _ := v["settings"].(map[string]any); len(s) != len(table) || s["docs"] != "true" {
		t.Errorf("%v", v)
	}
}

func TestAURLIsReadFromAFileThatItsGroupMayReadAndNobodyElse(t *testing.T) {
	file := filepath.Join(t.TempDir(), "url")
	if err := os.WriteFile(file, []byte("postgres://x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, good := range map[os.FileMode]bool{0o400: true, 0o440: true, 0o600: true, 0o644: false, 0o660: false, 0o604: false} {
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		if u, err := secretFrom(environment{}, file, ""); (err == nil) != good || good && !u.Equal(secret.New("postgres://x")) {
			t.Errorf("%o: %v", mode, err)
		}
	}
}
