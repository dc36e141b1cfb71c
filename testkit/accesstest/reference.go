package accesstest

import (
	"slices"
	"strings"
	"time"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/org"
)

// reference decides as design.md §6 is read aloud: for every membership, whose it is, whether it is in force, what its role
// holds, and whether one walks from the node up to it without meeting a barrier. It compiles and remembers nothing, shares no
// code with core/access, and has at most 80 lines, so that it can be believed by reading it.
type reference struct {
	access.Records
	roles []access.Role // the built-in ones first, so that no record says what they are
}

func (r *reference) Decide(s access.Subject, p access.Permission, at ident.Node, now time.Time) access.Decision {
	d := access.Decision{Permission: p, Revision: r.Revision, Reason: access.ReasonNoMembership}
	if s.Narrowed && !in(s.Limit, p) {
		d.Reason = access.ReasonToken
		return d
	}
	target := r.node(func(n org.Node) bool { return n.ID == at || at.IsZero() && n.Parent.IsZero() })
	if target == nil {
		d.Reason = access.ReasonUnknownNode
		return d
	}
	for _, m := range r.Memberships {
		mine := m.Principal == s.Principal || m.Principal.IsZero() && r.contains(m.Group, s.Principal, access.MaxNesting)
		live := m.ExpiresAt.IsZero() || now.Before(m.ExpiresAt)
		there := r.node(func(n org.Node) bool { return n.ID == m.Node }) != nil
		switch {
		case !mine || !live || !there || !r.Active[s.Principal] || !r.gives(m.Role, anything):
		case !r.gives(m.Role, p) && d.Reason != access.ReasonNoMembership:
		case !r.gives(m.Role, p):
			d.Reason = access.ReasonNoPermission
		case !r.reaches(m, target) && d.Allowed:
		case !r.reaches(m, target):
			d.Reason = access.ReasonNoReach
		case !d.Allowed || m.ID.Compare(d.Membership) < 0: // of several that give it the oldest is named
			d.Allowed, d.Reason, d.Membership, d.Role, d.Node = true, access.ReasonGranted, m.ID, m.Role, m.Node
		}
	}
	return d
}

func (r *reference) reaches(m access.Membership, at *org.Node) bool {
	for at != nil && at.ID != m.Node {
		if !m.Recursive || at.Barrier {
			return false
		}
		parent := at.Parent
		at = r.node(func(n org.Node) bool { return n.ID == parent })
	}
	return at != nil
}

func (r *reference) contains(id ident.Group, who ident.Principal, levels int) bool {
	return levels > 0 && slices.ContainsFunc(r.Groups, func(g access.Group) bool {
		return g.ID == id && (slices.Contains(g.Members, who) ||
			slices.ContainsFunc(g.Groups, func(child ident.Group) bool { return r.contains(child, who, levels-1) }))
	})
}

const anything = access.Permission(255)

// gives answers whether a role gives a permission here, or anything at all.
func (r *reference) gives(role ident.Role, p access.Permission) bool {
	i := slices.IndexFunc(r.roles, func(one access.Role) bool { return one.ID == role })
	for q := access.Permission(1); i >= 0 && q.String() != ""; q++ {
		if (q == p || p == anything) && in(r.roles[i].Permissions, q) && strings.HasPrefix(q.String(), "platform-") == r.Platform {
			return true
		}
	}
	return false
}

func (r *reference) node(is func(org.Node) bool) *org.Node {
	i := slices.IndexFunc(r.Nodes, is)
	if i < 0 {
		return nil
	}
	return &r.Nodes[i]
}

func in(set access.Set, p access.Permission) bool {
	return p.String() != "" && set[p/64]>>(p%64)&1 == 1
}
