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

// LogIn asks for entries of a log.
type LogIn struct {
	ListIn
	SpanIn
	Actor     string `query:"actor" maxLength:"64"`
	Action    string `query:"action" maxLength:"64"`
	Target    string `query:"target" maxLength:"64"`
	Outcome   string `query:"outcome" enum:"success,failure,denied"`
	RequestID string `query:"request_id" maxLength:"64"`
	Org       string `query:"org" doc:"A node: entries on what stood at or below it then"`
}

func (in LogIn) filter() (store.AuditFilter, error) {
	f := store.AuditFilter{Actor: in.Actor, Action: in.Action, Target: in.Target, Outcome: in.Outcome, Request: in.RequestID}
	for _, err := range []error{moment(in.From, "/from", &f.From), moment(in.To, "/to", &f.To), body(in.Org, "/org", &f.Org)} {
		if err != nil {
			return f, err
		}
	}
	return f, nil
}

// SeqIn names an entry in the path.
type SeqIn struct {
	Seq uint64 `path:"seq" doc:"Counts from 0"`
}

type proofOut struct {
	Body struct {
		Proof string `json:"proof" doc:"A C2SP tlog-proof: keep it"`
		Leaf  string `json:"leaf" doc:"The entry's canonical bytes, which the proof is of"`
	}
}

type checkpointOut struct {
	Body struct {
		Checkpoint string `json:"checkpoint" doc:"A C2SP signed note"`
		Policy     string `json:"policy" doc:"What audit-verify needs to trust the log; compare it with the server's own: ringfence audit key"`
	}
}

// auditRoutes are one log per tenant and the platform's own: the same questions, asked of another tree.
func (a *API) auditRoutes() {
	auditLog(a, "/v1/tenants/{tenant}/audit", FromPath, "audit", access.AuditRead, access.AuditExport,
		[5]string{"listAuditEntries", "getAuditEntry", "getAuditProof", "getAuditCheckpoint", "exportAudit"},
		func(in *struct {
			TenantIn
			LogIn
		}) LogIn {
			return in.LogIn
		},
		func(in *struct {
			TenantIn
			SeqIn
		}) uint64 {
			return in.Seq
		}, func(*TenantIn) {})
	auditLog(a, "/v1/platform/audit", FromPlatform, "platform", access.PlatformAuditRead, access.PlatformAuditRead,
		[5]string{"listPlatformAudit", "getPlatformAuditEntry", "getPlatformAuditProof", "getPlatformAuditCheckpoint", "exportPlatformAudit"},
		func(in *LogIn) LogIn { return *in }, func(in *SeqIn) uint64 { return in.Seq }, func(*struct{}) {})
}

// auditLog registers the routes of one log. Q, S and N are what their paths and queries hold: huma reads them by type.
func auditLog[Q, S, N any](a *API, at string, from TenantFrom, tag string, read, export access.Permission, operations [5]string, query func(*Q) LogIn, seq func(*S) uint64, _ func(*N)) {
	d := a.o.Disclose
	declare := func(n int, path, summary, object string, p access.Permission, records ...audit.Action) Declaration {
		return Declaration{Operation: operations[n], Method: http.MethodGet, Path: at + path, Summary: summary, Tag: tag, Permission: p, Object: object, Tenant: from, At: enter.Root, Audit: records}
	}
	Register(a, declare(0, "/entries", "Query the audit log; the query itself is recorded", "entry", read, audit.SensitiveRead),
		func(ctx context.Context, c *Call, q *Q) (*many[json.RawMessage], error) {
			in := query(q)
			page, err := c.page(in.Cursor, in.Limit)
			if err != nil {
				return nil, err
			}
			f, err := in.filter()
			if err != nil {
				return nil, err
			}
			entries, err := d.Entries(ctx, c.Scope, page, f)
			if err != nil {
				return nil, err
			}
			return paged(c, entries.Items, entries.Next, func(e audit.Entry) json.RawMessage { return e.Leaf }), nil
		})
	Register(a, declare(1, "/entries/{seq}", "Read one entry", "entry", read, audit.SensitiveRead),
		func(ctx context.Context, c *Call, in *S) (*struct{ Body json.RawMessage }, error) {
			e, err := d.Entry(ctx, c.Scope, seq(in))
			if err != nil {
				return nil, err
			}
			return &struct{ Body json.RawMessage }{e.Leaf}, nil
		})
	Register(a, declare(2, "/entries/{seq}/proof", "Get a receipt that an entry stands in the log", "entry", read, audit.SensitiveRead),
		func(ctx context.Context, c *Call, in *S) (*proofOut, error) {
			p, leaf, err := d.Proof(ctx, c.Scope, seq(in))
			if err != nil {
				return nil, err
			}
			out := &proofOut{}
			out.Body.Proof, out.Body.Leaf = p.String(), string(leaf)
			return out, nil
		})
	Register(a, declare(3, "/checkpoint", "Get a signed checkpoint of the log as it is now", "checkpoint", read),
		func(ctx context.Context, c *Call, _ *N) (*checkpointOut, error) {
			p, err := d.LatestCheckpoint(ctx, c.Scope)
			if err != nil {
				return nil, err
			}
			out := &checkpointOut{}
			out.Body.Checkpoint, out.Body.Policy = string(p.Note), d.Policy(c.Tenant)
			return out, nil
		})
	Register(a, declare(4, "/bundle", "Export the whole log as a bundle for audit-verify", "bundle", export, audit.AuditExported),
		func(ctx context.Context, c *Call, _ *N) (*huma.StreamResponse, error) {
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
}
