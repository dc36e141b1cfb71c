package httpapi

import (
	"context"
	"net/http"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/app/manage"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/org"
)

type nodeJSON struct {
	Common
	ParentID *string `json:"parent_id"`
	Kind     string  `json:"kind" enum:"vendor,customer,site,building,floor,zone"`
	Name     string  `json:"name"`
	Barrier  bool    `json:"barrier"`
}

func nodeShape(n org.Node) nodeJSON {
	return nodeJSON{Common{n.ID.String(), n.Rev, stamp(n.CreatedAt), stamp(n.UpdatedAt)}, ref(n.Parent), string(n.Kind), n.Name, n.Barrier}
}

func (c *Call) node(n org.Node, replayed string) *one[nodeJSON] {
	return &one[nodeJSON]{ETag: etag(n.Rev), Authz: c.authz(), Replayed: replayed, Body: nodeShape(n)}
}

// NodeIn names a node in the path.
type NodeIn struct {
	TenantIn
	Node string `path:"node"`
}

const nodesPath = "/v1/tenants/{tenant}/nodes"

func (a *API) nodeRoutes() {
	m := a.o.Manage
	Register(a, Declaration{Operation: "listNodes", Method: http.MethodGet, Path: nodesPath, Summary: "List the org nodes within reach", Tag: "nodes", Permission: access.NodeRead, Object: "node", Tenant: FromPath, At: enter.Anywhere},
		func(ctx context.Context, c *Call, in *struct {
			TenantIn
			ListIn
			NamedIn
		}) (*many[nodeJSON], error) {
			q, err := c.page(in.Cursor, in.Limit)
			if err != nil {
				return nil, err
			}
			page, err := m.Nodes(ctx, c.Scope, q, in.Name)
			if err != nil {
				return nil, err
			}
			return paged(c, page.Items, page.Next, nodeShape), nil
		})
	Register(a, Declaration{Operation: "createNode", Method: http.MethodPost, Path: nodesPath, Summary: "Create a node under a parent", Tag: "nodes", Permission: access.NodeCreate, Object: "node", Tenant: FromPath, At: enter.Anywhere, Audit: []audit.Action{audit.NodeCreated}, Status: 201},
		func(ctx context.Context, c *Call, in *struct {
			TenantIn
			Body struct {
				ParentID string `json:"parent_id" doc:"The node to stand under" example:"nod_06ethoo0000000000000000000"`
				Kind     string `json:"kind" enum:"vendor,customer,site,building,floor,zone" example:"building"`
				Name     string `json:"name" minLength:"1" maxLength:"200" example:"Building 7"`
			}
		}) (*one[nodeJSON], error) {
			var parent ident.Node
			if err := body(in.Body.ParentID, "/parent_id", &parent); err != nil {
				return nil, err
			}
			n, err := m.CreateNode(ctx, &c.Call, parent, org.Kind(in.Body.Kind), in.Body.Name)
			n, replayed, err := made(err, n, func(s string) (n org.Node, err error) {
				var id ident.Node
				if err = path(s, &id); err == nil {
					n, err = m.Node(ctx, c.Scope, id)
				}
				return n, err
			})
			if err != nil {
				return nil, err
			}
			out := c.node(n, replayed)
			out.Location = "/v1/tenants/" + in.Tenant + "/nodes/" + n.ID.String()
			return out, nil
		})
	Register(a, Declaration{Operation: "getNode", Method: http.MethodGet, Path: nodesPath + "/{node}", Summary: "Read a node", Tag: "nodes", Permission: access.NodeRead, Object: "node", Tenant: FromPath, At: enter.Object},
		func(ctx context.Context, c *Call, in *NodeIn) (*one[nodeJSON], error) {
			var id ident.Node
			if err := path(in.Node, &id); err != nil {
				return nil, err
			}
			n, err := m.Node(ctx, c.Scope, id)
			if err != nil {
				return nil, err
			}
			return c.node(n, ""), nil
		})
	Register(a, Declaration{Operation: "updateNode", Method: http.MethodPatch, Path: nodesPath + "/{node}", Summary: "Rename a node, or set its barrier", Tag: "nodes", Permission: access.NodeUpdate, Object: "node", Tenant: FromPath, At: enter.Object, Audit: []audit.Action{audit.NodeUpdated, audit.NodeBarrier}},
		func(ctx context.Context, c *Call, in *struct {
			NodeIn
			MatchIn
			Body struct {
				Name    *string `json:"name,omitempty" minLength:"1" maxLength:"200" example:"Building 8"`
				Barrier *bool   `json:"barrier,omitempty" doc:"Nothing inherited from above reaches a barrier or what lies below it"`
			}
		}) (*one[nodeJSON], error) {
			var id ident.Node
			rev, err := revision(in.IfMatch)
			if err == nil {
				err = path(in.Node, &id)
			}
			if err != nil {
				return nil, err
			}
			n, err := m.UpdateNode(ctx, &c.Call, id, rev, manage.NodePatch{Name: in.Body.Name, Barrier: in.Body.Barrier})
			if err != nil {
				return nil, err
			}
			return c.node(n, ""), nil
		})
	Register(a, Declaration{Operation: "moveNode", Method: http.MethodPost, Path: nodesPath + "/{node}/move", Summary: "Move a node and all below it under another parent", Tag: "nodes", Permission: access.NodeMove, Object: "node", Tenant: FromPath, At: enter.Object, Audit: []audit.Action{audit.NodeMoved}},
		func(ctx context.Context, c *Call, in *struct {
			NodeIn
			MatchIn
			Body struct {
				ParentID string `json:"parent_id" example:"nod_06ethoo0000000000000000000"`
			}
		}) (*one[nodeJSON], error) {
			var id, parent ident.Node
			rev, err := revision(in.IfMatch)
			if err == nil {
				err = path(in.Node, &id)
			}
			if err == nil {
				err = body(in.Body.ParentID, "/parent_id", &parent)
			}
			if err != nil {
				return nil, err
			}
			n, err := m.MoveNode(ctx, &c.Call, id, rev, parent)
			n, replayed, err := made(err, n, func(string) (org.Node, error) { return m.Node(ctx, c.Scope, id) })
			if err != nil {
				return nil, err
			}
			return c.node(n, replayed), nil
		})
	Register(a, Declaration{Operation: "deleteNode", Method: http.MethodDelete, Path: nodesPath + "/{node}", Summary: "Delete a node that nothing stands on", Tag: "nodes", Permission: access.NodeDelete, Object: "node", Tenant: FromPath, At: enter.Object, Audit: []audit.Action{audit.NodeDeleted}, Status: 204},
		func(ctx context.Context, c *Call, in *struct {
			NodeIn
			MatchIn
		}) (*none, error) {
			var id ident.Node
			rev, err := revision(in.IfMatch)
			if err == nil {
				err = path(in.Node, &id)
			}
			if err == nil {
				err = m.DeleteNode(ctx, &c.Call, id, rev)
			}
			if err != nil {
				return nil, err
			}
			return done(c), nil
		})
}
