package archtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// module is what go list and the parser know of the module under test.
type module struct {
	path     string
	fset     *token.FileSet
	packages []*pkg
	vars     map[string]map[string]bool // import path → its package-level variables
}

// pkg is one folder: its package, and its tests beside it.
type pkg struct {
	path, folder, name string
	imports            []string // of the package itself
	testImports        []string // of its tests, inside and outside
	files              []*file
	fset               *token.FileSet
}

// file is one parsed file.
type file struct {
	name    string // in the module, with slashes
	test    bool
	lines   int
	ast     *ast.File
	imports map[string]string // name in this file → import path
}

type listed struct {
	ImportPath, Name, Dir                string
	Imports, TestImports, XTestImports   []string
	GoFiles, CgoFiles, IgnoredGoFiles    []string
	TestGoFiles, XTestGoFiles, EmbedErrs []string
	Module                               struct{ Path, Dir string }
	Error                                *struct{ Err string }
}

// load lists the module's packages and parses every file of them, those of other platforms too.
func load(ctx context.Context, dir string) (*module, error) {
	// -e: a package that does not compile, or imports what go.mod lacks, is listed all the same; the compiler reports it.
	cmd := exec.CommandContext(ctx, "go", "list", "-e", "-json=ImportPath,Name,Dir,Imports,TestImports,XTestImports,GoFiles,CgoFiles,IgnoredGoFiles,TestGoFiles,XTestGoFiles,Module,Error", "./...")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=readonly", "GOWORK=off", "GOPROXY=off")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list in %s: %w: %s", dir, err, &stderr)
	}
	m := &module{fset: token.NewFileSet(), vars: map[string]map[string]bool{}}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var l listed
		if err := d.Decode(&l); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("go list in %s: %w", dir, err)
		}
		p, err := m.read(l)
		if err != nil {
			return nil, err
		}
		m.packages = append(m.packages, p)
	}
	if len(m.packages) == 0 {
		return nil, fmt.Errorf("no package in %s", dir)
	}
	return m, nil
}

func (m *module) read(l listed) (*pkg, error) {
	m.path = l.Module.Path
	folder, err := filepath.Rel(l.Module.Dir, l.Dir)
	if err != nil {
		return nil, err
	}
	p := &pkg{path: l.ImportPath, folder: filepath.ToSlash(folder), name: l.Name, imports: l.Imports, fset: m.fset}
	p.testImports = slices.Concat(l.TestImports, l.XTestImports)
	m.vars[p.path] = map[string]bool{}
	for _, name := range slices.Concat(l.GoFiles, l.CgoFiles, l.IgnoredGoFiles, l.TestGoFiles, l.XTestGoFiles) {
		f, err := m.parse(l.Dir, name, p.folder)
		if err != nil {
			return nil, err
		}
		p.files = append(p.files, f)
		for _, d := range f.ast.Decls {
			if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.VAR {
				for _, s := range g.Specs {
					for _, n := range s.(*ast.ValueSpec).Names {
						m.vars[p.path][n.Name] = true
					}
				}
			}
		}
	}
	return p, nil
}

func (m *module) parse(dir, name, folder string) (*file, error) {
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return nil, err
	}
	rel := path.Join(folder, name)
	tree, err := parser.ParseFile(m.fset, rel, text, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	f := &file{name: rel, test: strings.HasSuffix(name, "_test.go"), lines: bytes.Count(text, []byte("\n")), ast: tree, imports: map[string]string{}}
	for _, s := range tree.Imports {
		p, err := strconv.Unquote(s.Path.Value)
		if err != nil {
			return nil, err
		}
		as := importName(p)
		if s.Name != nil {
			as = s.Name.Name
		}
		f.imports[as] = p
	}
	return f, nil
}

// importName guesses the package name behind an import path as goimports does: the last element, less a version.
func importName(p string) string {
	base := path.Base(p)
	if len(base) > 1 && base[0] == 'v' && strings.Trim(base[1:], "0123456789") == "" && strings.Contains(p, "/") {
		base = path.Base(path.Dir(p))
	}
	base, _, _ = strings.Cut(base, ".v")
	return strings.TrimPrefix(base, "go-")
}

// where is the place of a node, as file:line.
func (p *pkg) where(n ast.Node) string {
	at := p.fset.Position(n.Pos())
	return fmt.Sprintf("%s:%d", at.Filename, at.Line)
}

// named answers the import path and the name if the expression is a selector on an imported package.
func (f *file) named(e ast.Expr) (importPath, name string) {
	s, ok := e.(*ast.SelectorExpr)
	if !ok {
		return "", ""
	}
	x, ok := s.X.(*ast.Ident)
	if !ok || x.Obj != nil { // a local thing that happens to be called like the package
		return "", ""
	}
	return f.imports[x.Name], s.Sel.Name
}
