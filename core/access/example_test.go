package access_test

import (
	"fmt"
	"time"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/org"
)

// A decision with this package alone: no server, no store, no module to download.
func Example() {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	var (
		customer, hospital, ward = ident.Node{1}, ident.Node{2}, ident.Node{3}
		nurse                    = ident.Principal{1}
		membership               = ident.Membership{1}
	)
	policy := access.Compile(access.Records{
		Revision: 7,
		Nodes: []org.Node{
			{ID: customer, Kind: org.Customer},
			{ID: hospital, Kind: org.Site, Parent: customer},
			{ID: ward, Kind: org.Building, Parent: hospital},
		},
		Memberships: []access.Membership{{
			ID: membership, Principal: nurse, Role: access.Viewer, Node: hospital, Recursive: true,
			ExpiresAt: now.Add(24 * time.Hour),
		}},
		Active: map[ident.Principal]bool{nurse: true},
	})

	ask := func(what string, p access.Permission, node ident.Node, at time.Time) {
		d := policy.Decide(access.Subject{Principal: nurse}, p, node, at)
		fmt.Printf("%s: %t, %s", what, d.Allowed, d.Reason)
		if d.Allowed {
			fmt.Printf(" by the %t membership at the hospital, at revision %d", d.Membership == membership && d.Node == hospital, d.Revision)
		}
		fmt.Println()
	}
	ask("read readings of the ward", access.ReadingRead, ward, now)
	ask("export them", access.ReadingExport, ward, now)
	ask("read readings of the customer", access.ReadingRead, customer, now)
	ask("the day after tomorrow", access.ReadingRead, ward, now.Add(48*time.Hour))

	// Output:
	// read readings of the ward: true, granted by the true membership at the hospital, at revision 7
	// export them: false, no_permission
	// read readings of the customer: false, no_reach
	// the day after tomorrow: false, no_membership
}
