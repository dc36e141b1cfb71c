package manage

import (
	"context"
	"strconv"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/org"
	"github.com/ringfence/ringfence/ports/store"
)

func nodeShelf(r store.Reader) store.Shelf[ident.Node, org.Node] { return r.Nodes() }

func (m *Manage) nodeTarget(c *Call, id ident.Node) audit.Target {
	return enter.Target("node", id, c.Scope.Path(id)...)
}

// Node answers one node.
func (m *Manage) Node(ctx context.Context, s access.Scope, id ident.Node) (org.Node, error) {
	if err := s.Require(access.NodeRead, id); err != nil {
		return org.Node{}, err
	}
	n, err := get(ctx, m, s, nodeShelf, id)
	if err == nil && n.Deleted() {
		err = fault.Missing()
	}
	return n, err
}

// Nodes lists the nodes within reach: all, or those that are named title.
func (m *Manage) Nodes(ctx context.Context, s access.Scope, q store.Query, title string) (store.Page[org.Node], error) {
	return named(ctx, m, s, access.NodeRead, q, title, func(r store.Reader) store.Named[ident.Node, org.Node] { return r.Nodes() })
}

// CreateNode puts a node under a parent.
func (m *Manage) CreateNode(ctx context.Context, c *Call, parent ident.Node, kind org.Kind, title string) (org.Node, error) {
	if err := name(title); err != nil {
		return org.Node{}, err
	}
	if err := c.Scope.Require(access.NodeCreate, parent); err != nil {
		return org.Node{}, refer(err, "/parent_id", "node")
	}
	now := m.now()
	fresh := org.Node{Parent: parent, Kind: kind, Name: title, CreatedAt: now, UpdatedAt: now}
	ident.Fresh(m.enter.Mint, &fresh.ID)
	ev, err := m.event(ctx, c, audit.NodeCreated, enter.Target("node", fresh.ID, append(c.Scope.Path(parent), fresh.ID)...),
		audit.Set("name", "", title), audit.Set("kind", "", string(kind)), audit.Set("parent", "", parent.String()))
	if err != nil {
		return org.Node{}, err
	}
	var made org.Node
	err = m.create(ctx, c, func(ctx context.Context, w store.Writer) (string, []audit.Event, error) {
		tree, err := treeOf(ctx, w)
		if err != nil {
			return "", nil, err
		}
		if err := tree.MayPlace(kind, parent); err != nil {
			return "", nil, err
		}
		if err := full("nodes", c.limits.Nodes, tree.Live()); err != nil {
			return "", nil, err
		}
		made, err = w.Nodes().Put(ctx, fresh)
		return made.ID.String(), []audit.Event{ev}, err
	})
	return made, err
}

func treeOf(ctx context.Context, w store.Writer) (org.Tree, error) {
	all, err := w.Read().Nodes().All(ctx)
	return org.NewTree(all), err
}

// node reads a living node inside a change and compares its revision.
func node(ctx context.Context, w store.Writer, id ident.Node, rev uint64) (org.Node, error) {
	n, err := w.Nodes().Get(ctx, id)
	switch {
	case err != nil:
		return n, err
	case n.Deleted():
		return n, fault.Missing()
	case n.Rev != rev:
		return n, store.ErrRevision
	}
	return n, nil
}

// NodePatch is what may be changed of a node in place.
type NodePatch struct {
	Name    *string
	Barrier *bool
}

// UpdateNode renames a node or sets its barrier. A barrier has a permission of its own, since it takes rights away.
func (m *Manage) UpdateNode(ctx context.Context, c *Call, id ident.Node, rev uint64, p NodePatch) (org.Node, error) {
	if p.Name != nil {
		if err := c.Scope.Require(access.NodeUpdate, id); err != nil {
			return org.Node{}, err
		}
		if err := name(*p.Name); err != nil {
			return org.Node{}, err
		}
	}
	if p.Barrier != nil || p.Name == nil {
		if err := c.Scope.Require(access.NodeBarrier, id); err != nil {
			return org.Node{}, err
		}
	}
	var out org.Node
	err := m.change(ctx, c, func(ctx context.Context, w store.Writer) ([]audit.Event, error) {
		n, err := node(ctx, w, id, rev)
		if err != nil {
			return nil, err
		}
		was := n
		if p.Name != nil {
			n.Name = *p.Name
		}
		action := audit.NodeUpdated
		if p.Barrier != nil {
			if n.Parent.IsZero() && *p.Barrier {
				return nil, fault.New(fault.Conflict, "root_node", "A barrier on the root node would stop nothing. Place it below.")
			}
			n.Barrier, action = *p.Barrier, audit.NodeBarrier
		}
		if n == was {
			out = was
			return nil, errUnchanged
		}
		n.UpdatedAt = m.now()
		if out, err = w.Nodes().Put(ctx, n); err != nil {
			return nil, err
		}
		if err := stillOwned(ctx, w); err != nil {
			return nil, err
		}
		return one(m.event(ctx, c, action, m.nodeTarget(c, id), audit.Set("name", was.Name, n.Name),
			audit.Set("barrier", strconv.FormatBool(was.Barrier), strconv.FormatBool(n.Barrier))))
	})
	return out, err
}

