package archtest

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"github.com/ringfence/ringfence/core/credential"
)

// Leak is a secret that could be used, found where none may stand. It says where, never what.
type Leak struct {
	File string
	Line int
	Kind string
}

// String is the place and the kind.
func (l Leak) String() string { return fmt.Sprintf("%s:%d: %s", l.File, l.Line, l.Kind) }

var (
	tokens      = regexp.MustCompile(credential.Pattern)
	privateKeys = regexp.MustCompile(`-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----\s+[0-9A-Za-z+/=\s]{40,}-----END|PRIVATE\+KEY\+[^\s+]+\+[0-9a-f]{8}\+[0-9A-Za-z+/=]{40,}`)
	hashes      = regexp.MustCompile(`\$argon2id\$v=\d+\$m=\d+,t=\d+,p=\d+\$[0-9A-Za-z+/]{16,}\$[0-9A-Za-z+/]{40,}`)
)

// maxScanned bounds the files that are looked into; larger ones are reported, since nothing in a repository needs to be.
const maxScanned = 16 << 20

// Leaks finds whole tokens of ours (their checksum is right, so they may be in force somewhere), private keys (PEM, and
// signed notes') and password hashes in a folder, less .git and the binaries in bin.
func Leaks(dir string) ([]Leak, error) {
	var leaks []Leak
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (name == ".git" || name == "bin"):
			return fs.SkipDir
		case !d.Type().IsRegular():
			return nil
		}
		f, err := root.Open(filepath.FromSlash(name))
		if err != nil {
			return err
		}
		defer f.Close()
		text, err := io.ReadAll(io.LimitReader(f, maxScanned+1))
		if err != nil {
			return err
		}
		if len(text) > maxScanned {
			leaks = append(leaks, Leak{name, 1, "more than this scanner reads"})
			return nil
		}
		leaks = append(leaks, scan(name, text)...)
		return nil
	})
	return leaks, err
}

func scan(name string, text []byte) []Leak {
	var leaks []Leak
	add := func(at int, kind string) {
		leaks = append(leaks, Leak{name, 1 + bytes.Count(text[:at], []byte("\n")), kind})
	}
	for _, m := range tokens.FindAllIndex(text, -1) {
		if t, err := credential.Parse(string(text[m[0]:m[1]])); err == nil {
			add(m[0], "a token of kind "+string(t.Kind))
		}
	}
	for _, m := range privateKeys.FindAllIndex(text, -1) {
		add(m[0], "a private key")
	}
	for _, m := range hashes.FindAllIndex(text, -1) {
		add(m[0], "a password hash")
	}
	return leaks
}
