package brokerauth

import (
	"context"
	"crypto/sha256"
	"io"
	"net/http"
	"sync"

	"github.com/ringfence/ringfence/app/enter"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/limit"
)

// In eighths of the rate, the burst and the places that all questions have together. A source has its share whatever others do,
// and beyond it what nobody else wants, while no more than spare is in use. A stranger is who connects and did not yet by that
// name and password: it has no more than its share, and all strangers stop at arriving, so that the last quarter is the sources'
// that are known. By its password, not its name, is a source told from who merely knows its id.
const (
	share    = 1
	spare    = 4
	arriving = 6
	whole    = 8
)

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

// admit lets a question be answered, or not. Strangers are counted by their network, or by the name that they give where the
// broker does not say from where they come. The limiter bounds how many it remembers.
func (e *Endpoint) admit(q question, user, address string, stranger bool) bool {
	a := q.admission
	if a.done {
		return !a.limited
	}
	a.done, a.limited = true, true
	who, most := "nobody", whole
	var id ident.Source
	if id.UnmarshalText([]byte(user)) == nil {
		who = id.String()
	}
	switch {
	case stranger && address != "":
		who, most = "connecting from "+enter.Network(address), arriving
	case stranger:
		who, most = "connecting as "+who, arriving
	}
	takes := func(key string, rate, once int) bool {
		of := func(n, eighths int) int { return max(n*eighths/whole, 1) }
		leave, ok := e.o.Limiter.Enter(key, of(e.o.InFlight, once))
		if ok {
			a.leave = append(a.leave, leave)
		}
		return ok && e.o.Limiter.Take(key, 1, limit.PerSecond(of(e.o.Rate, rate), of(e.o.Rate, once))).OK
	}
	if !takes("brokerauth "+who, share, share) {
		if stranger {
			return false
		}
		most = spare
	}
	a.limited = !takes("brokerauth", whole, most)
	return !a.limited
}

// proven remembers which names and passwords connected, as digests. It is bounded; who is forgotten is a stranger for one connect.
type proven struct {
	mu sync.Mutex
	by map[[32]byte]struct{}
}

const maxProven = 100_000

func nameAndPassword(user, password string) [32]byte {
	return sha256.Sum256([]byte(user + "\x00" + password))
}

func (p *proven) has(of [32]byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.by[of]
	return ok
}

// note remembers who got in, and forgets whom the gate no longer knows: who has a revoked key must not use up its source's share.
func (p *proven) note(of [32]byte, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		if fault.Is(err, fault.Unauthenticated) {
			delete(p.by, of)
		}
		return
	}
	if len(p.by) >= maxProven { // any will do
		for other := range p.by {
			delete(p.by, other)
			break
		}
	}
	p.by[of] = struct{}{}
}

// read reads a question in one of the places for that: whom it is about is known only then.
func (e *Endpoint) read(ctx context.Context, w http.ResponseWriter, r *http.Request, most int64) ([]byte, error) {
	select {
	case e.reading <- struct{}{}:
		defer func() { <-e.reading }()
		return io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	case <-ctx.Done():
		return nil, errAbsent
	}
}
