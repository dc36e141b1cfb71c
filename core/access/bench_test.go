package access

import (
	"testing"

	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/org"
)

// BenchmarkDecide is a warm decision at the bottom of a tree of sixteen, in a tenant of a thousand members.
func BenchmarkDecide(b *testing.B) {
	r := Records{Revision: 1, Active: map[ident.Principal]bool{}}
	for i := range 16 {
		n := org.Node{ID: ident.Node{byte(i + 1)}, Kind: org.Site}
		if i > 0 {
			n.Parent = ident.Node{byte(i)}
		}
		r.Nodes = append(r.Nodes, n)
	}
	for i := range 1000 {
		p := ident.Principal{byte(i >> 8), byte(i), 1}
		r.Active[p] = true
		r.Memberships = append(r.Memberships, Membership{ID: ident.Membership{byte(i >> 8), byte(i)}, Principal: p, Role: Operator, Node: ident.Node{1}, Recursive: true})
	}
	policy, s, leaf := Compile(r), Subject{Principal: ident.Principal{1, 7, 1}}, ident.Node{16}
	b.ReportAllocs()
	for b.Loop() {
		if !policy.Decide(s, DeviceUpdate, leaf, now).Allowed {
			b.Fatal("denied")
		}
	}
}
