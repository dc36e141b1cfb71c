package httpapi

import (
	"context"
	"encoding/base64"
	"net/http"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/app/ingest"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/ident"
)

// deadJSON is a dead letter without what it holds.
type deadJSON struct {
	ID       string  `json:"id" doc:"Partition and offset in the topic of dead letters" example:"3-1207"`
	Reason   string  `json:"reason" doc:"A stable word" example:"no_tenant"`
	Via      string  `json:"via" doc:"The connection that brought it, or the topic it was read from" example:"connection:chirpstack-eu"`
	Origin   string  `json:"origin" doc:"Its MQTT topic, or partition and offset; shortened, and without what cannot be shown"`
	TenantID *string `json:"tenant_id" doc:"As far as known"`
	Size     int     `json:"size" doc:"Bytes of the value"`
	Whole    bool    `json:"whole" doc:"Whether all of it was kept, which a replay needs"`
	SHA256   string  `json:"sha256" doc:"Of the whole value, base64"`
	At       string  `json:"at" format:"date-time"`
}

func deadShape(d ingest.DeadLetter) deadJSON {
	out := deadJSON{ID: d.Place, Reason: d.Reason, Via: d.Via, Origin: d.Origin, Size: d.Size, Whole: d.Whole(), SHA256: base64.StdEncoding.EncodeToString(d.Hash[:]), At: stamp(d.At)}
	if !d.Tenant.IsZero() {
		id := d.Tenant.String()
		out.TenantID = &id
	}
	return out
}

// deadRoutes are what became of nobody's messages and of records that are none. They are there where events go over a bus.
func (a *API) deadRoutes() {
	if !a.o.Ingest.OverBus() {
		return
	}
	const at = "/v1/platform/dead-letters"
	type DeadIn struct {
		Letter string `path:"letter" maxLength:"40"`
	}
	Register(a, Declaration{Operation: "listDeadLetters", Method: http.MethodGet, Path: at, Summary: "List dead letters, oldest first in each partition: what they say of themselves, and nothing of what they hold", Tag: "platform", Permission: access.PlatformDeadLetterRead, Object: "dead-letter", Tenant: FromPlatform, At: enter.Root},
		func(ctx context.Context, c *Call, in *struct {
			ListIn
			Reason string `query:"reason" maxLength:"64" doc:"Of this reason alone; a page may then be short although there is a next one"`
		}) (*many[deadJSON], error) {
			q, err := c.page(in.Cursor, in.Limit)
			if err != nil {
				return nil, err
			}
			page, err := a.o.Ingest.DeadLetters(ctx, c.Scope, q, in.Reason)
			if err != nil {
				return nil, err
			}
			return paged(c, page.Items, page.Next, deadShape), nil
		})
	Register(a, Declaration{Operation: "getDeadLetter", Method: http.MethodGet, Path: at + "/{letter}", Summary: "Read what a dead letter says of itself", Tag: "platform", Permission: access.PlatformDeadLetterRead, Object: "dead-letter", Tenant: FromPlatform, At: enter.RootObject},
		func(ctx context.Context, c *Call, in *DeadIn) (*one[deadJSON], error) {
			d, err := a.o.Ingest.DeadLetter(ctx, c.Scope, in.Letter)
			if err != nil {
				return nil, err
			}
			return &one[deadJSON]{Body: deadShape(d)}, nil
		})
	type replayed struct {
		EventID string `json:"event_id" doc:"The event that it became, the same at each replay"`
	}
	Register(a, Declaration{Operation: "replayDeadLetter", Method: http.MethodPost, Path: at + "/{letter}/replay", Summary: "Put a dead letter back on its way; all checks are run again", Tag: "platform", Permission: access.PlatformDeadLetterReplay, Object: "dead-letter", Tenant: FromPlatform, At: enter.RootObject, Audit: []audit.Action{audit.DeadLetterReplayed}, Status: http.StatusAccepted},
		func(ctx context.Context, c *Call, in *struct {
			DeadIn
			Body *struct {
				HeirTenantID string `json:"heir_tenant_id,omitempty" doc:"Whose it is to become, or it is refused. To be named where its application was nobody's when the message came, and another tenant had it before whose it is now: who names the heir answers for it, and the log tells it"`
			}
		}) (*one[replayed], error) {
			var heir ident.Tenant
			if in.Body != nil {
				if err := body(in.Body.HeirTenantID, "/heir_tenant_id", &heir); err != nil {
					return nil, err
				}
			}
			id, repeated, err := a.o.Ingest.ReplayDead(ctx, c.Scope, c.Once, in.Letter, heir)
			if err != nil {
				return nil, err
			}
			out := &one[replayed]{Body: replayed{id.String()}}
			if repeated {
				out.Replayed = "true"
			}
			return out, nil
		})
}
