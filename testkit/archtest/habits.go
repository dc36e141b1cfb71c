package archtest

import (
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"regexp"
	"slices"
	"strings"
)

var (
	emptyNames  = []string{"util", "utils", "common", "helper", "helpers", "types", "models", "services", "misc", "shared"}
	granters    = []string{"core/access", "app/enter", "app/signin", "testkit"}
	systems     = []string{"app", "testkit"}                  // each use in app is listed under Decisions
	namers      = append([]string{"app/manage"}, granters...) // where Across needs a scope in a tenant that the actor is no member of
	acrossers   = []string{"app/manage", "app/signin", "testkit"}
	wideHandles = []string{"ports/store.Reader", "ports/store.Writer", "ports/store.Flow"} // one accessor a noun (design.md §5)
	httpGlobals = []string{"DefaultClient", "DefaultTransport", "DefaultServeMux", "Get", "Head", "Post", "PostForm", "Handle", "HandleFunc"}
	unkept      = regexp.MustCompile(`\b(TODO|FIXME|XXX)\b`)
	issue       = regexp.MustCompile(`#[0-9]+`)
)

const (
	maxFile = 600
	maxMain = 60
)

// habits reports what a look at one package alone can show.
func (p *pkg) habits(report func(rule, where, what string)) {
	if slices.Contains(emptyNames, p.name) || slices.Contains(emptyNames, path.Base(p.folder)) {
		report("package-name", p.folder, "package "+p.name)
	}
	var comments []string
	for _, f := range p.files {
		if f.ast.Doc != nil && !f.test {
			comments = append(comments, f.name)
		}
		limit, rule := maxFile, "file-length"
		if room(p.folder) == "cmd" && path.Base(f.name) == "main.go" {
			limit, rule = maxMain, "main-length"
		}
		if f.lines > limit {
			report(rule, f.name+":1", fmt.Sprintf("%d lines, at most %d", f.lines, limit))
		}
		p.comments(f, report)
		p.declarations(f, report)
		p.expressions(f, report)
	}
	if p.name != "" && slices.ContainsFunc(p.files, func(f *file) bool { return !f.test }) && len(comments) != 1 {
		report("package-comment", p.folder, fmt.Sprintf("%d package comments, one is wanted %v", len(comments), comments))
	}
}

func (p *pkg) comments(f *file, report func(rule, where, what string)) {
	for _, g := range f.ast.Comments {
		for _, c := range g.List {
			if word := unkept.FindString(c.Text); word != "" && !issue.MatchString(c.Text) {
				report("todo", p.where(c), word+" without an issue")
			}
		}
	}
}

func (p *pkg) declarations(f *file, report func(rule, where, what string)) {
	for as, imported := range f.imports {
		if as == "." {
			report("dot-import", f.name+":1", "import . "+imported)
		}
	}
	for _, d := range f.ast.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil && d.Name.Name == "init" {
				report("init", p.where(d), "func init")
			}
			if !f.test && d.Doc == nil && d.Name.IsExported() && receiverExported(d) {
				report("exported-comment", p.where(d), "func "+d.Name.Name)
			}
		case *ast.GenDecl:
			p.specs(f, d, report)
		}
	}
}

// specs looks at a var, const or type declaration. A comment speaks for the group, for its line, and for the lines that
// follow it without a gap.
func (p *pkg) specs(f *file, d *ast.GenDecl, report func(rule, where, what string)) {
	if f.test {
		return
	}
	spoken, last := d.Doc != nil, 0
	for _, s := range d.Specs {
		follows := last > 0 && p.fset.Position(s.Pos()).Line == last+1
		last = p.fset.Position(s.End()).Line
		switch s := s.(type) {
		case *ast.TypeSpec:
			spoken = d.Doc != nil || s.Doc != nil || spoken && follows
			if s.Name.IsExported() && !spoken {
				report("exported-comment", p.where(s), "type "+s.Name.Name)
			}
			p.face(s, report)
		case *ast.ValueSpec:
			spoken = d.Doc != nil || s.Doc != nil || s.Comment != nil || spoken && follows
			if slices.ContainsFunc(s.Names, (*ast.Ident).IsExported) && !spoken {
				report("exported-comment", p.where(s), s.Names[0].Name)
			}
		}
	}
}

