// Package org holds the tree of places inside a tenant: vendor, customer, site, building, floor, zone. It is a soft wall
// inside the tenant's hard one. Rights over places are core/access.
package org

import (
	"slices"
	"time"

	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
)

// Kind is the kind of a place. A child's kind is its parent's or a later one.
type Kind string

// The six kinds in their order.
const (
	Vendor   Kind = "vendor"
	Customer Kind = "customer"
	Site     Kind = "site"
	Building Kind = "building"
	Floor    Kind = "floor"
	Zone     Kind = "zone"
)

// Kinds are the kinds from the top down.
func Kinds() []Kind { return []Kind{Vendor, Customer, Site, Building, Floor, Zone} }

// Valid reports whether the kind is one of the six.
func (k Kind) Valid() bool { return slices.Contains(Kinds(), k) }

// MayHold reports whether a place of this kind may have a child of that kind: the same or a later one.
func (k Kind) MayHold(child Kind) bool {
	kinds := Kinds()
	i, j := slices.Index(kinds, k), slices.Index(kinds, child)
	return i >= 0 && j >= i
}

// Bounds of a tenant's tree.
const (
	MaxDepth = 16 // nodes on the longest way from the root, the root included
	MaxNodes = 2_000
)

// Node is a place. A deleted one stays as a tombstone, so that its readings keep their rulers.
type Node struct {
	ID        ident.Node
	Rev       uint64
	Parent    ident.Node // zero for the root alone
	Kind      Kind
	Name      string
	Barrier   bool      // nothing inherited from above reaches this node or anything below it
	DeletedAt time.Time // zero: alive
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Deleted reports whether the node is a tombstone.
func (n Node) Deleted() bool { return !n.DeletedAt.IsZero() }

// Tree answers questions about a tenant's nodes. It is built of all of them, tombstones included.
type Tree struct {
	nodes    map[ident.Node]Node
	children map[ident.Node][]ident.Node
}

// NewTree builds the tree.
func NewTree(nodes []Node) Tree {
	t := Tree{nodes: make(map[ident.Node]Node, len(nodes)), children: map[ident.Node][]ident.Node{}}
	for _, n := range nodes {
		t.nodes[n.ID] = n
		if !n.Parent.IsZero() {
			t.children[n.Parent] = append(t.children[n.Parent], n.ID)
		}
	}
	return t
}

// Path is the way from the root to a node, both included; nil if the node is not in the tree.
func (t Tree) Path(id ident.Node) []ident.Node {
	var path []ident.Node
	for range MaxDepth + 1 {
		n, ok := t.nodes[id]
		if !ok {
			return nil
		}
		path = append(path, id)
		if n.Parent.IsZero() {
			slices.Reverse(path)
			return path
		}
		id = n.Parent
	}
	return nil // deeper than can be: a cycle, or a foreign parent
}

// Below is a node and everything under it, tombstones included, the node first.
func (t Tree) Below(id ident.Node) []ident.Node {
	if _, ok := t.nodes[id]; !ok {
		return nil
	}
	all := []ident.Node{id}
	for i := 0; i < len(all) && i <= len(t.nodes); i++ {
		all = append(all, t.children[all[i]]...)
	}
	return all
}

// Under reports whether a node is the other or stands below it.
func (t Tree) Under(id, top ident.Node) bool { return slices.Contains(t.Path(id), top) }

// Inherits reports whether what is given at top reaches a node: it is that one or stands below it, with no barrier in between.
func (t Tree) Inherits(id, top ident.Node) bool {
	path := t.Path(id)
	at := slices.Index(path, top)
	return at >= 0 && !slices.ContainsFunc(path[at+1:], func(n ident.Node) bool { return t.nodes[n].Barrier })
}

// HasChildren reports whether living nodes stand directly below.
func (t Tree) HasChildren(id ident.Node) bool {
	return slices.ContainsFunc(t.children[id], func(c ident.Node) bool { return !t.nodes[c].Deleted() })
}

// Live counts the nodes that are not tombstones.
func (t Tree) Live() int {
	n := 0
	for _, node := range t.nodes {
		if !node.Deleted() {
			n++
		}
	}
	return n
}

func inverted(kind, parent Kind) *fault.Error {
	return fault.New(fault.Invalid, "inverted_kind", "A %s cannot stand under a %s: a child's kind is its parent's or a later one of vendor, customer, site, building, floor, zone.", kind, parent)
}

// MayPlace checks that a node of a kind may stand under a parent.
func (t Tree) MayPlace(kind Kind, parent ident.Node) error {
	if !kind.Valid() {
		return fault.New(fault.Invalid, "unknown_kind", "A node's kind is one of vendor, customer, site, building, floor, zone.").WithField("/kind", "unknown kind")
	}
	p, ok := t.nodes[parent]
	if !ok || p.Deleted() {
		return fault.New(fault.Invalid, "unknown_parent", "The parent node does not exist. Name a living node of this tenant.").WithField("/parent_id", "no such node")
	}
	if !p.Kind.MayHold(kind) {
		return inverted(kind, p.Kind).WithField("/kind", "earlier than the parent's kind")
	}
	if len(t.Path(parent)) >= MaxDepth {
		return fault.New(fault.Conflict, "too_deep", "The tree may be %d nodes deep. Place the node higher.", MaxDepth)
	}
	return nil
}

// MayMove checks that a node may be moved under another parent: no cycle, kinds in order, depth kept, never the root.
func (t Tree) MayMove(id, parent ident.Node) error {
	n, ok := t.nodes[id]
	if !ok || n.Deleted() {
		return fault.Missing()
	}
	if n.Parent.IsZero() {
		return fault.New(fault.Conflict, "root_node", "The root node is never moved.")
	}
	if p, ok := t.nodes[parent]; ok && !p.Deleted() && !p.Kind.MayHold(n.Kind) {
		return inverted(n.Kind, p.Kind).WithField("/parent_id", "of a later kind than the node")
	}
	if err := t.MayPlace(n.Kind, parent); err != nil {
		return err
	}
	if t.Under(parent, id) {
		return fault.New(fault.Conflict, "cyclic_move", "A node cannot be moved below itself. Choose a parent outside its subtree.").WithField("/parent_id", "stands below the node")
	}
	if len(t.Path(parent))+t.height(id) > MaxDepth {
		return fault.New(fault.Conflict, "too_deep", "The tree may be %d nodes deep, and this subtree would reach below that. Place it higher.", MaxDepth)
	}
	return nil
}

// height is the number of nodes on the longest way down from a node, itself included.
func (t Tree) height(id ident.Node) int {
	height, level := 0, []ident.Node{id}
	for len(level) > 0 && height <= MaxDepth {
		height++
		var next []ident.Node
		for _, n := range level {
			next = append(next, t.children[n]...)
		}
		level = next
	}
	return height
}
