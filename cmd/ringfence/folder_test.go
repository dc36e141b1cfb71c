package main

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ringfence/ringfence/adapters/keyring"
)

// onFolder opens a data folder with these settings and closes it again.
func onFolder(t *testing.T, dir string, sets ...string) error {
	t.Helper()
	conf, err := loadConfig(os.DevNull, append([]string{"data=" + dir, "metrics_listen="}, sets...), environment{lookup: func(string) (string, bool) { return "", false }})
	if err != nil {
		t.Fatal(err)
	}
	app, err := opened(t.Context(), conf, io.Discard)
	if err == nil {
		for _, file := range []string{databaseFile, databaseFile + "-wal", databaseFile + "-shm"} {
			info, serr := os.Stat(filepath.Join(dir, file))
			if serr != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v %v", file, info, serr)
			}
		}
		err = app.close(t.Context())
	}
	return err
}

func TestADataFolderIsItsOwnersAlone(t *testing.T) {
	for what, c := range map[string]struct {
		mode fs.FileMode
		put  string
		good bool
	}{
		"a newcomer's":                   {0o755, "", true},
		"one of an earlier start":        {0o755, databaseFile, true},
		"one with something else in it":  {0o755, "photos", false},
		"one that the group may write":   {0o770, "", false},
		"one that everybody may write":   {0o777, "", false},
		"a closed one with more than us": {0o700, "photos", true},
	} {
		dir := filepath.Join(t.TempDir(), "data")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if c.put == databaseFile {
			if err := onFolder(t, dir); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{databaseFile, databaseFile + "-wal", databaseFile + "-shm"} { // as an earlier version left them
				if err := os.Chmod(filepath.Join(dir, name), 0o644); err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Fatal(err)
				}
			}
		} else if c.put != "" {
			if err := os.WriteFile(filepath.Join(dir, c.put), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chmod(dir, c.mode); err != nil {
			t.Fatal(err)
		}
		err := onFolder(t, dir)
		if (err == nil) != c.good || err != nil && !strings.Contains(err.Error(), "chmod go-rwx "+dir) {
			t.Errorf("%s: %v", what, err)
		}
		info, serr := os.Stat(dir)
		if _, nothing := os.Stat(filepath.Join(dir, databaseFile)); serr != nil || c.good && info.Mode().Perm() != 0o700 || !c.good && (info.Mode().Perm() != c.mode || nothing == nil) {
			t.Errorf("%s: %v afterwards: %v", what, info, serr)
		}
	}
}

func TestKeysOfAnotherDatabaseAreRefused(t *testing.T) {
	foreign := filepath.Join(t.TempDir(), "keys")
	if _, err := keyring.Open(foreign); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "data")
	warm(t, dir)
	conf, err := loadConfig(os.DevNull, []string{"data=" + dir, "metrics_listen="}, environment{lookup: func(string) (string, bool) { return "", false }})
	if err != nil {
		t.Fatal(err)
	}
	start := func() error {
		app, err := wire(t.Context(), conf, io.Discard)
		if err == nil {
			err = app.close(t.Context())
		}
		return err
	}
	if err := start(); err != nil {
		t.Fatal(err)
	}
	keys := filepath.Join(dir, "keys")
	for what, files := range map[string][]string{"sealing": {"seal-0001.key"}, "pepper": {"pepper-0001.key"}, "log": {"audit.key", "instance"}} {
		for _, name := range files {
			if err := errors.Join(os.Rename(filepath.Join(keys, name), filepath.Join(keys, name+".right")), os.Link(filepath.Join(foreign, name), filepath.Join(keys, name))); err != nil {
				t.Fatal(err)
			}
		}
		if err := start(); err == nil || !strings.Contains(err.Error(), files[0]+";") || !strings.Contains(err.Error(), "put it back from your backup") {
			t.Errorf("another %s key: %v", what, err)
		}
		for _, name := range files {
			if err := os.Rename(filepath.Join(keys, name+".right"), filepath.Join(keys, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	newer := filepath.Join(keys, "seal-0002.key")
	if err := os.Link(filepath.Join(foreign, "seal-0001.key"), newer); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := start(); err != nil {
			t.Errorf("a newer key: %v", err)
		}
	}
	if err := os.Remove(newer); err != nil {
		t.Fatal(err)
	}
	if err := start(); err == nil || !strings.Contains(err.Error(), "seal-0002.key") {
		t.Errorf("a newer key that is gone: %v", err)
	}
}
