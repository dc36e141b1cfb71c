package accesstest

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/core/access"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/store"
)

// reloads changes four memberships at once, again and again, between two roles, while readers come through the gate. Which
// role all four must have follows from the revision that an answer names, and that one was never before the last change
// that had been acknowledged when the reader asked, nor after the last that was begun when it was answered.
func reloads(t testing.TB, p Parts) {
	var people [4]ident.Principal
	var ms [4]access.Membership
	g := open(t, p, func(g *gate, w store.Writer) (err error) {
		for i := range people {
			if people[i], err = g.member(w); err != nil {
				return err
			}
			if ms[i], err = g.give(w, access.Membership{Principal: people[i], Role: access.Viewer, Node: g.root, Recursive: true}); err != nil {
				return err
			}
		}
		return nil
	})
	born := g.records().Revision
	var acknowledged, begun atomic.Uint64
	var over atomic.Bool
	var read atomic.Int64
	acknowledged.Store(born)
	begun.Store(born)
	wrong := make(chan string, 1)
	say := func(s string) {
		over.Store(true)
		select {
		case wrong <- s:
		default:
		}
	}
	var readers sync.WaitGroup
	for i := range 64 {
		readers.Go(func() {
			for n := 0; !over.Load(); n++ {
				before := acknowledged.Load()
				s, err := enterBy(g, n, people[i%4])
				if err != nil {
					say(err.Error())
					return
				}
				if rev, after := s.Revision(), begun.Load(); rev < before || rev > after {
					say(fmt.Sprintf("the policy of revision %d answered between %d and %d", rev, before, after))
				}
				is := (s.Revision()-born)%2 == 1
				for _, one := range people {
					if s.Policy().Decide(access.Subject{Principal: one}, access.DeviceCreate, g.root, s.At()).Allowed != is {
						say(fmt.Sprintf("the policy of revision %d is neither of the two", s.Revision()))
					}
				}
				read.Add(1)
				runtime.Gosched()
			}
		})
	}
	for n := 0; n < p.Changes && !over.Load(); n++ {
		begun.Add(1)
		err := g.change(func(w store.Writer) (err error) {
			for i := range ms {
				next := ms[i]
				next.Role = []ident.Role{access.Operator, access.Viewer}[n%2]
				if next, err = w.Memberships().Put(g.ctx, next); err != nil {
					return err
				}
				ms[i].Rev = next.Rev
			}
			return nil
		})
		if err != nil {
			say(err.Error())
		}
		acknowledged.Add(1)
		runtime.Gosched()
	}
	over.Store(true)
	readers.Wait()
	select {
	case s := <-wrong:
		t.Fatal(s)
	default:
	}
	if t.Logf("%d changes, %d answers", p.Changes, read.Load()); read.Load() < int64(p.Changes) {
		t.Errorf("only %d answers to %d changes", read.Load(), p.Changes)
	}
}

func enterBy(g *gate, n int, who ident.Principal) (access.Scope, error) {
	if n%2 == 0 {
		return g.Member(g.ctx, as(who), g.tenant, here)
	}
	return g.Gate(g.ctx, as(who), g.tenant, access.DeviceRead, enter.Anywhere, here)
}
