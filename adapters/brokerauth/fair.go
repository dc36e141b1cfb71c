package brokerauth

import (
	"context"
	"hash/maphash"
	"strconv"

	"github.com/ringfence/ringfence/ports/limit"
)

// share is what some questions may have at most of what all have together: eighths of the rate, and of the burst and the places.
// Each is less than the next one's, so that nobody's questions keep the others' from being answered: neither one user's, nor those
// from one address, of neighbours too, nor those of who only connects, whose name may be anybody's invention.
type share struct {
	key        string
	rate, once int
}

// buckets is how many users, or addresses, are counted apart. Who shares one is a matter of a hash that nobody outside knows.
const buckets = 1024

// admission is whether a question is answered, which is decided once, when it is known who is asked about.
type admission struct {
	leave         []func()
	done, limited bool
}

func (a *admission) end() {
	for _, leave := range a.leave {
		leave()
	}
}

// admit lets a question be answered, or not. What is beyond a share takes nothing from the larger ones.
func (e *Endpoint) admit(q question, user, address string, connects bool) bool {
	a := q.admission
	if a.done {
		return !a.limited
	}
	a.done, a.limited = true, true
	of := func(what, name string) string {
		return "brokerauth " + what + " " + strconv.FormatUint(maphash.String(e.seed, name)%buckets, 10)
	}
	shares := []share{{of("user", user), 1, 2}}
	if connects && address != "" {
		shares = append(shares, share{of("address", address), 2, 3})
	}
	if connects {
		shares = append(shares, share{"brokerauth connect", 4, 4})
	}
	shares = append(shares, share{"brokerauth", 8, 8})
	eighths := func(n, of int) int { return max(n*of/8, 1) }
	for _, s := range shares {
		leave, ok := e.o.Limiter.Enter(s.key, eighths(s.once, e.o.InFlight))
		if !ok {
			return false
		}
		a.leave = append(a.leave, leave)
	}
	for _, s := range shares {
		if !e.o.Limiter.Take(s.key, 1, limit.PerSecond(eighths(s.rate, e.o.Rate), eighths(s.once, e.o.Rate))).OK {
			return false
		}
	}
	a.limited = false
	return true
}

// reads waits for one of the places in which questions are read: whom one is about is known only then.
func (e *Endpoint) reads(ctx context.Context) (leave func(), ok bool) {
	select {
	case e.reading <- struct{}{}:
		return func() { <-e.reading }, true
	case <-ctx.Done():
		return nil, false
	}
}
