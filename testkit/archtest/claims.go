package archtest

import (
	"bufio"
	"context"
	"fmt"
	"go/ast"
	"os"
	"regexp"
	"slices"
	"strings"
)

// Claim is one row of CLAIMS.md.
type Claim struct {
	ID, Promise, State string
	Tests              []string // as folder.TestName
	Line               int
}

// States of a claim.
const (
	Holds  = "holds"
	Partly = "partly"
	NotYet = "not yet"
)

var (
	claimID   = regexp.MustCompile(`^[A-Z][0-9]{1,2}$`)
	quoted    = regexp.MustCompile("`([^`]+)`")
	namedTest = regexp.MustCompile(`^([a-z0-9/_-]+)\.((?:Test|Fuzz|Benchmark|Example)[A-Za-z0-9_]*)(?:/.*)?$`)
)

// Claims reads the rows of a page like CLAIMS.md: tables of id, promise, state and proof.
func Claims(file string) ([]Claim, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var claims []Claim
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		cells := strings.Split(strings.Trim(strings.TrimSpace(lines.Text()), "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if !claimID.MatchString(cells[0]) {
			continue
		}
		if len(cells) != 4 {
			return nil, fmt.Errorf("%s:%d: %d cells in the row of %s, four are wanted", file, n, len(cells), cells[0])
		}
		claims = append(claims, Claim{ID: cells[0], Promise: cells[1], State: cells[2], Tests: NamedTests(cells[3]), Line: n})
	}
	return claims, lines.Err()
}

// NamedTests are the tests that a text names in backquotes, as folder.TestName.
func NamedTests(text string) []string {
	var names []string
	for _, q := range quoted.FindAllStringSubmatch(text, -1) {
		if m := namedTest.FindStringSubmatch(q[1]); m != nil {
			names = append(names, m[1]+"."+m[2])
		}
	}
	return names
}

// Tests are all tests, fuzz targets, benchmarks and examples of the module in dir, as folder.Name.
func Tests(ctx context.Context, dir string) (map[string]bool, error) {
	m, err := load(ctx, dir)
	if err != nil {
		return nil, err
	}
	return m.tests(), nil
}

// CheckClaims answers what is wrong with the claims made about the module in dir: a row that is missing or there twice, a
// state that is none, a claim that holds and names no test, a test that is not there.
func CheckClaims(ctx context.Context, dir string, claims []Claim, wanted []string) ([]string, error) {
	there, err := Tests(ctx, dir)
	if err != nil {
		return nil, err
	}
	var wrong []string
	seen := map[string]int{}
	for _, c := range claims {
		seen[c.ID]++
		if !slices.Contains([]string{Holds, Partly, NotYet}, c.State) {
			wrong = append(wrong, fmt.Sprintf("%s: %q is no state", c.ID, c.State))
		}
		if (c.State == Holds || c.State == Partly) && len(c.Tests) == 0 {
			wrong = append(wrong, fmt.Sprintf("%s: %s, and names no test", c.ID, c.State))
		}
		for _, t := range c.Tests {
			if !there[t] {
				wrong = append(wrong, fmt.Sprintf("%s: %s is not there", c.ID, t))
			}
		}
	}
	for _, id := range wanted {
		if seen[id] != 1 {
			wrong = append(wrong, fmt.Sprintf("%s: stands %d times, once is wanted", id, seen[id]))
		}
		delete(seen, id)
	}
	for id, n := range seen {
		if n != 1 {
			wrong = append(wrong, fmt.Sprintf("%s: stands %d times", id, n))
		}
	}
	slices.Sort(wrong)
	return wrong, nil
}

func (m *module) tests() map[string]bool {
	all := map[string]bool{}
	for _, p := range m.packages {
		for _, f := range p.files {
			if !f.test {
				continue
			}
			for _, d := range f.ast.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
					all[p.folder+"."+fn.Name.Name] = true
				}
			}
		}
	}
	return all
}
