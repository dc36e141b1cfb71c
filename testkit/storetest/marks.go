package storetest

import (
	"context"
	"maps"
	"testing"

	"github.com/ringfence/ringfence/ports/store"
)

func marks(t testing.TB, w *World) {
	mine := map[string][32]byte{"seal-0001.key": {1}, "pepper-0001.key": {2}}
	for _, c := range []struct {
		what       string
		give, want map[string][32]byte
	}{
		{"the first", mine, mine},
		{"the same again", mine, mine},
		{"another mark of a name that is kept", map[string][32]byte{"seal-0001.key": {9}}, mine},
		{"a further name", map[string][32]byte{"seal-0002.key": {3}}, map[string][32]byte{"seal-0001.key": {1}, "pepper-0001.key": {2}, "seal-0002.key": {3}}},
	} {
		var got map[string][32]byte
		w.ingest(t, w.A, func(ctx context.Context, f store.Flow) (err error) {
			got, err = f.Marks(ctx, c.give)
			return err
		})
		if !maps.Equal(got, c.want) {
			t.Errorf("%s: kept are %v, want %v", c.what, got, c.want)
		}
	}
	w.ingest(t, w.B, func(ctx context.Context, f store.Flow) error {
		got, err := f.Marks(ctx, nil)
		if len(got) > 0 {
			t.Errorf("another tenant's: %v", got)
		}
		return err
	})
}
