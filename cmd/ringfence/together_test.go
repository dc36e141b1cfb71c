package main

import (
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/ringfence/ringfence/core/audit"
)

// Callers who change one tenant at the same moment, its rights too, do not refuse each other: whoever comes second is decided
// again.
func TestCallersOfOneTenantDoNotRefuseEachOther(t *testing.T) {
	s, admin, ten := unhurried(t)
	at := "/v1/tenants/" + ten.id
	viewer, me := s.role(t, ten, "viewer"), s.get(ten.token, "/v1/me").str("id")
	want := func(what string, r reply, code int) reply {
		if r.err != nil || r.status != code {
			t.Errorf("%s: %d %s %v", what, r.status, r.code(), r.err)
		}
		return r
	}
	const callers, rounds = 12, 6
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for n := range rounds {
				name := fmt.Sprintf("of caller %d, %d", c, n)
				node := want("a node", s.post(ten.token, at+"/nodes", obj{"parent_id": ten.root, "kind": "site", "name": name}), 201)
				path := at + "/nodes/" + node.str("id")
				switch c % 4 {
				case 0: // narrows
					got := want("a membership", s.post(ten.token, at+"/memberships", obj{"principal_id": me, "role_id": viewer, "node_id": node.str("id")}), 201)
					want("taking it away", s.call(http.MethodDelete, ten.token, at+"/memberships/"+got.str("id"), nil, got.header.Get("ETag")), 204)
				case 1:
					want("a name", s.call(http.MethodPatch, ten.token, path, obj{"name": name + ", renamed"}, node.header.Get("ETag")), 200)
				case 2:
					want("an end", s.call(http.MethodDelete, ten.token, path, nil, node.header.Get("ETag")), 204)
				case 3:
					want("the log", s.get(ten.token, at+"/audit/entries"), 200)
					want("a group", s.post(ten.token, at+"/groups", obj{"name": name}), 201)
				}
				if c == 0 {
					want("a tenant", s.post(admin, "/v1/platform/tenants", obj{"name": name, "owner_email": fmt.Sprintf("o%d@new.example", n)}), 201)
				} else {
					want("the platform's log", s.get(admin, "/v1/platform/audit/entries?limit=1"), 200)
				}
			}
		})
	}
	wg.Wait()
	noted := want("the log", s.get(ten.token, at+"/audit/entries?limit=200&action="+string(audit.SensitiveRead)), 200).list("items")
	if reads := callers/4*rounds + 1; len(noted) != reads {
		t.Errorf("%d readings of the log are in it %d times", reads, len(noted))
	}
}

// A retry that runs beside the first try answers what that one made, whatever it makes.
func TestRetriesBesideTheFirstTryMakeOneThing(t *testing.T) {
	s, _, ten := unhurried(t)
	viewer, me := s.role(t, ten, "viewer"), s.get(ten.token, "/v1/me").str("id")
	for noun, body := range map[string]func(n int) obj{
		"nodes":  func(n int) obj { return obj{"parent_id": ten.root, "kind": "site", "name": fmt.Sprint("once ", n)} },
		"groups": func(n int) obj { return obj{"name": fmt.Sprint("once ", n)} },
		"roles":  func(n int) obj { return obj{"name": fmt.Sprint("once ", n), "permissions": []string{"node:read"}} },
		"memberships": func(int) obj {
			return obj{"principal_id": me, "role_id": viewer, "node_id": ten.root, "recursive": true}
		},
	} {
		for n := range 10 {
			ids := make([]string, 8)
			var wg sync.WaitGroup
			for i := range ids {
				wg.Go(func() {
					r := s.keyed(ten.token, "/v1/tenants/"+ten.id+"/"+noun, fmt.Sprint(noun, n), body(n))
					status(t, noun, r, http.StatusCreated)
					ids[i] = r.str("id")
				})
			}
			wg.Wait()
			for _, id := range ids {
				if id == "" || id != ids[0] {
					t.Fatalf("%s under one key: %q", noun, ids)
				}
			}
		}
	}
}
