package ingest

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	laterEvery = 5         // looks at the main topic, between two at what was put off
	oldAlarm   = time.Hour // of the oldest record that nobody has read: a bus keeps them for days, not for ever
)

// lagging is how far groups are behind, as of the last look.
type lagging struct {
	mu sync.Mutex
	of map[reader]lag
}

type reader struct{ group, topic string }

type lag struct {
	records int64
	oldest  time.Time // zero: nothing waits
	old     bool      // an alarm
}

// seen keeps how far a group is behind in a topic, and answers how many records wait. What cannot be asked is told no more.
func (g *Ingest) seen(ctx context.Context, group, topic string) (int64, error) {
	lags, err := g.durable.Bus.Lags(ctx, group, topic)
	l, who := &g.lags, reader{group, topic}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		delete(l.of, who)
		return 0, err
	}
	if l.of == nil {
		l.of = map[reader]lag{}
	}
	was := l.of[who]
	var now lag
	for _, one := range lags {
		now.records += one.Behind()
		if !one.Oldest.IsZero() && (now.oldest.IsZero() || one.Oldest.Before(now.oldest)) {
			now.oldest = one.Oldest
		}
	}
	now.old = g.age(now) > oldAlarm
	l.of[who] = now
	said := []slog.Attr{slog.String("group", group), slog.String("topic", topic), slog.Int64("records", now.records), slog.Duration("oldest", g.age(now))}
	switch {
	case now.old && !was.old:
		g.log.LogAttrs(ctx, slog.LevelError, "the oldest record that nobody has read is older than an hour: run more event workers, or look at what keeps them", said...)
	case was.old && !now.old:
		g.log.LogAttrs(ctx, slog.LevelInfo, "no record that nobody has read is older than an hour any more", said...)
	}
	return now.records, nil
}

// unseen forgets all of it: nobody looks any more.
func (g *Ingest) unseen() {
	g.lags.mu.Lock()
	defer g.lags.mu.Unlock()
	clear(g.lags.of)
}

func (g *Ingest) age(l lag) time.Duration {
	if l.oldest.IsZero() {
		return 0
	}
	return max(0, g.enter.Now().Sub(l.oldest))
}

// lagged adds its series.
func (g *Ingest) lagged(out map[string]int64) {
	g.lags.mu.Lock()
	defer g.lags.mu.Unlock()
	for who, l := range g.lags.of {
		out[`ringfence_bus_lag_records{group="`+who.group+`",topic="`+who.topic+`"}`] = l.records
		out[`ringfence_bus_oldest_unread_seconds{group="`+who.group+`",topic="`+who.topic+`"}`] = int64(g.age(l).Seconds())
	}
}
