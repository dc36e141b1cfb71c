package enter

import (
	"context"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/core/tenant"
)

// What is known of a tenant and what is known of mappings is told apart, and may be of different moments.
func TestWhoseAnApplicationWasIsKnownByWhateverIsNewer(t *testing.T) {
	at := func(s int) time.Time { return time.Date(2026, 11, 27, 12, 0, s, 0, time.UTC) }
	mine, other, s := ident.Tenant{1}, ident.Tenant{2}, ident.Source{1}
	claim := source.Claim("eu", "1")
	ended := []source.Fed{{Claim: claim, From: at(0), To: at(20)}}
	for _, c := range []struct {
		name    string
		fed     []source.Fed
		of      ident.Tenant
		made    int
		arrived int
		want    bool
	}{
		{"mapped", nil, mine, 0, 10, true},
		{"mapped by a clock that is ahead", nil, mine, 11, 10, true},
		{"mapped later", nil, mine, 12, 10, false},
		{"the other's", nil, other, 0, 10, false},
		{"nobody's", nil, ident.Tenant{}, 0, 10, false},
		{"ended later", ended, ident.Tenant{}, 0, 20, true},
		{"ended before", ended, ident.Tenant{}, 0, 21, false},
		{"ended before, which those who know the mappings do not know", ended, mine, 0, 21, false},
		{"mapped again", ended, mine, 30, 31, true},
		{"between", ended, mine, 30, 25, false},
		{"another application's ended", []source.Fed{{Claim: source.Claim("eu", "2"), From: at(0), To: at(20)}}, other, 0, 10, false},
	} {
		cache := NewCache(1)
		cache.mapped.now = time.Now
		cache.mapped.revision = func(context.Context) (uint64, error) { return 1, nil }
		cache.mapped.load = func(context.Context, claimed) (owner, error) {
			return owner{tenant: c.of, source: s, made: at(c.made), rev: 1}, nil
		}
		k := Known{&standing{tenant: tenant.Tenant{ID: mine}, sources: map[ident.Source]source.Source{s: {ID: s, Fed: c.fed}}}}
		if _, got, err := (&Enter{cache: cache}).Owned(t.Context(), k, s, "eu", "1", at(c.arrived)); err != nil || got != c.want {
			t.Errorf("%s: %v, %v", c.name, got, err)
		}
	}
}