// face looks at an interface.
func (p *pkg) face(s *ast.TypeSpec, report func(rule, where, what string)) {
	face, ok := s.Type.(*ast.InterfaceType)
	if !ok {
		return
	}
	n := methods(face)
	if room(p.folder) == "app" && n > 0 {
		report("app-interface", p.where(s), "interface "+s.Name.Name)
	}
	if n > 5 && !slices.Contains(wideHandles, p.folder+"."+s.Name.Name) {
		report("interface-size", p.where(s), fmt.Sprintf("%s has %d methods", s.Name.Name, n))
	}
}

func receiverExported(d *ast.FuncDecl) bool {
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return true
	}
	id := rootOf(d.Recv.List[0].Type)
	return id != nil && id.IsExported()
}

func methods(face *ast.InterfaceType) int {
	n := 0
	for _, m := range face.Methods.List {
		n += len(m.Names)
	}
	return n
}

func (p *pkg) expressions(f *file, report func(rule, where, what string)) {
	taint := secrets(f)
	ast.Inspect(f.ast, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			if room(p.folder) == "core" && !f.test {
				report("core-io", p.where(n), "starts a goroutine")
			}
		case *ast.CompositeLit:
			p.scopeMade(f, n, n.Type, "access.Scope literal", report)
		case *ast.SelectorExpr:
			p.selector(f, n, report)
		case *ast.CallExpr:
			p.call(f, n, taint, report)
		case *ast.BinaryExpr:
			if (n.Op == token.EQL || n.Op == token.NEQ) && (taint(n.X) || taint(n.Y)) && !isEmpty(n.X) && !isEmpty(n.Y) {
				report("secret-compare", p.where(n), "a secret beside "+n.Op.String())
			}
		}
		return true
	})
}

// scopeMade reports a Scope that is made outside the places that grant.
func (p *pkg) scopeMade(f *file, at ast.Node, of ast.Expr, what string, report func(rule, where, what string)) {
	imported, name := "", ""
	if of != nil {
		imported, name = f.named(of)
	}
	if name == "Scope" && strings.HasSuffix(imported, "/core/access") && !inRoom(p.folder, granters...) {
		report("scope", p.where(at), what)
	}
}

func (p *pkg) selector(f *file, s *ast.SelectorExpr, report func(rule, where, what string)) {
	imported, name := f.named(s)
	switch {
	case strings.HasSuffix(imported, "/core/access") && name == "Grant" && !inRoom(p.folder, granters...):
		report("scope", p.where(s), "access.Grant")
	case imported == "net/http" && slices.Contains(httpGlobals, name):
		report("default-client", p.where(s), "http."+name)
	case imported == "time" && name == "Sleep":
		report("sleep", p.where(s), "time.Sleep")
	case imported == "time" && room(p.folder) == "core" && !f.test && slices.Contains(clock, name):
		report("core-io", p.where(s), "time."+name)
	}
}

