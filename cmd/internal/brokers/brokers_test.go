package brokers_test

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/brokerauth"
	"github.com/ringfence/ringfence/cmd/internal/brokers"
	"github.com/ringfence/ringfence/cmd/internal/settings"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/limit"
)

// full is a limiter that says what it is asked for, and no.
type full chan limit.Rate

func (f full) Take(_ string, _ int, r limit.Rate) limit.Verdict {
	f <- r
	return limit.Verdict{}
}

func (f full) Enter(string, int) (func(), bool) { return func() {}, true }

func TestTheDoorAnswersAtTheRateThatIsSet(t *testing.T) {
	word := strings.Repeat("x", brokerauth.MinSecret)
	c, wrong, err := brokers.Settings().Load("/dev/null", []string{"broker_auth_listen=127.0.0.1:0", "broker_auth_rate=8000"}, settings.Environment{Lookup: func(name string) (string, bool) {
		return word, name == settings.Variable("broker_auth_secret")
	}})
	if err != nil || len(wrong) > 0 {
		t.Fatal(wrong, err)
	}
	asked := make(full, 1)
	d, err := brokers.Listen(c, brokerauth.Options{Limiter: asked, Mint: ident.Mint{Now: time.Now, Random: func([]byte) {}}}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan error, 1)
	go func() { over <- d.Serve() }()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+d.Addr().String()+"/"+word+"/mosquitto/user", strings.NewReader(`{"username":"x","password":"x"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := res.Body.Close(); err != nil || res.StatusCode != http.StatusForbidden {
		t.Error(res.StatusCode, err)
	}
	if got := <-asked; got.Every != time.Millisecond { // an eighth
		t.Errorf("of 8,000 a second a share is one in %v", got.Every)
	}
	if err := d.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-over; err != nil {
		t.Error(err)
	}
}
