// Package brokerauth answers MQTT brokers of the operator's who asks them over HTTP: whether a client may connect, publish and
// subscribe, in the words of RabbitMQ, Mosquitto, EMQX and VerneMQ. It decides nothing: app/enter's gate of brokers does. Only
// brokers may ask, by a secret or a client certificate, on an address of its own. README.md says how each broker is set up.
package brokerauth

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/ports/limit"
)

// Options are what an endpoint stands on.
type Options struct {
	Gate    *enter.Broker
	Limiter limit.Limiter
	Mint    ident.Mint  // ids of questions, for the log
	Secret  secret.Text // that brokers show; empty: they show a client certificate, which the listener verified
	Node    string      // which of our processes
	Log     *slog.Logger

	Rate     int // questions a second, of all brokers; 2,000 if 0. Each source has a share of them: fair.go
	InFlight int // questions at the same time; 64 if 0
}

// MinSecret is how long a broker's secret is at least.
const MinSecret = 24

// Bounds of a question. VerneMQ shows the message with the topic, unless it is told not to.
const (
	maxQuestion = 16 << 10
	maxMessage  = 512 << 10
	patience    = 5 * time.Second
)

// Endpoint is an http.Handler. Use New.
type Endpoint struct {
	o       Options
	secret  [32]byte
	proven  proven
	reading chan struct{}

	allowed, denied, strangers, limited, failed atomic.Int64
}

// New returns an endpoint.
func New(o Options) (*Endpoint, error) {
	if n := len(o.Secret.Reveal()); n > 0 && n < MinSecret {
		return nil, errors.New("brokerauth: the brokers' secret is too short")
	}
	if o.Rate == 0 {
		o.Rate = 2_000
	}
	if o.InFlight == 0 {
		o.InFlight = 64
	}
	return &Endpoint{o: o, secret: sha256.Sum256([]byte(o.Secret.Reveal())), proven: proven{by: map[[32]byte]struct{}{}}, reading: make(chan struct{}, o.InFlight)}, nil
}

// Counts are the endpoint's metrics.
func (e *Endpoint) Counts() map[string]int64 {
	return map[string]int64{
		`ringfence_broker_questions_total{answer="allow"}`: e.allowed.Load(), `ringfence_broker_questions_total{answer="deny"}`: e.denied.Load(),
		`ringfence_broker_questions_total{answer="stranger"}`: e.strangers.Load(), `ringfence_broker_questions_total{answer="limited"}`: e.limited.Load(),
		`ringfence_broker_questions_total{answer="failed"}`: e.failed.Load(),
	}
}

// verdict is the answer to a question before it is in a broker's words. The zero verdict is no.
type verdict struct {
	yes    bool
	mark   string // of who connected, for brokers that keep one
	absent bool   // not known now: the client is to connect anew, if the broker can be told that
}

// shape is what one broker's questions and answers look like.
type shape struct {
	questions []string
	types     []string
	limit     int64
	unmarked  bool // it keeps no mark
	decide    func(e *Endpoint, ctx context.Context, q question) verdict
	answer    func(w http.ResponseWriter, question string, v verdict)
}

// question is one that was read whole.
type question struct {
	name   string // its path's last element
	body   []byte
	form   bool
	header http.Header
	origin access.Origin

	unmarked  bool
	admission *admission
}

func shapeOf(name string) (shape, bool) {
	switch name {
	case "rabbitmq":
		return rabbitMQ(), true
	case "mosquitto":
		return mosquitto(), true
	case "emqx":
		return emqx(), true
	case "vernemq":
		return verneMQ(), true
	}
	return shape{}, false
}

