package main

import (
	"fmt"
	"os"
	"strings"
)

// ownFolder makes the data folder, or takes one that is there: readable by its owner alone. One that others may only read is
// closed if there is nothing in it but what we put there; into one that others may write they may have put a database.
func ownFolder(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil { //nolint:gosec // named by the operator
		return fmt.Errorf("data folder: %w", err)
	}
	info, err := os.Stat(dir) //nolint:gosec // as above
	if err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	bits := info.Mode().Perm()
	if bits&0o077 == 0 {
		return nil
	}
	if bits&0o022 == 0 {
		ours, err := nothingElse(dir)
		if err != nil {
			return fmt.Errorf("data folder: %w", err)
		}
		if ours && os.Chmod(dir, bits&^0o077) == nil { //nolint:gosec // a folder needs x
			return nil
		}
	}
	return fmt.Errorf("data folder: others can look into %s, or write there (mode %04o); if all in it is yours, run chmod go-rwx %s, else name a folder that Ringfence makes, such as --set data=%s/ringfence", dir, bits, dir, strings.TrimSuffix(dir, "/"))
}

// nothingElse reports whether a folder holds nothing that is not of a data folder.
func nothingElse(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		switch e.Name() {
		case "keys", "engine", "lock", completeFile, databaseFile, databaseFile + "-wal", databaseFile + "-shm":
		default:
			return false, err
		}
	}
	return err == nil, err
}
