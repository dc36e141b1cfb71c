package keyring

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ringfence/ringfence/core/fault"
)

// Part is a kind of key that a process may be given without the others.
type Part string

// The parts. Whoever only decodes needs what seals variables; whoever only takes messages in needs none.
const (
	Seals   Part = sealName
	Peppers Part = pepperName
	Log     Part = "audit"
)

// errNotGiven is what a process gets that seals without having been given a key for it.
var errNotGiven = fault.New(fault.Internal, "no_key", "This process was not given the key for that.")

// Read opens the keys of these parts as a secret store mounts them: it makes none, follows the links inside of the folder by
// which such stores replace all files at once, and takes files that a group may read, which is how they are given to a process
// that is not root. Whatever others may read, and whatever anybody else may write, is refused. What is not asked for is not there:
// sealing, peppering or signing by it fails.
func Read(dir string, parts ...Part) (*Keyring, error) {
	k := &Keyring{}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("keys: %w; make them with: ringfence keys init %s", err, dir)
	}
	if !info.IsDir() || info.Mode().Perm()&0o002 != 0 && info.Mode()&fs.ModeSticky == 0 {
		return nil, fmt.Errorf("keys: %s is no folder, or everybody may write there; run chmod o-w %s", dir, dir)
	}
	for _, part := range parts {
		var err error
		switch part {
		case Seals:
			k.sealing, k.seals, err = mounted(dir, sealName)
		case Peppers:
			k.pepper, k.peppers, err = mounted(dir, pepperName)
		case Log:
			var text string
			if text, err = within(dir, auditFile); err == nil {
				if k.signer, k.verifier, err = parseLog(text); err != nil {
					return nil, fmt.Errorf("keys: %s: %w", filepath.Join(dir, auditFile), err)
				}
				k.instance = k.signer.Name()
			}
		default:
			err = fmt.Errorf("keys: there is no part %q", part)
		}
		if err != nil {
			return nil, err
		}
	}
	return k, k.distinct(dir)
}

// Init makes the keys of a new deployment, once: into a folder that holds none yet. What it made is given to a secret store,
// part by part, and to a backup.
func Init(dir string) (*Keyring, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	if err := Empty(dir); err != nil {
		return nil, err
	}
	return Open(dir)
}

// Give puts the keys of these parts, of those that Init made, into a folder of their own that holds nothing yet: for a process that
// is given no more.
func Give(from, to string, parts ...Part) error {
	if _, err := Read(from, parts...); err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	if err := Empty(to); err != nil {
		return err
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	for _, e := range entries {
		if !slices.ContainsFunc(parts, func(p Part) bool { return p.Is(e.Name()) }) {
			continue
		}
		text, err := within(from, e.Name())
		if err != nil {
			return err
		}
		if err := create(filepath.Join(to, e.Name()), text); err != nil {
			return err
		}
	}
	return nil
}

// Is reports whether a file of a folder of keys is of the part.
func (p Part) Is(name string) bool {
	return name == auditFile && p == Log || p != Log && numbered.MatchString(name) && strings.HasPrefix(name, string(p)+"-")
}

// Empty refuses a folder that holds anything.
func Empty(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	if len(entries) > 0 {
		return fmt.Errorf("keys: %s is not empty; name a new folder: what keys have sealed is lost without them, so that none are ever replaced", dir)
	}
	return nil
}

// mounted reads all keys NAME-NNNN.key of a folder.
func mounted(dir, name string) (string, map[string][]byte, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", nil, fmt.Errorf("keys: %w", err)
	}
	keys := map[string][]byte{}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), name+"-") {
			continue
		}
		file := filepath.Join(dir, e.Name())
		if !numbered.MatchString(e.Name()) {
			return "", nil, fmt.Errorf("keys: %s is not named like %s-0001.key, with four digits", file, name)
		}
		text, err := within(dir, e.Name())
		if err != nil {
			return "", nil, err
		}
		if keys[strings.TrimSuffix(strings.TrimPrefix(e.Name(), name+"-"), ".key")], err = parse(text); err != nil {
			return "", nil, fmt.Errorf("keys: %s: %w", file, err)
		}
	}
	if len(keys) == 0 {
		return "", nil, fmt.Errorf("keys: there is no %s-0001.key in %s; mount the one that `ringfence keys init` made", name, dir)
	}
	return slices.Max(slices.Collect(maps.Keys(keys))), keys, nil
}

// within reads a small file of a folder that links lead to no place outside of.
func within(dir, name string) (string, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", fmt.Errorf("keys: %w", err)
	}
	defer func() { _ = root.Close() }()
	f, err := root.Open(name)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("keys: %s is not there; mount the one that `ringfence keys init` made", filepath.Join(dir, name))
		}
		return "", fmt.Errorf("keys: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("keys: %w", err)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o027 != 0 {
		return "", fmt.Errorf("keys: %s is no plain file, can be read by others, or written by its group; mount it with mode 0440 or less", filepath.Join(dir, name))
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return "", fmt.Errorf("keys: %w", err)
	}
	if len(raw) > maxFile {
		return "", fmt.Errorf("keys: %s is too large for a key", filepath.Join(dir, name))
	}
	return strings.TrimSpace(string(raw)), nil
}