// ServeHTTP answers at /SHAPE/QUESTION, with the secret as a bearer token, or at /SECRET/SHAPE/QUESTION for brokers that can be
// given a URL alone. Whatever is unclear is answered no, in the broker's own words: one that is told otherwise may go on to
// allow.
func (e *Endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	shown := ""
	path := strings.Split(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if len(path) == 3 {
		shown, path = path[0], path[1:]
	}
	sh, ok := shapeOf(path[0])
	if !ok || len(path) != 2 || !slices.Contains(sh.questions, path[1]) || r.URL.RawPath != "" || r.URL.RawQuery != "" {
		http.NotFound(w, r)
		return
	}
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok && shown == "" {
		shown = token
	}
	w.Header().Set("Cache-Control", "no-store")
	sh.answer(w, path[1], e.judge(w, r, sh, path[1], shown))
}

// judge answers a question, if a broker asks it.
func (e *Endpoint) judge(w http.ResponseWriter, r *http.Request, sh shape, name, shown string) verdict {
	switch {
	case !e.broker(r, shown):
		e.strangers.Add(1)
		return verdict{}
	case r.Method != http.MethodPost || len(r.Header.Values("Content-Type")) != 1 || r.Header.Get("Content-Encoding") != "":
		e.denied.Add(1)
		return verdict{}
	}
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	q := question{name: name, header: r.Header, form: kind == formType, origin: access.Origin{Node: e.o.Node}, unmarked: sh.unmarked, admission: &admission{}}
	body, err := e.read(ctx, w, r, sh.limit)
	if errors.Is(err, errAbsent) {
		e.limited.Add(1)
		return verdict{absent: true}
	}
	if err != nil || !slices.Contains(sh.types, kind) {
		e.denied.Add(1)
		return verdict{}
	}
	q.body = body
	ident.Fresh(e.o.Mint, &q.origin.Request)
	defer q.admission.end()
	v := sh.decide(e, ctx, q)
	switch {
	case v.yes:
		e.allowed.Add(1)
	case q.admission.limited:
		e.limited.Add(1)
	default:
		e.denied.Add(1)
	}
	return v
}

const (
	formType = "application/x-www-form-urlencoded"
	jsonType = "application/json"
)

// broker reports whether a broker asks. Digests are compared, so that nothing is told by the length.
func (e *Endpoint) broker(r *http.Request, shown string) bool {
	if e.o.Secret.IsZero() {
		return r.TLS != nil && len(r.TLS.VerifiedChains) > 0
	}
	digest := sha256.Sum256([]byte(shown))
	return secret.New(string(digest[:])).Equal(secret.New(string(e.secret[:])))
}

// connect is the question who a client is. Of a broker that keeps no mark, the client id has to name the key: another
// process of ours may be asked next, and the client may have another key tomorrow.
func (e *Endpoint) connect(ctx context.Context, q question, user, password, client, address string) verdict {
	q.origin.Address = addressOf(address)
	shown := nameAndPassword(user, password)
	if !e.admit(q, user, q.origin.Address, !e.proven.has(shown)) {
		return verdict{absent: true}
	}
	p, err := e.o.Gate.Connect(ctx, user, secret.New(password), client, q.origin)
	e.proven.note(shown, err)
	if err != nil {
		e.refused(ctx, q, err)
		return verdict{}
	}
	if q.unmarked && !p.Names() {
		e.o.Log.WarnContext(ctx, "a client is refused since its id does not name its key: want SOURCE-ACCESSOR, or more behind another hyphen",
			slog.String("request_id", q.origin.Request.String()), slog.String("source_id", p.Source.String()))
		return verdict{}
	}
	return verdict{yes: true, mark: p.Mark()}
}

// addressOf is what a broker says of where a client is, if it is an address.
func addressOf(s string) string {
	ip, err := netip.ParseAddr(s)
	if err != nil {
		return ""
	}
	return ip.Unmap().String()
}

// known is who a broker says that a client is: by the mark that it was given at connecting, or by the client id. Who is known by
// neither has to connect anew: that the source has some key in force does not say that this client came with it. Nothing is
// remembered here, so any process of ours may be asked.
func (e *Endpoint) known(ctx context.Context, q question, user, mark, client string) (enter.Publisher, error) {
	if !e.admit(q, user, "", false) {
		return enter.Publisher{}, errAbsent
	}
	if !q.unmarked {
		return e.o.Gate.Resume(ctx, user, cmp.Or(mark, noMark), client)
	}
	mark, err := e.o.Gate.MarkOf(ctx, user, client)
	if err == nil && mark == "" {
		err = errAbsent
	}
	if err != nil {
		return enter.Publisher{}, err
	}
	return e.o.Gate.Resume(ctx, user, mark, client)
}

// noMark stands for a mark that is not there: whoever has none, of a broker that keeps them, was let in by somebody else.
const noMark = "none"

var errAbsent = errors.New("brokerauth: the client did not connect, or asks too much")

// publish is the question whether a client may publish.
func (e *Endpoint) publish(ctx context.Context, q question, user, mark, client, topic string, retain bool) verdict {
	p, err := e.known(ctx, q, user, mark, client)
	if err == nil {
		err = e.o.Gate.Publish(ctx, p, topic, retain, q.origin)
	}
	return e.verdict(ctx, q, err)
}

// subscribe is the question whether a client may hear what matches a filter.
func (e *Endpoint) subscribe(ctx context.Context, q question, user, mark, client, filter string) verdict {
	p, err := e.known(ctx, q, user, mark, client)
	if err == nil {
		err = e.o.Gate.Subscribe(ctx, p, filter, q.origin)
	}
	return e.verdict(ctx, q, err)
}

func (e *Endpoint) verdict(ctx context.Context, q question, err error) verdict {
	if err != nil {
		e.refused(ctx, q, err)
	}
	return verdict{yes: err == nil, absent: errors.Is(err, errAbsent) || fault.Is(err, fault.Unavailable)}
}

// refused tells the log of what is no answer but a failure of ours. Refusals are the gate's to record.
func (e *Endpoint) refused(ctx context.Context, q question, err error) {
	f := fault.As(err)
	if errors.Is(err, errAbsent) || f != nil && f.Kind != fault.Internal && f.Kind != fault.Unavailable {
		return
	}
	e.failed.Add(1)
	e.o.Log.ErrorContext(ctx, "a broker's question could not be answered", slog.String("request_id", q.origin.Request.String()), slog.String("cause", fault.Cause(err)))
}
