package access

import (
	"time"

	"github.com/ringfence/ringfence/core/ident"
)

// Exceeds is a permission that a principal holds in this tenant and a subject does not, at the same node, with the same reach
// and for as long: whoever is handed the principal's account, as by a link that sets its password, would gain it. That of
// owners is named first.
func (p *Policy) Exceeds(principal ident.Principal, by Subject, now time.Time) (Permission, bool) {
	var beyond Set
	moment := now.UnixMicro()
	grants, _ := p.of(principal)
	for _, g := range grants {
		var until time.Time
		if g.expires != 0 {
			if moment >= g.expires {
				continue
			}
			until = time.UnixMicro(g.expires)
		}
		beyond = beyond.Union(g.permissions.Less(p.HeldUntil(by, g.node, g.recursive, now, until)))
	}
	switch {
	case beyond.IsEmpty():
		return None, false
	case beyond.Has(OwnershipGrant):
		return OwnershipGrant, true
	}
	return beyond.List()[0], true
}