// MoveNode puts a node, and all below it, under another parent. It takes the permission at both places.
func (m *Manage) MoveNode(ctx context.Context, c *Call, id ident.Node, rev uint64, parent ident.Node) (org.Node, error) {
	if err := c.Scope.Require(access.NodeMove, id); err != nil {
		return org.Node{}, err
	}
	if err := c.Scope.Require(access.NodeMove, parent); err != nil {
		return org.Node{}, refer(err, "/parent_id", "node")
	}
	var out org.Node
	err := m.change(ctx, c, func(ctx context.Context, w store.Writer) ([]audit.Event, error) {
		n, err := node(ctx, w, id, rev)
		if err != nil {
			return nil, err
		}
		tree, err := treeOf(ctx, w)
		if err != nil {
			return nil, err
		}
		if err := tree.MayMove(id, parent); err != nil {
			return nil, err
		}
		was := n.Parent
		if was == parent {
			out = n
			return nil, errUnchanged
		}
		n.Parent, n.UpdatedAt = parent, m.now()
		if out, err = w.Nodes().Put(ctx, n); err != nil {
			return nil, err
		}
		return one(m.event(ctx, c, audit.NodeMoved, m.nodeTarget(c, id), audit.Set("parent", was.String(), parent.String())))
	})
	return out, err
}

// DeleteNode makes a node a tombstone. One with children, devices, sources, invitations or memberships is kept.
func (m *Manage) DeleteNode(ctx context.Context, c *Call, id ident.Node, rev uint64) error {
	if err := c.Scope.Require(access.NodeDelete, id); err != nil {
		return err
	}
	return m.change(ctx, c, func(ctx context.Context, w store.Writer) ([]audit.Event, error) {
		n, err := node(ctx, w, id, rev)
		if err != nil {
			return nil, err
		}
		if n.Parent.IsZero() {
			return nil, fault.New(fault.Conflict, "root_node", "The root node is never deleted. Delete the tenant instead.")
		}
		tree, err := treeOf(ctx, w)
		if err != nil {
			return nil, err
		}
		used, err := w.Read().Nodes().InUse(ctx, id)
		if err != nil {
			return nil, err
		}
		if used || tree.HasChildren(id) {
			return nil, fault.New(fault.Conflict, "node_in_use", "The node has children, devices, sources, invitations or memberships. Move or remove them first.")
		}
		n.DeletedAt, n.UpdatedAt = m.now(), m.now()
		if _, err := w.Nodes().Put(ctx, n); err != nil {
			return nil, err
		}
		return one(m.event(ctx, c, audit.NodeDeleted, m.nodeTarget(c, id), audit.Set("name", n.Name, ""), audit.Set("kind", string(n.Kind), ""), audit.Set("parent", n.Parent.String(), "")))
	})
}

// stillOwned refuses a change after which the tenant, or what lies behind a barrier, would be nobody's.
func stillOwned(ctx context.Context, w store.Writer) error {
	records, err := w.Read().Policy(ctx)
	if err != nil {
		return err
	}
	if access.Owners(records) == 0 {
		return fault.New(fault.Conflict, "last_owner", "This would leave the tenant without an owner. Make somebody else an owner at the root first.")
	}
	if _, lost := access.Unkept(records); lost {
		return fault.New(fault.Conflict, "barrier_without_owner", "Nobody could lift this barrier any more: an owner's rights do not pass it either. First give somebody an owner's or admin's membership at the barrier itself, recursive and without expiry.")
	}
	return nil
}
