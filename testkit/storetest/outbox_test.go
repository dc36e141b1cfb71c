package storetest_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/ringfence/ringfence/adapters/memory"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/store"
	"github.com/ringfence/ringfence/testkit/storetest"
)

type publish func(context.Context, []store.Sent) []error

// posting is an outbox with a bug.
type posting struct {
	store.Outbox
	round func(store.Round) store.Round
	wrap  func(publish) publish
	after func(free bool, err error) (bool, error)
}

func (p posting) Relay(ctx context.Context, r store.Round, to func(context.Context, []store.Sent) []error) (bool, error) {
	if p.round != nil {
		r = p.round(r)
	}
	if p.wrap != nil {
		to = p.wrap(to)
	}
	free, err := p.Outbox.Relay(ctx, r, to)
	if p.after != nil {
		return p.after(free, err)
	}
	return free, err
}

// handing changes what is handed over, and answers for it.
func handing(change func(rs []store.Sent) []store.Sent) func(publish) publish {
	return func(to publish) publish {
		return func(ctx context.Context, rs []store.Sent) []error {
			to(ctx, change(slices.Clone(rs)))
			return make([]error, len(rs))
		}
	}
}

func TestEachPlantedBugOfOutboxesIsCaughtByTheCheckNamedForIt(t *testing.T) {
	for _, m := range []struct {
		bug, check string
		store      func(store.Store) store.Store
		outbox     func(store.Outbox) store.Outbox
	}{
		{"what goes out is lost", "WhatIsWrittenGoesOutOnce", func(s store.Store) store.Store {
			return batching{s, byRows(func(f *store.Finished) { f.Out = nil })}
		}, nil},
		{"a shard that has something is not known", "ShardsThatHaveSomethingAreKnown", nil, func(o store.Outbox) store.Outbox { return unaware{Outbox: o} }},
		{"all shards are said to have something", "ShardsThatHaveSomethingAreKnown", nil, func(o store.Outbox) store.Outbox { return unaware{Outbox: o, all: true} }},
		{"a tenant's goes out in another's name", "WhatIsWrittenGoesOutOnce", nil, func(o store.Outbox) store.Outbox {
			return posting{Outbox: o, wrap: handing(func(rs []store.Sent) []store.Sent {
				for i := range rs {
					rs[i].Tenant = ident.Tenant{0xa}
				}
				return rs
			})}
		}},
		{"what was sent is kept", "WhatIsWrittenGoesOutOnce", nil, func(o store.Outbox) store.Outbox {
			var kept []store.Sent
			return posting{Outbox: o, wrap: handing(func(rs []store.Sent) []store.Sent {
				if kept == nil {
					kept = slices.Clone(rs)
					return rs
				}
				return append(rs, kept[0])
			})}
		}},
		{"what a duplicate made goes out", "WhatIsNotKeptDoesNotGoOut", func(s store.Store) store.Store {
			return batching{s, byRows(func(f *store.Finished) { f.Uplink.DedupeKey = [32]byte{} })}
		}, nil},
		{"the newest goes first", "KeyGoesOutInItsOrder", nil, func(o store.Outbox) store.Outbox {
			return posting{Outbox: o, wrap: handing(func(rs []store.Sent) []store.Sent { slices.Reverse(rs); return rs })}
		}},
		{"rows of a part go out by their ids", "KeyGoesOutInItsOrder", func(s store.Store) store.Store {
			return batching{s, byParts(func(_ store.Store, _ context.Context, p *store.Part) {
				slices.SortFunc(p.Rows, func(a, b store.Finished) int { return a.Uplink.ID.Compare(b.Uplink.ID) })
			})}
		}, nil},
		{"what failed is let go of", "WhatWasNotSentGoesOutAgain", nil, func(o store.Outbox) store.Outbox {
			return posting{Outbox: o, wrap: handing(func(rs []store.Sent) []store.Sent { return rs })}
		}},
		{"a panic is all right", "WhatWasNotSentGoesOutAgain", nil, func(o store.Outbox) store.Outbox {
			return posting{Outbox: o, after: func(free bool, err error) (bool, error) { return free, nil }}
		}},
		{"a caller that went away is all right", "WhatWasNotSentGoesOutAgain", nil, func(o store.Outbox) store.Outbox {
			return detached{o}
		}},
		{"two are at a shard", "ShardIsOneRelaysAtATime", nil, func(o store.Outbox) store.Outbox {
			return posting{Outbox: o, after: func(_ bool, err error) (bool, error) { return true, err }}
		}},
		{"a shard is all that there is", "ShardIsOneRelaysAtATime", nil, func(o store.Outbox) store.Outbox {
			return &single{Outbox: o}
		}},
		{"one tenant takes the round", "NoTenantKeepsAnotherWaiting", nil, func(o store.Outbox) store.Outbox {
			return posting{Outbox: o, wrap: func(to publish) publish {
				return func(ctx context.Context, rs []store.Sent) []error {
					return to(ctx, slices.DeleteFunc(slices.Clone(rs), func(r store.Sent) bool { return r.Tenant != rs[0].Tenant }))
				}
			}}
		}},
		{"a round begins with the first tenant", "NoTenantKeepsAnotherWaiting", nil, func(o store.Outbox) store.Outbox {
			return posting{Outbox: o, round: func(r store.Round) store.Round { r.After = ident.Tenant{}; return r }}
		}},
		{"who cannot be sent anything is handed over", "NoTenantKeepsAnotherWaiting", nil, func(o store.Outbox) store.Outbox {
			return posting{Outbox: o, round: func(r store.Round) store.Round { r.Except = nil; return r }}
		}},
		{"who is not asked for is handed over, too", "NoTenantKeepsAnotherWaiting", nil, func(o store.Outbox) store.Outbox {
			return posting{Outbox: o, round: func(r store.Round) store.Round { r.Only = nil; return r }}
		}},
		{"more than the limit is handed over", "NoTenantKeepsAnotherWaiting", nil, func(o store.Outbox) store.Outbox {
			return posting{Outbox: o, round: func(r store.Round) store.Round { r.Limit *= 3; return r }}
		}},
		{"many relays turn records round", "ManyRelaysTurnNothingRound", nil, func(o store.Outbox) store.Outbox {
			return posting{Outbox: o, wrap: handing(func(rs []store.Sent) []store.Sent { slices.Reverse(rs); return rs })}
		}},
		{"records are lost between relays", "ManyRelaysTurnNothingRound", nil, func(o store.Outbox) store.Outbox {
			return posting{Outbox: o, wrap: handing(func(rs []store.Sent) []store.Sent { return rs[1:] })}
		}},
	} {
		t.Run(m.bug, func(t *testing.T) {
			i := slices.IndexFunc(storetest.OutboxChecks(), func(c storetest.OutboxCheck) bool { return c.Name == m.check })
			if i < 0 {
				t.Fatalf("there is no check %s", m.check)
			}
			r := &recorder{TB: t, ctx: t.Context()}
			done := make(chan struct{})
			go func() {
				defer close(done)
				storetest.OutboxChecks()[i].Run(r, storetest.NewMailroom(r, func(_ testing.TB, o storetest.Options) (store.Store, store.Outbox) {
					made := memory.New(memory.Options{Now: o.Now, Revised: o.Revised})
					var s store.Store = made
					var box store.Outbox = made
					if m.store != nil {
						s = m.store(s)
					}
					if m.outbox != nil {
						box = m.outbox(box)
					}
					return s, box
				}))
			}()
			<-done
			for _, f := range r.cleanups {
				f()
			}
			if !r.failed {
				t.Errorf("%s did not notice", m.check)
			}
		})
	}
}

// unaware passes one of the shards over that have something, or says that all have.
type unaware struct {
	store.Outbox
	all bool
}

func (u unaware) Waiting(ctx context.Context) ([]int, error) {
	shards, err := u.Outbox.Waiting(ctx)
	if u.all {
		for n := range store.OutboxShards {
			shards = append(shards, n)
		}
	}
	return shards[min(1, len(shards)):], err
}

// detached lets go of what was sent for whoever went away meanwhile.
type detached struct{ store.Outbox }

func (d detached) Relay(ctx context.Context, r store.Round, to func(context.Context, []store.Sent) []error) (bool, error) {
	return d.Outbox.Relay(context.WithoutCancel(ctx), r, to)
}

// single is busy as a whole while somebody is at one shard.
type single struct {
	store.Outbox
	busy bool
}

func (s *single) Relay(ctx context.Context, r store.Round, to func(context.Context, []store.Sent) []error) (bool, error) {
	if s.busy {
		return false, errors.New("busy")
	}
	s.busy = true
	defer func() { s.busy = false }()
	return s.Outbox.Relay(ctx, r, to)
}
