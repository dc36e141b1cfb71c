package keyring

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// maxFile is more than any key takes.
const maxFile = 4096

// closed refuses what others than the owner may read or write, and what is not of the type wanted: reading a pipe would
// wait for ever, and a link leads to where nobody looked.
func closed(path string, want fs.FileMode) error {
	info, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	return judge(path, info, want)
}

func judge(path string, info fs.FileInfo, want fs.FileMode) error {
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		return fmt.Errorf("keys: %s is a symbolic link; put the key itself there", path)
	case info.Mode().Type() != want:
		return fmt.Errorf("keys: %s is neither a plain file nor the folder of keys; move it away", path)
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("keys: %s can be read by others; run chmod go-rwx %s", path, path)
	}
	return nil
}

// read takes a small file that only its owner can read.
func read(file string) (string, error) {
	if err := closed(file, 0); err != nil {
		return "", err
	}
	f, err := os.Open(file) //nolint:gosec // a name of ours in the operator's folder
	if err != nil {
		return "", fmt.Errorf("keys: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat() // what was opened may not be what was looked at
	if err != nil {
		return "", fmt.Errorf("keys: %w", err)
	}
	if err := judge(file, info, 0); err != nil {
		return "", err
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return "", fmt.Errorf("keys: %w", err)
	}
	if len(raw) > maxFile {
		return "", fmt.Errorf("keys: %s is too large for a key", file)
	}
	return strings.TrimSpace(string(raw)), nil
}

// create makes a file, whole and on the disk, or leaves the one that another process made at the same moment.
func create(file, text string) error {
	tmp, err := os.CreateTemp(filepath.Dir(file), ".new-*") // mode 0600
	if err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	_, err = tmp.WriteString(text + "\n")
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err == nil {
		if err = os.Link(tmp.Name(), file); errors.Is(err, fs.ErrExist) { // a rename would replace it
			err = nil
		}
	}
	if err = errors.Join(err, os.Remove(tmp.Name())); err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	dir, err := os.Open(filepath.Dir(file))
	if err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	// A key whose name is lost with the power is lost with all it sealed.
	if err = errors.Join(dir.Sync(), dir.Close()); err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	return nil
}
