package telemetry_test

import (
	"crypto/tls"
	"log/slog"
	"net/http/httptest"
	"os"
	"testing"

	"github.com/ringfence/ringfence/adapters/httpapi"
	"github.com/ringfence/ringfence/adapters/otlp/otlptest"
	"github.com/ringfence/ringfence/cmd/internal/settings"
	"github.com/ringfence/ringfence/cmd/internal/telemetry"
	"github.com/ringfence/ringfence/deploy/testbed/servers"
	"github.com/ringfence/ringfence/ports/trace"
)

// A collector with a certificate of an authority of its own that takes clients with one of that alone is told by who has such a one,
// and by nobody else; who is shown another collector tells it nothing.
func TestACollectorThatWantsAClientCertificate(t *testing.T) {
	own, stranger := servers.NewAuthority(t), servers.NewAuthority(t)
	file, key := own.Issue("collector")
	pair, err := tls.LoadX509KeyPair(file, key)
	if err != nil {
		t.Fatal(err)
	}
	r := otlptest.New(t)
	collector := httptest.NewUnstartedServer(r)
	collector.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	collector.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: own.Pool(), MinVersion: tls.VersionTLS12}
	collector.StartTLS()
	t.Cleanup(collector.Close)
	ours, oursKey := own.Issue("event-worker")
	theirs, theirsKey := stranger.Issue("event-worker")
	for _, c := range []struct {
		who           string
		ca, cert, key string
		told          bool
	}{
		{"who has no certificate", own.File(), "", "", false},
		{"who has a stranger's", own.File(), theirs, theirsKey, false},
		{"who trusts another authority", stranger.File(), ours, oursKey, false},
		{"who trusts the system's authorities", "", ours, oursKey, false},
		{"who has one", own.File(), ours, oursKey, true},
	} {
		conf, wrong, err := telemetry.Settings().Load(os.DevNull, []string{"otlp_endpoint=" + collector.URL, "otlp_ratio=1", "otlp_ca_file=" + c.ca, "otlp_cert_file=" + c.cert, "otlp_key_file=" + c.key},
			settings.Environment{Lookup: func(string) (string, bool) { return "", false }})
		if wrong = append(wrong, telemetry.Together(conf)...); err != nil || len(wrong) > 0 {
			t.Fatalf("%s: %v %v", c.who, err, wrong)
		}
		m := httpapi.NewMetrics()
		tracer, closed, err := telemetry.Open(conf, m, "event-worker", "test", "here", slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		tracer.Tell(trace.Span{Name: "write", Kind: trace.Client, Place: tracer.Below(trace.Place{Kept: true})})
		if c.told {
			r.Await(1)
		}
		closed(t.Context())
		if n := len(r.Spans()); (n == 1) != c.told || (len(r.Raw()) > 0) != c.told {
			t.Errorf("%s: the collector has %d spans, %d bytes", c.who, n, len(r.Raw()))
		}
	}
}
