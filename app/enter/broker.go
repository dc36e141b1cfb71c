package enter

import (
	"context"
	"net/netip"
	"strings"
	"time"

	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/credential"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/ports/limit"
)

// Broker is the gate of MQTT brokers, of ours and of those that ask us: who connects, and what they may publish and hear.
// There is no second one. Use NewBroker.
type Broker struct {
	enter   *Enter
	limiter limit.Limiter
}

// NewBroker returns the gate for brokers. The limiter counts the connects that failed.
func NewBroker(e *Enter, l limit.Limiter) *Broker { return &Broker{enter: e, limiter: l} }

// Publisher is a client of a broker that proved to be a source's. It carries no right: what it may do is asked anew each time,
// of the key that it came with. The zero Publisher may do nothing.
type Publisher struct {
	Identity
	Client string // its client id
	key    ident.Key
}

// Topics are those that are the publisher's own.
func (p Publisher) Topics() source.Topics { return source.Topics{Tenant: p.Tenant, Source: p.Source} }

// perConnect bounds the connects that fail, of one network and of one source.
var perConnect = limit.Rate{Every: 3 * time.Second, Burst: 20}

func errConnects() error {
	return fault.New(fault.Exhausted, "connect_throttled", "Too many connects failed. Wait before the next try.").WithRetry(perConnect.Every)
}

// Connect answers whose a client of a broker is: the user name is the source's id, the password one of its ingestion keys, and
// the client id begins with the source's. Whatever else it is, is one refusal: that the key is another source's is not told.
//
// Connects that fail are counted, by network and by the source that they name. Beyond what is free, keys that were not seen
// lately are refused without being looked up; a right one that is in use opens as before, so that neither a neighbour's broken
// gateway nor a stranger who knows an id shuts a source out.
func (b *Broker) Connect(ctx context.Context, user string, password secret.Text, client string, o access.Origin) (Publisher, error) {
	e := b.enter
	claimed, err := ident.Source{}, error(nil)
	named := "nobody"
	if err = claimed.UnmarshalText([]byte(user)); err == nil {
		named = claimed.String()
	}
	counted := []string{"connect as " + named}
	if o.Address != "" { // some brokers do not tell
		counted = append(counted, "connect from "+Network(o.Address))
	}
	failed := func(err error) error {
		if fault.Is(err, fault.Unauthenticated) {
			for _, key := range counted {
				b.limiter.Take(key, 1, perConnect)
			}
		}
		return err
	}
	t, perr := credential.Parse(password.Reveal())
	if err != nil || perr != nil || t.Kind != credential.KindIngestion { // no other credential opens a broker
		return Publisher{}, failed(errCredential)
	}
	if _, seen := e.cache.homes.Load(t.Accessor); !seen {
		for _, key := range counted {
			if v := b.limiter.Take(key, 0, perConnect); v.Remaining == 0 {
				return Publisher{}, errConnects()
			}
		}
	}
	home, err := e.Locate(ctx, t)
	if err != nil {
		return Publisher{}, failed(err)
	}
	id, err := e.ingestion(ctx, t, o)
	if err == nil && id.Source != claimed {
		err = errCredential
	}
	if err != nil {
		return Publisher{}, failed(err)
	}
	p := Publisher{Identity: id, Client: client, key: ident.Key(home.Row)}
	if err := p.Topics().MayBe(client); err != nil {
		return Publisher{}, err
	}
	if _, _, _, err := e.Source(ctx, id, o); err != nil { // recorded, as any other refusal of the source
		return Publisher{}, err
	}
	return p, b.Still(ctx, p)
}

// Mark names the publisher's tenant and key, for a broker that keeps it with the connection and shows it with each question.
// It proves nothing: Resume believes the broker that it was given to.
func (p Publisher) Mark() string { return p.Tenant.String() + ":" + p.key.String() }

