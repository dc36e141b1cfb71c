package archtest_test

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
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

// mapChecks are what ARCHITECTURE.md must say to be true; each answers what it does not.
var mapChecks = map[string]func(t *testing.T, text string) []string{
	"short": short, "rooms": rooms, "doors": doors, "actors": actors, "dependencies": dependencies,
}

func TestTheMapIsTrue(t *testing.T) {
	for name, check := range mapChecks {
		for _, wrong := range check(t, page(t, "ARCHITECTURE.md")) {
			t.Errorf("ARCHITECTURE.md, %s: %s", name, wrong)
		}
	}
}

func TestAMapThatLiesIsFound(t *testing.T) {
	text := page(t, "ARCHITECTURE.md")
	for _, lie := range []struct{ check, old, new, want string }{
		{"short", "## Map", strings.Repeat("\n", 250) + "## Map", "lines"},
		{"rooms", "`core/access`", "`core/acces`", "core/access is not on the map"},
		{"rooms", "`core/access`", "`core/access` `core/nowhere`", "names core/nowhere"},
		{"doors", "`Directory.Locate`", "", "Directory.Locate"},
		{"doors", "`Flow.Touch`", "", "Flow.Touch"},
		{"actors", "`system:process`", "", "system:process"},
		{"dependencies", "tetratelabs/wazero v", "tetratelabs/wazero w", "tetratelabs/wazero"},
	} {
		t.Run(lie.check+" "+lie.want, func(t *testing.T) {
			check := mapChecks[lie.check]
			found := slices.ContainsFunc(check(t, strings.Replace(text, lie.old, lie.new, 1)), func(s string) bool { return strings.Contains(s, lie.want) })
			if !strings.Contains(text, lie.old) || !found {
				t.Error("not found")
			}
		})
	}
}

func short(_ *testing.T, text string) []string {
	if n := strings.Count(text, "\n"); n > 250 {
		return []string{fmt.Sprintf("%d lines, at most 250", n)}
	}
	return nil
}

// rooms: each folder that is lived in stands on the map, and no other.
func rooms(t *testing.T, text string) (wrong []string) {
	_, table, _ := strings.Cut(text, "## Map")
	table, _, _ = strings.Cut(table, "## Walls")
	named := map[string]bool{}
	for _, m := range regexp.MustCompile("`((?:core|ports|app|adapters|testkit|cmd)/[a-z0-9/-]+)`").FindAllStringSubmatch(table, -1) {
		named[m[1]] = true
		if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
			wrong = append(wrong, "it names "+m[1]+", which is not there")
		}
	}
	for _, room := range []string{"core", "ports", "app", "adapters", "testkit", "cmd"} {
		entries, err := os.ReadDir(filepath.Join(root, room))
		if err != nil {
			t.Error(err)
		}
		for _, e := range entries {
			if e.IsDir() && !named[room+"/"+e.Name()] {
				wrong = append(wrong, room+"/"+e.Name()+" is not on the map")
			}
		}
	}
	return wrong
}

// doors: the closed lists under Decisions are those of the code.
func doors(t *testing.T, text string) (wrong []string) {
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
						wrong = append(wrong, face.name+"."+name.Name+" is not listed under Decisions")
					}
				}
			}
			return false
		})
		if methods == 0 {
			t.Errorf("%s: no interface %s", face.file, face.name)
		}
	}
	return wrong
}

// actors: each use of a scope that no policy decided is listed under Decisions: those of kind system by their part, those
// of a person that signs in by their occasion.
func actors(t *testing.T, text string) (wrong []string) {
	err := filepath.WalkDir(filepath.Join(root, "app"), func(name string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return err
		}
		tree, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			if use := undecided(n); use != "" && !strings.Contains(text, "`"+use+"`") {
				wrong = append(wrong, filepath.Base(name)+" grants a scope to "+use+", which is not listed under Decisions")
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return wrong
}

// undecided answers who gets a scope by System(tenant, part, origin), by an Actor{System: part}, or by As(tenant, actor,
// occasion, origin).
func undecided(n ast.Node) string {
	var prefix string
	var word ast.Expr
	switch n := n.(type) {
	case *ast.KeyValueExpr:
		if key, ok := n.Key.(*ast.Ident); ok && key.Name == "System" {
			prefix, word = "system:", n.Value
		}
	case *ast.CallExpr:
		s, ok := n.Fun.(*ast.SelectorExpr)
		switch {
		case ok && s.Sel.Name == "System" && len(n.Args) == 3:
			prefix, word = "system:", n.Args[1]
		case ok && s.Sel.Name == "As" && len(n.Args) == 4:
			prefix, word = "as:", n.Args[2]
		}
	}
	if lit, ok := word.(*ast.BasicLit); ok {
		return prefix + strings.Trim(lit.Value, `"`)
	}
	return ""
}

// dependencies: each module that we import ourselves stands in the table, with its version; go install would refuse a
// go.mod with a replace.
func dependencies(t *testing.T, text string) (wrong []string) {
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
		wrong = append(wrong, "go.mod has a replace or exclude")
	}
	for _, r := range mod.Require {
		repo, rest, isDialect := strings.Cut(r.Path, "/dialect/")
		home, inner, isPart := strings.Cut(r.Path, "/pkg/") // a module within a repository, with a version of its own
		switch {
		case r.Indirect,
			strings.Contains(text, "| "+r.Path+" "+r.Version+" "), strings.Contains(text, "| "+r.Path+" "+r.Version+","),
			isDialect && slices.Contains(strings.Split(named(text, "| "+repo+" "+r.Version+", "), ", "), "dialect/"+rest),
			isPart && slices.Contains(strings.Split(named(text, "| "+home+" v"), ", "), "pkg/"+inner+" "+r.Version):
		default:
			wrong = append(wrong, r.Path+" "+r.Version+" is not in the table of dependencies")
		}
	}
	return wrong
}

// named is what a row of the table that begins so says in the rest of its first cell.
func named(text, begin string) string {
	_, rest, _ := strings.Cut(text, begin)
	cell, _, _ := strings.Cut(rest, " |")
	return cell
}
