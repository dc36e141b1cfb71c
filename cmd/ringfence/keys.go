package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/ringfence/ringfence/adapters/keyring"
)

type keysInitCmd struct {
	machine
	Dir         string `arg:"" help:"Folder for all keys, which platform-api is given; not there yet, or empty." placeholder:"DIR" type:"path"`
	EventWorker string `name:"event-worker" help:"Folder for what event-worker is given of them." placeholder:"DIR" type:"path"`
}

// keyFile is one file of keys, and whose it is.
type keyFile struct {
	Name string   `json:"name"`
	For  []string `json:"for"`
	Why  string   `json:"why"`
}

// Run makes them, and says what was made. Nothing is made if either folder holds something.
func (k keysInitCmd) Run(env environment) error {
	for _, dir := range []string{k.Dir, k.EventWorker} {
		if dir == "" {
			continue
		}
		if err := keyring.Empty(dir); err != nil {
			return err
		}
	}
	if k.EventWorker != "" && filepath.Clean(k.EventWorker) == filepath.Clean(k.Dir) {
		return fmt.Errorf("%w: --event-worker wants a folder of its own: it holds less", errConfig)
	}
	if _, err := keyring.Init(k.Dir); err != nil {
		return err
	}
	if k.EventWorker != "" {
		if err := keyring.Give(k.Dir, k.EventWorker, keyring.Seals); err != nil {
			return err
		}
	}
	entries, err := os.ReadDir(k.Dir)
	if err != nil {
		return err
	}
	found := struct {
		Folder string    `json:"folder"`
		Files  []keyFile `json:"files"`
	}{Folder: k.Dir}
	var text strings.Builder
	for _, e := range entries {
		f := keyFile{e.Name(), []string{"platform-api"}, "this deployment's name: no secret, kept with the keys"}
		switch {
		case keyring.Seals.Is(f.Name):
			f.For, f.Why = append(f.For, "event-worker"), "seals what is secret in the database"
		case keyring.Peppers.Is(f.Name):
			f.Why = "is part of each digest of a credential"
		case keyring.Log.Is(f.Name):
			f.Why = "signs the audit log"
		}
		found.Files = append(found.Files, f)
		fmt.Fprintf(&text, "%-16s  %-26s  %s\n", f.Name, strings.Join(f.For, ", "), f.Why)
	}
	fmt.Fprintf(&text, "\nMade in %s. mqtt-ingestion-worker is given none. Put them into your secret store, and a copy where nobody else reads it:\nwhat they have sealed is lost without them.\n", k.Dir)
	return k.say(env, text.String(), found)
}
