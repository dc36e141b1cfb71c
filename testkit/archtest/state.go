package archtest

import (
	"go/ast"
	"go/token"
	"slices"
)

// guards are types that exist to be changed: as a package's variable they are state by themselves.
var guards = map[string][]string{
	"sync":        {"Mutex", "RWMutex", "Map", "Pool", "Once", "WaitGroup", "Cond"},
	"sync/atomic": {"Bool", "Int32", "Int64", "Uint32", "Uint64", "Uintptr", "Pointer", "Value"},
}

// state reports package-level variables that are assigned after their declaration, here or from another package.
func (p *pkg) state(m *module, report func(rule, where, what string)) {
	for _, f := range p.files {
		for _, d := range f.ast.Decls {
			if g, ok := d.(*ast.GenDecl); ok {
				p.guards(f, g, report)
			}
		}
		assigned := func(e ast.Expr, how string) {
			if name := p.packageVar(m, f, e); name != "" {
				report("package-state", p.where(e), name+" is "+how)
			}
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				if n.Tok != token.DEFINE {
					for _, l := range n.Lhs {
						assigned(l, "assigned")
					}
				}
			case *ast.IncDecStmt:
				assigned(n.X, "counted")
			case *ast.RangeStmt:
				if n.Tok == token.ASSIGN {
					for _, e := range []ast.Expr{n.Key, n.Value} {
						if e != nil {
							assigned(e, "assigned")
						}
					}
				}
			case *ast.UnaryExpr:
				if n.Op == token.AND {
					assigned(n.X, "open to change: its address is taken")
				}
			case *ast.CallExpr:
				if id, ok := n.Fun.(*ast.Ident); ok && id.Obj == nil && (id.Name == "delete" || id.Name == "clear") && len(n.Args) > 0 {
					assigned(n.Args[0], "emptied")
				}
			}
			return true
		})
	}
}

// guards reports variables whose type is made for change, and channels.
func (p *pkg) guards(f *file, d *ast.GenDecl, report func(rule, where, what string)) {
	if d.Tok != token.VAR {
		return
	}
	ast.Inspect(d, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit, *ast.FuncType, *ast.StructType, *ast.InterfaceType:
			return false
		case *ast.ChanType:
			report("package-state", p.where(n), "a channel")
		case *ast.SelectorExpr:
			if imported, name := f.named(n); slices.Contains(guards[imported], name) {
				report("package-state", p.where(n), imported+"."+name)
			}
		}
		return true
	})
}

// packageVar answers the name of the package-level variable that an expression stands on, if it stands on one.
func (p *pkg) packageVar(m *module, f *file, e ast.Expr) string {
	id := rootOf(e)
	switch {
	case id == nil || id.Name == "_":
		return ""
	case id.Obj != nil: // declared in this file: at its top, or inside something
		if v, ok := id.Obj.Decl.(*ast.ValueSpec); ok && slices.ContainsFunc(f.ast.Decls, func(d ast.Decl) bool {
			g, ok := d.(*ast.GenDecl)
			return ok && slices.Contains(g.Specs, ast.Spec(v))
		}) {
			return id.Name
		}
		return ""
	case f.imports[id.Name] != "": // another package's
		s := selectorOn(e, id)
		imported := f.imports[id.Name]
		if s == nil || m.vars[imported] != nil && !m.vars[imported][s.Sel.Name] || !s.Sel.IsExported() {
			return ""
		}
		return id.Name + "." + s.Sel.Name
	case m.vars[p.path][id.Name]: // declared in another file of this package
		return id.Name
	}
	return ""
}

// selectorOn is the innermost selector of an expression, the one that stands on the identifier.
func selectorOn(e ast.Expr, id *ast.Ident) *ast.SelectorExpr {
	var found *ast.SelectorExpr
	ast.Inspect(e, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok && s.X == id {
			found = s
		}
		return found == nil
	})
	return found
}
