package archtest_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func page(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTheMapIsShort(t *testing.T) {
	if n := strings.Count(page(t, "ARCHITECTURE.md"), "\n"); n > 250 {
		t.Errorf("ARCHITECTURE.md has %d lines, at most 250", n)
	}
}

// Each room that is lived in stands on the map, and the map names no room that is not there.
func TestTheMapNamesEachRoom(t *testing.T) {
	_, table, _ := strings.Cut(page(t, "ARCHITECTURE.md"), "## Map")
	table, _, _ = strings.Cut(table, "## Walls")
	named := map[string]bool{}
	for _, m := range regexp.MustCompile("`((?:core|ports|app|adapters|testkit|cmd)/[a-z0-9/-]+)`").FindAllStringSubmatch(table, -1) {
		named[m[1]] = true
		if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
			t.Errorf("the map names %s: %v", m[1], err)
		}
	}
	for _, room := range []string{"core", "ports", "app", "adapters", "testkit", "cmd"} {
		entries, err := os.ReadDir(filepath.Join(root, room))
		if err != nil {
			t.Error(err)
		}
		for _, e := range entries {
			if e.IsDir() && !named[room+"/"+e.Name()] {
				t.Errorf("%s/%s is not on the map", room, e.Name())
			}
		}
	}
}

// The closed lists under Decisions are those of the code.
func TestTheMapListsEachDoorBesideTheGate(t *testing.T) {
	text := page(t, "ARCHITECTURE.md")
	for _, face := range []struct{ file, name string }{{"ports/store/nouns.go", "Directory"}, {"ports/store/handles.go", "Flow"}} {
		tree, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, face.file), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		methods := 0
		ast.Inspect(tree, func(n ast.Node) bool {
			s, ok := n.(*ast.TypeSpec)
			if !ok || s.Name.Name != face.name {
				return true
			}
			for _, m := range s.Type.(*ast.InterfaceType).Methods.List {
				for _, name := range m.Names {
					methods++
					if name.Name != "Read" && !strings.Contains(text, "`"+face.name+"."+name.Name+"`") {
						t.Errorf("%s.%s is not listed under Decisions", face.name, name.Name)
					}
				}
			}
			return false
		})
		if methods == 0 {
			t.Errorf("%s: no interface %s", face.file, face.name)
		}
	}
	for actor, file := range systemActors(t) {
		if !strings.Contains(text, "`system:"+actor+"`") {
			t.Errorf("%s grants a scope to system:%s, which is not listed under Decisions", file, actor)
		}
	}
}

// systemActors are the actors of kind system that app names, with the file that does.
func systemActors(t *testing.T) map[string]string {
	t.Helper()
	actors := map[string]string{}
	named := regexp.MustCompile(`System:\s+"([a-z-]+)"|[sS]ystem\w*\([^"\n]*"([a-z-]+)"`)
	err := filepath.WalkDir(filepath.Join(root, "app"), func(name string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return err
		}
		text, err := os.ReadFile(name)
		for _, m := range named.FindAllStringSubmatch(string(text), -1) {
			actors[m[1]+m[2]] = name
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return actors
}

// Each module that we import ourselves stands in the table of dependencies, with its version.
func TestTheMapListsEachDependency(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "mod", "edit", "-json")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var mod struct {
		Require []struct {
			Path, Version string
			Indirect      bool
		}
		Replace, Exclude []any
	}
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatal(err)
	}
	if len(mod.Replace)+len(mod.Exclude) > 0 {
		t.Error("go.mod has a replace or exclude: go install refuses such a module")
	}
	text := page(t, "ARCHITECTURE.md")
	for _, r := range mod.Require {
		if r.Indirect || strings.Contains(text, "| "+r.Path+" "+r.Version) {
			continue
		}
		if repo, rest, ok := strings.Cut(r.Path, "/dialect/"); ok && strings.Contains(text, "| "+repo+" "+r.Version+", dialect/"+rest+" ") {
			continue
		}
		t.Errorf("%s %s is not in the table of dependencies", r.Path, r.Version)
	}
}
