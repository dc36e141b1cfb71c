package httpapi

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ringfence/ringfence/core/fault"
)

func TestAClientThatGoesAwayIsNoErrorOfOurs(t *testing.T) {
	for _, c := range []struct {
		name string
		gone bool
		fail func(context.Context) error
		want string // class of the metric
		loud bool
	}{
		{"it goes while we work", true, func(ctx context.Context) error { return ctx.Err() }, "gone", false},
		{"it goes while the store fails", true, func(context.Context) error { return fault.New(fault.Unavailable, "store_unavailable", "No.") }, "gone", false},
		{"it goes while we have a bug", true, func(context.Context) error { return errors.New("a bug") }, "5xx", true},
		{"it waits while the store fails", false, func(context.Context) error { return fault.New(fault.Unavailable, "store_unavailable", "No.") }, "5xx", true},
		{"it waits and we give up", false, func(context.Context) error { return context.DeadlineExceeded }, "5xx", true},
	} {
		s := newStand(t)
		ctx, cancel := context.WithCancel(t.Context())
		s.do = func(inner context.Context, _ *Call) error {
			if c.gone {
				cancel()
			}
			return c.fail(inner)
		}
		r := httptest.NewRequest("GET", "http://iot.example.com"+s.path(""), nil).WithContext(ctx)
		r.Header.Set("Authorization", "Bearer "+good)
		s.ServeHTTP(httptest.NewRecorder(), r)
		cancel()
		w := httptest.NewRecorder()
		s.o.Metrics.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		if loud := strings.Contains(s.logged(), `"level":"ERROR"`); loud != c.loud || !strings.Contains(s.logged(), "request failed") {
			t.Errorf("%s: logged %s", c.name, s.logged())
		}
		for _, class := range []string{"gone", "5xx"} {
			if counted := strings.Contains(w.Body.String(), `{class="`+class+`"}`); counted != (class == c.want) {
				t.Errorf("%s: counted as %s is %v", c.name, class, counted)
			}
		}
	}
}
