package isolation

import (
	"fmt"
	"net/http"
)

// join makes a new person of an invitation's link.
func (w *world) join(t *tenant, role, name, secret string) actor {
	return w.person(actor{name: role, tenant: t.name}, t.address(role), name, secret)
}

// person accepts an invitation as somebody new, and signs in.
func (w *world) person(a actor, email, name, secret string) actor {
	w.call(actor{}, http.MethodPost, "/v1/auth/invitations/accept", object{"token": secret, "name": name, "password": password}, 201)
	a.token = w.login(email).token
	return a
}

// invite answers the link that makes somebody an administrator of all of a tenant.
func (w *world) invite(t *tenant, email string) string {
	body := object{"email": email, "role_id": builtIn("admin"), "recursive": true}
	return text(w.call(t.owner, http.MethodPost, "/v1/tenants/"+t.id+"/invitations", body, 201), "secret")
}

// guest administers two tenants: what is allowed in one must not reach into the other, nor either into the third.
func (w *world) guest(first, second *tenant) actor {
	email := "of-both-" + second.name + "@example.net"
	a := w.person(actor{name: "member of " + first.name + " and " + second.name, tenant: first.name, also: second.name}, email, same, w.invite(first, email))
	w.call(a, http.MethodPost, "/v1/auth/invitations/accept", object{"token": w.invite(second, email)}, 201)
	return a
}

// removed is a person who administered one tenant, with all that they had of it at hand, and has gone over to another.
func (w *world) removed(from, to *tenant) []actor {
	email := "once-of-" + from.name + "@example.net"
	a := w.person(actor{name: "removed from " + from.name, tenant: to.name, only: from.name}, email, same, w.invite(from, email))
	at := "/v1/tenants/" + from.id
	pat := a
	pat.name += ", by token"
	pat.token = text(w.call(a, http.MethodPost, at+"/tokens", object{"name": same, "permissions": []string{"device:read", "device:update", "audit:read", "member:read"}}, 201), "secret")
	w.call(pat, http.MethodGet, at+"/devices", nil, 200)
	w.call(a, http.MethodPost, "/v1/auth/invitations/accept", object{"token": w.invite(to, email)}, 201)
	member := at + "/members/" + text(w.call(a, http.MethodGet, "/v1/me", nil, 200), "id")
	rev := w.call(from.owner, http.MethodGet, member, nil, 200)["rev"]
	w.call(from.owner, http.MethodDelete, member, nil, 204, "If-Match", fmt.Sprintf(`"%v"`, rev))
	return []actor{a, pat}
}

// attacks reports whether an actor is tried on a victim.
func (a actor) attacks(victim *tenant) bool { return a.only == "" || a.only == victim.name }

// swept is the Idempotency-Key of everybody.
const swept = "swept"

// earlier is the round of what the victims did themselves, whose names and addresses no later round uses: a conflict with them
// would refuse what should be refused for another reason.
const earlier = -1

// claim makes the tenant's owner use the key on every route that makes something, before anybody else does. The world's making
// has used it on what moves, assigns and activates.
func (w *world) claim(t *tenant) {
	for _, r := range w.routes() {
		if r.claims() {
			w.call(t.owner, r.method, r.fill(t, t), r.bodyOf(t, earlier), 201, "Idempotency-Key", swept)
		}
	}
}

// claims reports whether a route makes something of a tenant's, once for each key. A rotation would end the key that is there.
func (r route) claims() bool {
	return r.tenantFrom == "path" && r.keyed && r.statuses["201"] != nil && r.operation != "rotateKey"
}
