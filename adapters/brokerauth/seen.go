package brokerauth

import (
	"sync"

	"github.com/ringfence/ringfence/app/enter"
)

// seen remembers which key clients connected with, for brokers that cannot be given a mark to keep. It is bounded, for each
// user too, so that nobody makes others be forgotten; who is forgotten connects anew.
type seen struct {
	mu  sync.Mutex
	of  map[string]map[string]enter.Publisher // user → client id
	all int
}

const (
	maxSeen       = 100_000
	maxSeenOfUser = 256
)

func newSeen() *seen { return &seen{of: map[string]map[string]enter.Publisher{}} }

func (s *seen) keep(user, client string, p enter.Publisher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	mine := s.of[user]
	if _, there := mine[client]; there {
		mine[client] = p
		return
	}
	if len(mine) >= maxSeenOfUser {
		s.all -= len(mine)
		mine = nil
	}
	if mine == nil {
		mine = map[string]enter.Publisher{}
		s.of[user] = mine
	}
	if s.all >= maxSeen { // any will do: it is no more than an inconvenience
		for other, theirs := range s.of {
			if other != user {
				s.all -= len(theirs)
				delete(s.of, other)
				break
			}
		}
	}
	mine[client] = p
	s.all++
}

func (s *seen) get(user, client string) (enter.Publisher, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.of[user][client]
	return p, ok
}