func (p *pkg) call(f *file, c *ast.CallExpr, taint func(ast.Expr) bool, report func(rule, where, what string)) {
	if id, ok := c.Fun.(*ast.Ident); ok && id.Name == "new" && id.Obj == nil && len(c.Args) == 1 {
		p.scopeMade(f, c, c.Args[0], "new(access.Scope)", report)
	}
	s, ok := c.Fun.(*ast.SelectorExpr)
	if !ok {
		return
	}
	imported, _ := f.named(s)
	name := s.Sel.Name
	switch {
	case imported == "bytes" && (name == "Equal" || name == "Compare" || name == "EqualFold"),
		imported == "strings" && (name == "Compare" || name == "EqualFold" || name == "HasPrefix"),
		imported == "slices" && (name == "Equal" || name == "Compare"),
		imported == "reflect" && name == "DeepEqual":
		if slices.ContainsFunc(c.Args, taint) {
			report("secret-compare", p.where(c), "a secret in "+path.Base(imported)+"."+name)
		}
	case imported == "" && name == "System" && len(c.Args) == 3 && !inRoom(p.folder, systems...):
		report("scope", p.where(c), "a Scope of kind system")
	case imported == "" && name == "As" && len(c.Args) == 4 && !inRoom(p.folder, namers...):
		report("scope", p.where(c), "a Scope in somebody's name")
	case imported == "" && name == "Across" && !f.test && !inRoom(p.folder, acrossers...):
		report("across", p.where(c), "calls Across")
	case (name == "Skip" || name == "Skipf" || name == "SkipNow") && isTesting(f, s.X):
		report("skip", p.where(c), name)
	}
}

// isTesting reports whether an expression is a parameter of a type of package testing.
func isTesting(f *file, e ast.Expr) bool {
	x, ok := e.(*ast.Ident)
	if !ok || x.Obj == nil {
		return false
	}
	field, ok := x.Obj.Decl.(*ast.Field)
	if !ok {
		return false
	}
	of := field.Type
	if star, ok := of.(*ast.StarExpr); ok {
		of = star.X
	}
	imported, _ := f.named(of)
	return imported == "testing"
}

// secrets answers a test for expressions that hold a secret's text: a call of Reveal, the sum of an HMAC, or a variable
// that was set from one.
func secrets(f *file) func(ast.Expr) bool {
	macs := map[*ast.Object]bool{}
	tainted := map[*ast.Object]bool{}
	taint := func(e ast.Expr) bool {
		found := false
		ast.Inspect(e, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncLit:
				return false
			case *ast.Ident:
				found = found || n.Obj != nil && tainted[n.Obj]
			case *ast.CallExpr:
				if id, ok := n.Fun.(*ast.Ident); ok && (id.Name == "len" || id.Name == "cap") {
					return false // how long a secret is may be compared
				}
				if s, ok := n.Fun.(*ast.SelectorExpr); ok {
					x, _ := s.X.(*ast.Ident)
					if s.Sel.Name == "Reveal" || s.Sel.Name == "Sum" && x != nil && x.Obj != nil && macs[x.Obj] {
						found = true
					} else if !converts(f, s) {
						return false // what a function makes of a secret is that function's matter
					}
				}
			}
			return !found
		})
		return found
	}
	ast.Inspect(f.ast, func(n ast.Node) bool {
		a, ok := n.(*ast.AssignStmt)
		if !ok || len(a.Lhs) != len(a.Rhs) {
			return true
		}
		for i, l := range a.Lhs {
			id, ok := l.(*ast.Ident)
			if !ok || id.Obj == nil {
				continue
			}
			if c, ok := a.Rhs[i].(*ast.CallExpr); ok {
				if imported, name := f.named(c.Fun); imported == "crypto/hmac" && name == "New" {
					macs[id.Obj] = true
				}
			}
			if taint(a.Rhs[i]) {
				tainted[id.Obj] = true
			}
		}
		return true
	})
	return taint
}

// isEmpty reports whether an expression is "", which tells nobody anything, or nil.
func isEmpty(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.BasicLit:
		return e.Value == `""`
	case *ast.Ident:
		return e.Name == "nil"
	}
	return false
}

// converts reports whether a function gives back what it was given in another dress.
func converts(f *file, s *ast.SelectorExpr) bool {
	imported, _ := f.named(s)
	return imported == "strings" || imported == "bytes" || imported == "encoding/hex" || imported == "encoding/base64"
}

// rootOf is the identifier that an expression such as x.f[i] or *x hangs on.
func rootOf(e ast.Expr) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x
		case *ast.SelectorExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.IndexListExpr:
			e = x.X
		case *ast.SliceExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		default:
			return nil
		}
	}
}