// Resume is the publisher of a mark, if what the broker says of the client agrees with it now.
func (b *Broker) Resume(ctx context.Context, user, mark, client string) (Publisher, error) {
	var p Publisher
	home, key, _ := strings.Cut(mark, ":")
	if p.Tenant.UnmarshalText([]byte(home)) != nil || p.key.UnmarshalText([]byte(key)) != nil || p.Source.UnmarshalText([]byte(user)) != nil {
		return Publisher{}, errCredential
	}
	if err := p.Topics().MayBe(client); err != nil {
		return Publisher{}, err
	}
	st, err := b.enter.standing(ctx, p.Tenant)
	if err != nil {
		return Publisher{}, known(err)
	}
	k, src := st.keys[p.key], st.sources[p.Source]
	if k == nil || k.Source != p.Source {
		return Publisher{}, errCredential
	}
	p.Identity, p.Client = keyOf(src, p.Tenant, k.Accessor), client
	return p, b.Still(ctx, p)
}

// Names reports whether the publisher's client id says which key it came with: the source's id, a hyphen and the key's accessor,
// and behind another hyphen whatever tells its clients apart.
func (p Publisher) Names() bool {
	return p.Accessor != "" && named(p.Source.String(), p.Client) == p.Accessor
}

// named is what stands in a client id where a key's accessor does.
func named(user, client string) string {
	rest, ok := strings.CutPrefix(client, user+"-")
	if !ok {
		return ""
	}
	accessor, _, _ := strings.Cut(rest, "-")
	return accessor
}

// MarkOf is the mark of the key that a client id names, for a broker that keeps none: it says the client id in each question all
// the same. Empty: it names none. As with a mark that is kept, the broker is believed that it let this client in.
func (b *Broker) MarkOf(ctx context.Context, user, client string) (string, error) {
	accessor := named(user, client)
	if accessor == "" {
		return "", nil
	}
	home, err := b.enter.Locate(ctx, credential.Token{Kind: credential.KindIngestion, Accessor: accessor})
	if fault.Is(err, fault.Unauthenticated) { // nobody's
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return Publisher{Identity: Identity{Tenant: home.Tenant}, key: ident.Key(home.Row)}.Mark(), nil
}

// Still answers whether a publisher would be let in now: its key is in force, its source and tenant are active, and the source
// may submit. It costs no query while nothing changes, and records nothing.
func (b *Broker) Still(ctx context.Context, p Publisher) error {
	if p.Kind != credential.KindIngestion || p.key.IsZero() {
		return errCredential
	}
	e := b.enter
	st, err := e.standing(ctx, p.Tenant)
	if err != nil {
		return known(err)
	}
	now := e.Now()
	key, src := st.keys[p.key], st.sources[p.Source]
	if key == nil || !key.Live(now) || key.Source != p.Source || src.State != source.Active {
		return errCredential
	}
	if err := st.admit(true); err != nil {
		return err
	}
	if !st.policy.Decide(p.Subject, access.UplinkSubmit, src.Node, now).Allowed {
		return access.Refuse(access.UplinkSubmit)
	}
	return nil
}

// Publish lets a publisher say something at a topic. A will is asked for when it is left with the broker, and again when it is
// said. What is refused of somebody known is recorded.
func (b *Broker) Publish(ctx context.Context, p Publisher, topic string, retain bool, o access.Origin) error {
	if err := b.Still(ctx, p); err != nil {
		return err
	}
	return b.answer(ctx, p, p.Topics().MayPublish(topic, retain), o)
}

// Subscribe lets a publisher hear what matches a filter, which is as the client wrote it.
func (b *Broker) Subscribe(ctx context.Context, p Publisher, filter string, o access.Origin) error {
	if err := b.Still(ctx, p); err != nil {
		return err
	}
	return b.answer(ctx, p, p.Topics().MaySubscribe(filter), o)
}

// answer records a refusal of the rule of topics. What is merely no topic is the sender's mistake.
func (b *Broker) answer(ctx context.Context, p Publisher, err error, o access.Origin) error {
	if !fault.Is(err, fault.Denied) {
		return err
	}
	return b.enter.refuse(ctx, p.Identity, p.Tenant, true, access.Decision{Permission: access.UplinkSubmit, Reason: access.ReasonNoReach}, o, err)
}

// Network is the part of an address that one customer of an access provider has: /24 of IPv4, /56 of IPv6.
func Network(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return "unknown"
	}
	ip = ip.Unmap()
	bits := 24
	if ip.Is6() {
		bits = 56
	}
	p, err := ip.Prefix(bits)
	if err != nil {
		return "unknown"
	}
	return p.String()
}
