package accesstest

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/app/manage"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/store"
)

// deed is one operation of the history: a writer gives or takes its own membership of somebody, or somebody is decided on.
type deed struct {
	who    int
	writer int // -1: a decision
	grant  bool
}

// rights is the model: who has a right has at least one writer's membership. Each person is a history of their own.
func rights() porcupine.Model {
	return porcupine.Model{
		Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
			apart := make([][]porcupine.Operation, people)
			for _, op := range history {
				who := op.Input.(deed).who
				apart[who] = append(apart[who], op)
			}
			return apart
		},
		Init: func() any { return uint8(0) },
		Step: func(state, input, output any) (bool, any) {
			had, d := state.(uint8), input.(deed)
			switch {
			case d.writer < 0:
				return output.(bool) == (had != 0), had
			case d.grant:
				return true, had | 1<<d.writer
			default:
				return true, had &^ (1 << d.writer)
			}
		},
	}
}

const (
	people   = 3
	writers  = 2 // of each person's rights
	deciders = 4 // on each person
)

// revokes lets administrators grant and revoke by app/manage while others come through the gate, and looks for an order of
// all that explains what each was told. There is none if an allow begins after the revoke was acknowledged, nor if a refusal
// begins after a grant was.
func revokes(t testing.TB, p Parts) {
	var who [people]ident.Principal
	g := open(t, p, func(g *gate, w store.Writer) (err error) {
		for i := range who {
			if who[i], err = g.member(w); err != nil {
				return err
			}
		}
		return nil
	})
	var clock atomic.Int64
	var mu sync.Mutex
	var history []porcupine.Operation
	did := func(d deed, do func() (bool, error)) bool {
		call := clock.Add(1)
		out, err := do()
		if err != nil {
			if !errors.Is(err, store.ErrStale) {
				t.Errorf("%+v: %v (%s)", d, err, fault.Cause(err))
			}
			return false
		}
		op := porcupine.Operation{Input: d, Call: call, Output: out, Return: clock.Add(1)}
		mu.Lock()
		defer mu.Unlock()
		history = append(history, op)
		return true
	}
	changes := max(2, p.Changes/10/(people*writers))
	var all sync.WaitGroup
	for i := range people {
		turns := make(chan int, changes*writers*deciders)
		var writing sync.WaitGroup
		for n := range writers {
			writing.Go(func() {
				var m access.Membership
				for k := range changes {
					for turn := range deciders {
						turns <- turn
					}
					grant := k%2 == 0
					if !did(deed{i, n, grant}, func() (_ bool, err error) {
						m, err = g.toggle(m, who[i], grant)
						return false, err
					}) {
						return
					}
				}
			})
		}
		all.Go(func() {
			writing.Wait()
			close(turns)
		})
		for range deciders {
			all.Go(func() {
				for turn := range turns {
					did(deed{i, -1, false}, func() (bool, error) { return g.decide(turn, who[i]) })
				}
			})
		}
	}
	all.Wait()
	result := porcupine.CheckOperationsTimeout(rights(), history, time.Minute)
	if t.Logf("%d operations: %v", len(history), result); result != porcupine.Ok {
		t.Fatalf("no order explains what was decided: %v", result)
	}
	if want := changes * people * writers * (1 + deciders); len(history) != want {
		t.Errorf("%d operations, want %d", len(history), want)
	}
}

// toggle gives somebody a membership, or takes it away, and begins again where rights changed meanwhile. A cache that is
// told nothing would have it begin again for ever.
func (g *gate) toggle(m access.Membership, who ident.Principal, grant bool) (access.Membership, error) {
	for since := time.Now(); ; runtime.Gosched() {
		p := access.MembershipRevoke
		if grant {
			p = access.MembershipGrant
		}
		s, err := g.Gate(g.ctx, as(g.owner), g.tenant, p, enter.Anywhere, here)
		if err != nil {
			return m, err
		}
		if grant {
			m, err = g.manage.Grant(g.ctx, &manage.Call{Scope: s}, access.Membership{Principal: who, Role: access.Viewer, Node: g.root})
		} else {
			err = g.manage.Revoke(g.ctx, &manage.Call{Scope: s}, m.ID, m.Rev)
		}
		if !errors.Is(err, store.ErrStale) || time.Since(since) > g.patience {
			return m, err
		}
	}
}

// decide comes in by the gate, which records a refusal, or as a member, which records nothing.
func (g *gate) decide(turn int, who ident.Principal) (bool, error) {
	if turn == 0 {
		_, err := g.Gate(g.ctx, as(who), g.tenant, access.DeviceRead, enter.Root, here)
		if fault.Is(err, fault.Denied) {
			return false, nil
		}
		return err == nil, err
	}
	s, err := g.Member(g.ctx, as(who), g.tenant, here)
	return err == nil && s.Can(access.DeviceRead, g.root).Allowed, err
}
