package access

import (
	"time"

	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
)

// ActorKind says what kind of principal acts.
type ActorKind string

// The kinds of actors.
const (
	Human     ActorKind = "human"
	Service   ActorKind = "service"
	System    ActorKind = "system"
	Anonymous ActorKind = "anonymous"
)

// Actor is who acts, by which credential. It is what an audit entry names, and it comes from the gate alone.
type Actor struct {
	Kind     ActorKind
	ID       ident.Principal // zero for system and anonymous
	System   string          // for kind system: which part of us, such as "process"
	Accessor string          // public handle of the credential; never the credential
	AMR      string          // how they signed in, such as "pwd"
}

// Name is the actor's id, or system:PART, or anonymous.
func (a Actor) Name() string {
	switch {
	case !a.ID.IsZero():
		return a.ID.String()
	case a.Kind == System:
		return "system:" + a.System
	default:
		return string(Anonymous)
	}
}

// Origin is where a request came from. Address and agent are personal: they reach the audit log as commitments only.
type Origin struct {
	Request ident.Request
	Trace   string
	Address string
	Agent   string
	Node    string // which of our processes
}

// Abroad is the origin as it stands in the log of somebody else's: where the operator's people sit is no tenant's business.
func (o Origin) Abroad() Origin {
	o.Address, o.Agent = "", ""
	return o
}

// Decision is the answer of the evaluator, with what decided it.
type Decision struct {
	Allowed    bool
	Permission Permission
	Membership ident.Membership // the decisive one; zero if none
	Role       ident.Role
	Node       ident.Node // where that membership stands
	Revision   uint64     // of the policy that decided
	Reason     string     // a stable word: "granted", "no membership", "tenant suspended", …
}

// Reach is where a permission holds: every node, or the nodes listed. Lists are filtered by it. The zero Reach is nowhere.
type Reach struct {
	All   bool
	Nodes []ident.Node // sorted, unique; barriers are already taken out
}

// IsEmpty reports whether the permission holds nowhere.
func (r Reach) IsEmpty() bool { return !r.All && len(r.Nodes) == 0 }

// Everywhere is the reach of one who holds a permission at every node of the tenant.
var Everywhere = Reach{All: true}

// Scope is the sealed proof that an actor was let into a tenant for a permission. The zero Scope opens nothing: stores
// refuse it. It is granted in app/enter and app/signin alone (held by testkit/archtest).
type Scope struct {
	tenant   ident.Tenant
	actor    Actor
	origin   Origin
	decision Decision
	view     *Policy // the snapshot that decided; nil for system scopes
	subject  Subject
	at       time.Time
	granted  bool
}

// Grant seals a decision into a Scope. A refusal is sealed too (so that it can be recorded), but opens nothing beyond it:
// see Scope.Allowed.
func Grant(tenant ident.Tenant, actor Actor, origin Origin, d Decision, policy *Policy, subject Subject, at time.Time) Scope {
	return Scope{tenant: tenant, actor: actor, origin: origin, decision: d, view: policy, subject: subject, at: at, granted: true}
}

// Tenant is whose data the scope opens.
func (s Scope) Tenant() ident.Tenant { return s.tenant }

// Actor is who acts under it.
func (s Scope) Actor() Actor { return s.actor }

// Origin is where the request came from.
func (s Scope) Origin() Origin { return s.origin }

// Decision is what let the actor in, or did not.
func (s Scope) Decision() Decision { return s.decision }

// Revision is the policy revision the decision was made from. Zero means that no policy was asked (system scopes): such a
// scope is never stale.
func (s Scope) Revision() uint64 { return s.decision.Revision }

// IsZero reports whether nothing was granted.
func (s Scope) IsZero() bool { return !s.granted || s.tenant.IsZero() }

// Allowed reports whether the decision was yes. A scope of a refusal may only record that refusal.
func (s Scope) Allowed() bool { return s.granted && s.decision.Allowed }

// Can asks the same snapshot, for the same subject, about another permission at a node. The zero node is the root.
func (s Scope) Can(p Permission, node ident.Node) Decision {
	if s.view == nil {
		return Decision{Permission: p, Reason: ReasonNoPolicy}
	}
	return s.view.Decide(s.subject, p, node, s.at)
}

// Reach is where the subject holds a permission by the same snapshot.
func (s Scope) Reach(p Permission) Reach {
	if s.view == nil {
		return Reach{}
	}
	return s.view.Reach(s.subject, p, s.at)
}

// Path is the way from the root to a node by the same snapshot, for the targets of audit events.
func (s Scope) Path(node ident.Node) []ident.Node {
	if s.view == nil {
		return nil
	}
	return s.view.Path(node)
}

// Policy is the snapshot itself, for rules about grants; nil for system scopes.
func (s Scope) Policy() *Policy { return s.view }

// Subject is who the snapshot is asked about.
func (s Scope) Subject() Subject { return s.subject }

// At is the moment of the decision.
func (s Scope) At() time.Time { return s.at }

// Require answers nil if the subject holds a permission at a node (zero: the root). Who may not even read what the
// permission is about learns that nothing is there; who may is told which permission is missing.
func (s Scope) Require(p Permission, node ident.Node) error {
	if s.Can(p, node).Allowed {
		return nil
	}
	if read := p.Read(); read != p && s.Can(read, node).Allowed {
		return Refuse(p)
	}
	return fault.Missing()
}

// Refuse is the fault of one who is known but lacks a permission.
func Refuse(p Permission) *fault.Error {
	whom := "an administrator of the tenant"
	if p.OfPlatform() {
		whom = "an administrator of the platform"
	}
	return fault.New(fault.Denied, "permission_denied", "You lack the permission %s here. Ask %s for a role that holds it.", p, whom).WithPermission(p.String())
}
