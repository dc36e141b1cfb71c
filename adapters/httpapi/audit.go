package httpapi

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/ports/store"
)

type proofOut struct {
	Body struct {
		Proof string `json:"proof" doc:"A C2SP tlog-proof: keep it"`
		Leaf  string `json:"leaf" doc:"The entry's canonical bytes, which the proof is of"`
	}
}

func (a *API) auditRoutes() {
	d := a.o.Disclose
	const at = "/v1/tenants/{tenant}/audit"
	seen := []audit.Action{audit.SensitiveRead}
	type SeqIn struct {
		TenantIn
		Seq uint64 `path:"seq" doc:"Counts from 0"`
	}
	Register(a, Declaration{Operation: "listAuditEntries", Method: http.MethodGet, Path: at + "/entries", Summary: "Query the audit log; the query itself is recorded", Tag: "audit", Permission: access.AuditRead, Object: "entry", Tenant: FromPath, At: enter.Root, Audit: seen},
		func(ctx context.Context, c *Call, in *struct {
			TenantIn
			ListIn
			SpanIn
			Actor     string `query:"actor" maxLength:"64"`
			Action    string `query:"action" maxLength:"64"`
			Target    string `query:"target" maxLength:"64"`
			Outcome   string `query:"outcome" enum:"success,failure,denied"`
			RequestID string `query:"request_id" maxLength:"64"`
		}) (*many[json.RawMessage], error) {
			f := store.AuditFilter{Actor: in.Actor, Action: in.Action, Target: in.Target, Outcome: in.Outcome, Request: in.RequestID}
			q, err := c.page(in.Cursor, in.Limit)
			if err != nil {
				return nil, err
			}
			for _, err := range []error{moment(in.From, "/from", &f.From), moment(in.To, "/to", &f.To)} {
				if err != nil {
					return nil, err
				}
			}
			page, err := d.Entries(ctx, c.Scope, q, f)
			if err != nil {
				return nil, err
			}
			return paged(c, page.Items, page.Next, func(e audit.Entry) json.RawMessage { return e.Leaf }), nil
		})
	Register(a, Declaration{Operation: "getAuditEntry", Method: http.MethodGet, Path: at + "/entries/{seq}", Summary: "Read one entry", Tag: "audit", Permission: access.AuditRead, Object: "entry", Tenant: FromPath, At: enter.Root, Audit: seen},
		func(ctx context.Context, c *Call, in *SeqIn) (*struct{ Body json.RawMessage }, error) {
			e, err := d.Entry(ctx, c.Scope, in.Seq)
			if err != nil {
				return nil, err
			}
			return &struct{ Body json.RawMessage }{e.Leaf}, nil
		})
	Register(a, Declaration{Operation: "getAuditProof", Method: http.MethodGet, Path: at + "/entries/{seq}/proof", Summary: "Get a receipt that an entry stands in the log", Tag: "audit", Permission: access.AuditRead, Object: "entry", Tenant: FromPath, At: enter.Root, Audit: seen},
		func(ctx context.Context, c *Call, in *SeqIn) (*proofOut, error) {
			p, leaf, err := d.Proof(ctx, c.Scope, in.Seq)
			if err != nil {
				return nil, err
			}
			out := &proofOut{}
			out.Body.Proof, out.Body.Leaf = p.String(), string(leaf)
			return out, nil
		})
	Register(a, Declaration{Operation: "getAuditCheckpoint", Method: http.MethodGet, Path: at + "/checkpoint", Summary: "Get a signed checkpoint of the log as it is now", Tag: "audit", Permission: access.AuditRead, Object: "checkpoint", Tenant: FromPath, At: enter.Root},
		func(ctx context.Context, c *Call, _ *TenantIn) (*struct {
			Body struct {
				Checkpoint string `json:"checkpoint" doc:"A C2SP signed note"`
				Policy     string `json:"policy" doc:"What audit-verify needs to trust the log; compare it with the server's own: ringfence audit key"`
			}
		}, error) {
			p, err := d.LatestCheckpoint(ctx, c.Scope)
			if err != nil {
				return nil, err
			}
			out := &struct {
				Body struct {
					Checkpoint string `json:"checkpoint" doc:"A C2SP signed note"`
					Policy     string `json:"policy" doc:"What audit-verify needs to trust the log; compare it with the server's own: ringfence audit key"`
				}
			}{}
			out.Body.Checkpoint, out.Body.Policy = string(p.Note), d.Policy(c.Tenant)
			return out, nil
		})
	Register(a, Declaration{Operation: "exportAudit", Method: http.MethodGet, Path: at + "/bundle", Summary: "Export the whole log as a bundle for audit-verify", Tag: "audit", Permission: access.AuditExport, Object: "bundle", Tenant: FromPath, At: enter.Root, Audit: []audit.Action{audit.AuditExported}},
		func(ctx context.Context, c *Call, _ *TenantIn) (*huma.StreamResponse, error) {
			write, err := d.Bundle(ctx, c.Scope)
			if err != nil {
				return nil, err
			}
			return &huma.StreamResponse{Body: func(hc huma.Context) {
				hc.SetHeader("Content-Type", "application/x-tar")
				hc.SetHeader("Content-Disposition", `attachment; filename="audit.tar"`)
				if err := write(hc.Context(), hc.BodyWriter()); err != nil {
					panic(http.ErrAbortHandler) // a bundle that is cut short must not look whole
				}
			}}, nil
		})
	Register(a, Declaration{Operation: "listPlatformAudit", Method: http.MethodGet, Path: "/v1/platform/audit/entries", Summary: "Query the platform's audit log", Tag: "platform", Permission: access.PlatformAuditRead, Object: "entry", Tenant: FromPlatform, At: enter.Root, Audit: seen},
		func(ctx context.Context, c *Call, in *ListIn) (*many[json.RawMessage], error) {
			q, err := c.page(in.Cursor, in.Limit)
			if err != nil {
				return nil, err
			}
			page, err := d.Entries(ctx, c.Scope, q, store.AuditFilter{})
			if err != nil {
				return nil, err
			}
			return paged(c, page.Items, page.Next, func(e audit.Entry) json.RawMessage { return e.Leaf }), nil
		})
}
