package httpapi

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/ports/store"
)

// FilterIn says which entries of a log.
type FilterIn struct {
	SpanIn
	Actor     string `query:"actor" maxLength:"64"`
	Action    action `query:"action"`
	Target    string `query:"target" maxLength:"64"`
	Outcome   string `query:"outcome" enum:"success,failure,denied"`
	RequestID string `query:"request_id" maxLength:"64"`
	Org       string `query:"org" doc:"A node: entries on what stood at or below it then"`
}

// LogIn asks for entries of a log.
type LogIn struct {
	ListIn
	FilterIn
}

// action is one of the words of the log.
type action string

// Schema lists them.
func (action) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, a := range audit.Actions() {
		s.Enum = append(s.Enum, string(a))
	}
	return s
}

func (in FilterIn) filter() (store.AuditFilter, error) {
	f := store.AuditFilter{Actor: in.Actor, Action: string(in.Action), Target: in.Target, Outcome: in.Outcome, Request: in.RequestID}
	for _, err := range []error{moment(in.From, "/query/from", &f.From), moment(in.To, "/query/to", &f.To), body(in.Org, "/query/org", &f.Org)} {
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

// Resolve knows an entry by one spelling of its number alone; another one is the path of nothing.
func (in *SeqIn) Resolve(hc huma.Context) []error {
	if hc.Param("seq") != strconv.FormatUint(in.Seq, 10) {
		return []error{problemOf(hc.Context(), notFound())}
	}
	return nil
}

// BundleIn says what a bundle holds.
type BundleIn struct {
	Private bool `query:"private" doc:"With the private values that the entries hold commitments to, such as names and addresses"`
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
		Policy     string `json:"policy" doc:"What audit-verify needs to trust the log; compare it with the server's own: ringfence audit key, or platform-api audit-key"`
	}
}

// openedJSON is a private value as a bundle has it.
type openedJSON struct {
	Field string `json:"field" doc:"A field of a change, or src.ip and src.ua: where the request came from"`
	New   bool   `json:"new" doc:"Of the new value, or of the old one"`
	Nonce string `json:"nonce" doc:"16 bytes in hex: the entry holds SHA-256(nonce, field, a zero byte, value)"`
	Value string `json:"value"`
}

type privateOut struct {
	Body struct {
		Values []openedJSON `json:"values"`
	}
}

type digestOut struct {
	Body struct {
		Digest string `json:"digest" doc:"As entries hold it"`
	}
}

// logInputs tell what stands in the paths and queries of one log's routes: huma reads them by type.
type logInputs[Q, F, S, B any] struct {
	query  func(*Q) LogIn
	filter func(*F) FilterIn
	seq    func(*S) uint64
	bundle func(*B) BundleIn
}

// auditRoutes are one log per tenant and the platform's own: the same questions, asked of another tree.
func (a *API) auditRoutes() {
	type (
		tenantLog struct {
			TenantIn
			LogIn
		}
		tenantFilter struct {
			TenantIn
			FilterIn
		}
		tenantSeq struct {
			TenantIn
			SeqIn
		}
		tenantBundle struct {
			TenantIn
			BundleIn
		}
	)
	auditLog(a, "/v1/tenants/{tenant}/audit", FromPath, "audit", access.AuditRead, access.AuditExport,
		[7]string{"listAuditEntries", "getAuditEntry", "getAuditProof", "getAuditCheckpoint", "exportAudit", "exportAuditEntries", "getAuditPrivateValues"},
		logInputs[tenantLog, tenantFilter, tenantSeq, tenantBundle]{
			func(in *tenantLog) LogIn { return in.LogIn }, func(in *tenantFilter) FilterIn { return in.FilterIn }, func(in *tenantSeq) uint64 { return in.Seq },
			func(in *tenantBundle) BundleIn { return in.BundleIn },
		}, func(*TenantIn) {})
	auditLog(a, "/v1/platform/audit", FromPlatform, "platform", access.PlatformAuditRead, access.PlatformAuditRead,
		[7]string{"listPlatformAudit", "getPlatformAuditEntry", "getPlatformAuditProof", "getPlatformAuditCheckpoint", "exportPlatformAudit", "exportPlatformAuditEntries", "getPlatformAuditPrivateValues"},
		logInputs[LogIn, FilterIn, SeqIn, BundleIn]{
			func(in *LogIn) LogIn { return *in }, func(in *FilterIn) FilterIn { return *in }, func(in *SeqIn) uint64 { return in.Seq }, func(in *BundleIn) BundleIn { return *in },
		}, func(*struct{}) {})
	// A candidate is nothing for an address, which is logged on its way: this is asked by POST.
	Register(a, Declaration{Operation: "digestLogin", Method: http.MethodPost, Path: "/v1/platform/audit/digest", Summary: "Get what failed sign-ins of a name hold of it, to look for them", Tag: "platform", Permission: access.PlatformAuditRead, Object: "entry", Tenant: FromPlatform, At: enter.Root, Audit: []audit.Action{audit.SensitiveRead}},
		func(ctx context.Context, c *Call, in *struct {
			Body struct {
				Login string `json:"login" maxLength:"254" example:"ana@acme.example"`
				Key   string `json:"key,omitempty" maxLength:"64" doc:"Of an older digest: the word between its colons; else the newest"`
			}
		}) (*digestOut, error) {
			text, err := a.o.Disclose.Digest(ctx, c.Scope, in.Body.Login, in.Body.Key)
			if err != nil {
				return nil, err
			}
			out := &digestOut{}
			out.Body.Digest = text
			return out, nil
		})
}

// auditLog registers the routes of one log.
func auditLog[Q, F, S, B, N any](a *API, at string, from TenantFrom, tag string, read, export access.Permission, operations [7]string, of logInputs[Q, F, S, B], _ func(*N)) {
	d := a.o.Disclose
	declare := func(n int, path, summary, object string, p access.Permission, records ...audit.Action) Declaration {
		return Declaration{Operation: operations[n], Method: http.MethodGet, Path: at + path, Summary: summary, Tag: tag, Permission: p, Object: object, Tenant: from, At: enter.Root, Audit: records}
	}
	Register(a, declare(0, "/entries", "Query the audit log; the query itself is recorded", "entry", read, audit.SensitiveRead),
		func(ctx context.Context, c *Call, q *Q) (*many[json.RawMessage], error) {
			in := of.query(q)
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
			e, err := d.Entry(ctx, c.Scope, of.seq(in))
			if err != nil {
				return nil, err
			}
			return &struct{ Body json.RawMessage }{e.Leaf}, nil
		})
	Register(a, declare(2, "/entries/{seq}/proof", "Get a receipt that an entry stands in the log", "entry", read, audit.SensitiveRead),
		func(ctx context.Context, c *Call, in *S) (*proofOut, error) {
			p, leaf, err := d.Proof(ctx, c.Scope, of.seq(in))
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
		func(ctx context.Context, c *Call, in *B) (*huma.StreamResponse, error) {
			write, err := d.Bundle(ctx, c.Scope, of.bundle(in).Private)
			return download("application/x-tar", "audit.tar", write, err)
		})
	Register(a, declare(5, "/export", "Export entries, the oldest first, a line of canonical JSON each", "entry", export, audit.AuditExported),
		func(ctx context.Context, c *Call, in *F) (*huma.StreamResponse, error) {
			f, err := of.filter(in).filter()
			if err != nil {
				return nil, err
			}
			write, err := d.Export(ctx, c.Scope, f)
			return download("application/x-ndjson", "audit.ndjson", write, err)
		})
	Register(a, declare(6, "/entries/{seq}/private", "Get the private values that an entry holds commitments to", "entry", export, audit.SensitiveRead),
		func(ctx context.Context, c *Call, in *S) (*privateOut, error) {
			values, err := d.Private(ctx, c.Scope, of.seq(in))
			if err != nil {
				return nil, err
			}
			out := &privateOut{}
			out.Body.Values = make([]openedJSON, len(values))
			for i, o := range values {
				out.Body.Values[i] = openedJSON{o.Field, o.New, hex.EncodeToString(o.Nonce[:]), o.Value}
			}
			return out, nil
		})
}

// download streams what is to be kept as a file. An error before its first byte is answered, one behind it breaks the answer
// off: what is cut short must not look whole.
func download(media, name string, write func(context.Context, io.Writer) error, err error) (*huma.StreamResponse, error) {
	if err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		hc.SetHeader("Content-Type", media)
		hc.SetHeader("Content-Disposition", `attachment; filename="`+name+`"`)
		hc.SetStatus(http.StatusOK) // also of one without a line
		requestOf(hc.Context()).crash = write(hc.Context(), hc.BodyWriter())
	}}, nil
}
