//go:build services

package ingest_test

import (
	"context"
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/sqlstore/postgres"
	"github.com/ringfence/ringfence/adapters/sqlstore/postgres/pgtest"
	"github.com/ringfence/ringfence/app/ingest"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/decoder"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/tenant"
	"github.com/ringfence/ringfence/core/uplink"
	"github.com/ringfence/ringfence/ports/store"
)

// Of days that ringfence maintain could make, and was not run for, events wait; of any other each is a dead letter of its own, and its
// tenant's others, in the same batch, are stored.
func TestAnEventOfATimeThatNothingIsKeptOfIsADeadLetterAndOneOfADayThatIsMissingWaits(t *testing.T) {
	server := pgtest.New(pgtest.Oldest)
	name := server.Database(t)
	server.Recent(t, name)
	at := pgtest.Day().Truncate(24 * time.Hour).Add(12 * time.Hour)
	s := streamOf(newBenchOn(t, at, func(now func() time.Time, revised store.Revised) store.Store {
		st, err := postgres.Open(t.Context(), postgres.Options{URL: server.URL(name, "runtime"), Now: now, Revised: revised})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = st.Close() })
		return st
	}, scripted{[]decoder.Category{decoder.Success}}, "x", tenant.DefaultLimits))
	s.events.Over(ingest.Durable{Bus: s.bus, Topics: s.topics, Version: uplink.Version, Wait: 5 * time.Second, Group: "workers", Span: func(ctx context.Context) (of ingest.Span, err error) {
		of.Uplinks, of.Readings, of.End, err = postgres.Span(ctx, server.URL(name, "runtime"))
		return of, err
	}})
	sends := func(id string, at time.Time) {
		now := s.now
		s.now = at
		s.says(s.scope, s.way, id, known, 0)
		s.now = now
	}
	sends("now", at)
	sends("eight days ahead", at.AddDate(0, 0, 8))
	sends("before the oldest day", at.AddDate(0, 0, -20))
	sends("long ago", at.AddDate(0, 0, -90))
	sends("now, too", at)
	s.consume()
	if n, dead := len(s.readings()), s.letters("time_not_kept"); n != 2 || len(dead) != 3 || len(s.letters("")) != 3 {
		t.Fatalf("%d readings, dead letters %+v", n, s.letters(""))
	}
	_, err := s.replay(s.letters("time_not_kept")[0].Place)
	refused(t, "a letter of a time that nothing is kept of", err, "time_not_kept")

	day := at.AddDate(0, 0, 5)
	if err := server.Ask(t.Context(), name, "DROP TABLE uplinks_"+day.Format("20060102")+", readings_"+day.Format("20060102")); err != nil {
		t.Fatal(err)
	}
	sends("in five days", day)
	ctx, end := context.WithTimeout(t.Context(), 60*time.Second)
	defer end()
	ended := make(chan error, 1)
	go func() {
		ended <- s.events.Consume(ctx, ingest.Consuming{Group: "workers", Later: "workers-later", Grace: 5 * time.Second})
	}()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	until := func(what string, is func() bool) {
		t.Helper()
		for !is() {
			select {
			case <-tick.C:
			case <-ctx.Done():
				t.Fatal(what)
			}
		}
	}
	until("the worker is not unready", func() bool {
		f := fault.As(s.events.Consuming())
		return f != nil && f.Code == "no_partition"
	})
	if n := len(s.letters("")); n != 3 {
		t.Errorf("%d dead letters while partitions are missing", n)
	}
	if _, err := postgres.Prepare(ctx, server.URL(name, "owner"), at, at.AddDate(0, 0, postgres.DaysAhead)); err != nil {
		t.Fatal(err)
	}
	until("the event is not stored, if only to say that its key was over by then", func() bool {
		page, err := s.out.Uplinks(ctx, s.may(access.UplinkRead).Scope, access.UplinkRead, store.Query{Limit: 200}, store.UplinkFilter{})
		return err == nil && len(page.Items) == 3
	})
	until("the worker is not ready again", func() bool { return s.events.Consuming() == nil })
	end()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
