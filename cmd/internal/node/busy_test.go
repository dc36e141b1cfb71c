//go:build services

package node_test

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"
)

// tried does what is to be done in time, and what a machine that others use may be too slow for just then: once more if that alone is
// missed, three times in all. Whatever else is wrong fails at once.
func tried(t *testing.T, once func() (missed error)) {
	t.Helper()
	for try := 1; ; try++ {
		missed := once()
		switch {
		case missed == nil || t.Failed():
			return
		case try == 3:
			t.Error(missed)
			return
		}
		t.Logf("once more: %v", missed)
	}
}

// anew is tried, each time with a deployment of its own.
func anew(t *testing.T, once func(t *testing.T) (missed error)) {
	t.Helper()
	tried(t, func() (missed error) {
		t.Run("deployment", func(t *testing.T) { missed = once(t) })
		return missed
	})
}

// shut asks for what was taken away until it is refused: what is asked later than a second after that was answered is let in no more.
// When the answer comes is not promised.
func (d *deployment) shut(what string, answered time.Time, refused func() error) {
	d.t.Helper()
	var last time.Time // that was let in
	d.await(what+" is refused", time.Minute, func() error {
		asked := time.Now()
		err := refused()
		if err != nil {
			last = asked
		}
		return err
	})
	if late := last.Sub(answered); late > time.Second {
		d.t.Errorf("%s is let in %v after it was taken away", what, late)
	}
}

// lives waits until a process says that it lives, ready or not.
func (d *deployment) lives(p *process) {
	d.t.Helper()
	d.answers(p.metrics()+"/healthz", http.StatusOK)
}

// answers waits until a process's probe answers a status.
func (d *deployment) answers(probe string, want int) {
	d.t.Helper()
	d.await(probe, time.Minute, func() error {
		if status, text := d.probe(probe); status != want {
			return fmt.Errorf("%d %s", status, text)
		}
		return nil
	})
}

// scraped is all that a process says of itself in numbers.
func (d *deployment) scraped(p *process) (text string) {
	d.t.Helper()
	d.await(p.name+"'s metrics", time.Minute, func() error {
		var status int
		if status, text = d.probe(p.metrics() + "/metrics"); status != http.StatusOK {
			return errors.New(text)
		}
		return nil
	})
	return text
}
