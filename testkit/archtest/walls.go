package archtest

import (
	"slices"
	"strings"
)

// wall is one row of the table in design.md §3.
type wall struct {
	may     []string // rooms of the module, besides itself
	outside []string // modules; nil means any, since the room is where technology lives
	io      bool     // may touch the world
}

// walls by room. What stands outside these rooms is no package of ours.
var walls = map[string]wall{
	"core":     {outside: []string{"golang.org/x/mod/sumdb"}},
	"ports":    {may: []string{"core"}, outside: []string{}, io: true},
	"app":      {may: []string{"core", "ports"}, outside: []string{}, io: true},
	"testkit":  {may: []string{"core", "ports", "app"}, outside: []string{"pgregory.net/rapid", "github.com/anishathalye/porcupine"}, io: true},
	"adapters": {may: []string{"core", "ports", "app"}, io: true},
	"deploy":   {outside: []string{}, io: true}, // its package starts servers for tests; nobody's wall lets it in elsewhere
	"cmd":      {may: []string{"core", "ports", "app", "adapters"}, io: true},
}

// Reasons says of every rule why it is there.
var Reasons = map[string]string{
	"core-wall":        "core is what is true: whoever imports only core downloads no other module",
	"core-io":          "core does no I/O, holds no context, starts no goroutine, logs nothing and reads no clock: the same input gives the same answer",
	"ports-wall":       "a port says what is wanted of the outside: with a technology in it, every adapter would carry that one too",
	"app-wall":         "app is what is done: it works on any adapter because it knows none",
	"testkit-wall":     "testkit is imported by adapters outside this repository: it brings them nothing but itself",
	"adapters-wall":    "an adapter that imports another ties two technologies together; app and cmd are where they meet",
	"deploy-wall":      "tests of every room ask it for servers: what it imported, each of them would carry",
	"cmd-wall":         "a binary that links testkit ships what is made to break things",
	"rooms":            "a package without a room has no wall",
	"scope":            "a Scope is proof that the gate let somebody in: who can make one elsewhere needs no gate",
	"across":           "one transaction over platform and tenant is for setup, tenants' lives and invitations alone",
	"default-client":   "the default HTTP client follows redirects anywhere, has no timeout and is shared by everybody",
	"init":             "init runs before main can say no, in an order nobody reads",
	"package-state":    "state of a package is shared by all servers, tenants and tests in the process",
	"package-name":     "a room called after nothing holds everything",
	"package-comment":  "each package says once what the room is for and what not",
	"exported-comment": "each exported name has a sentence",
	"dot-import":       "names from nowhere get past readers and past these rules",
	"interface-size":   "an interface of one to five methods can be filled by somebody else",
	"app-interface":    "app is concrete: what it wants of the outside is a port",
	"sleep":            "a sleep is a guess about speed: wait for the thing itself, with a deadline",
	"skip":             "a check that did not run has shown nothing",
	"todo":             "a promise in a comment is kept by nobody: open an issue and name it, as in #12",
	"secret-compare":   "a comparison that stops at the first difference tells how far one has guessed: use Equal or crypto/subtle",
	"file-length":      "over 600 lines a room is missing",
	"main-length":      "main wires and nothing else: at most 60 lines",
	"stale-exemption":  "an exemption that nothing needs hides the next violation",
}

// stdIO is what of the standard library core has no use for; a final slash means everything below.
var stdIO = []string{
	"context", "crypto/rand", "crypto/tls", "database/", "embed", "expvar", "flag", "internal/", "io/fs", "io/ioutil", "log", "log/",
	"math/rand", "math/rand/", "net", "net/http", "net/http/", "net/mail", "net/rpc", "net/smtp", "net/textproto", "os", "os/", "plugin",
	"path/filepath", "runtime/", "syscall", "syscall/", "testing", "testing/", "unsafe",
}

// clock is what of package time depends on when it is asked.
var clock = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}

func (m *module) walls(p *pkg, report func(rule, where, what string)) {
	in := room(p.folder)
	w, known := walls[in]
	if !known {
		report("rooms", p.folder, "package "+p.path+" stands in no room")
		return
	}
	for _, f := range p.files {
		for _, s := range f.ast.Imports {
			imported := strings.Trim(s.Path.Value, "`\"")
			if why := m.refuses(p.folder, in, w, imported, f.test); why != "" {
				rule := in + "-wall"
				if why == touchesWorld {
					rule = "core-io"
				}
				report(rule, p.where(s), "imports "+imported+why)
			}
		}
	}
}

const touchesWorld = ", which touches the world"

// refuses answers why a folder may not import something, or nothing if it may.
func (m *module) refuses(folder, in string, w wall, imported string, test bool) string {
	inner, ours := strings.CutPrefix(imported, m.path+"/")
	first, _, _ := strings.Cut(imported, "/")
	switch {
	case imported == m.path:
		return ", the root, where no package stands"
	case !ours && !strings.Contains(first, "."): // the standard library
		if in == "core" && !test && matches(stdIO, imported) {
			return touchesWorld
		}
		return ""
	case !ours:
		switch {
		case w.outside == nil, in != "core" && test:
			return ""
		case slices.ContainsFunc(w.outside, func(o string) bool { return imported == o || strings.HasPrefix(imported, o+"/") }):
			return ""
		}
		return ", a module that this room does without"
	case in == "core" || in == "cmd" && !test:
		if room(inner) == in && (in == "core" || inner != in+"/internal" && strings.HasPrefix(inner, in+"/internal/") || parentOf(folder, inner) || parentOf(inner, folder)) || slices.Contains(w.may, room(inner)) {
			return ""
		}
	case test:
		return "" // tests of ports, app, adapters and testkit may import testkit and any adapter
	case in == "adapters" && room(inner) == "adapters":
		if parentOf(inner, folder) || parentOf(folder, inner) && strings.Contains(inner, "/internal/") {
			return ""
		}
		return ", another adapter"
	case room(inner) == in, slices.Contains(w.may, room(inner)):
		return ""
	}
	return ", beyond its wall"
}

func matches(list []string, p string) bool {
	return slices.ContainsFunc(list, func(l string) bool {
		return p == l || strings.HasSuffix(l, "/") && strings.HasPrefix(p, l)
	})
}
