package ingest

import (
	"context"
	"sync"
	"time"

	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/ports/bus"
)

// commitAgain is how long what could not be committed waits, unless there is more by then.
const commitAgain = time.Second

// committer commits what is finished, one commit at a time: whoever finishes something does not wait for it, and what was finished
// meanwhile goes with the next.
type committer struct {
	g    *Ingest
	m    bus.Member
	work chan struct{}

	mu  sync.Mutex
	due map[partition]int64
}

type partition struct {
	topic string
	n     int
}

func newCommitter(g *Ingest, m bus.Member) *committer {
	return &committer{g: g, m: m, work: make(chan struct{}, 1), due: map[partition]int64{}}
}

func (c *committer) add(marks []bus.Mark) {
	if len(marks) == 0 {
		return
	}
	c.keep(marks)
	select {
	case c.work <- struct{}{}:
	default:
	}
}

func (c *committer) keep(marks []bus.Mark) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range marks {
		at := partition{m.Topic, m.Partition}
		c.due[at] = max(c.due[at], m.Next)
	}
}

func (c *committer) take() (marks []bus.Mark) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for at, next := range c.due {
		marks = append(marks, bus.Mark{Topic: at.topic, Partition: at.n, Next: next})
	}
	clear(c.due)
	return marks
}

// run commits until the context ends.
func (c *committer) run(ctx context.Context) {
	again := time.NewTicker(commitAgain)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.work:
		case <-again.C:
		}
		c.commit(ctx)
	}
}

// commit commits what is due. What cannot be committed is due again, unless it would pass records over.
func (c *committer) commit(ctx context.Context) {
	marks := c.take()
	if len(marks) == 0 {
		return
	}
	ctx, end := context.WithTimeout(ctx, commitWait)
	defer end()
	if err := c.m.Commit(ctx, marks); err != nil {
		c.g.counts.add("ringfence_bus_commit_failures_total", 1)
		if fault.Is(err, fault.Unavailable) {
			c.keep(marks)
		}
	}
}
