package ingest

import "errors"

// paid is which rates took a message, and whether it was above them. It goes out with an answer that makes the message come again, and
// in again with the message: so one that cannot be published for an hour is counted once, and is not in the end above its rate.
type paid struct {
	rates string
	more  bool
}

// charged is such an answer.
type charged struct {
	error
	paid paid
}

func (c charged) Unwrap() error { return c.error }

// paidFor is what an answer says.
func paidFor(answer error) paid {
	var c charged
	if answer == nil || !errors.As(answer, &c) {
		return paid{}
	}
	return c.paid
}

// noted is an answer that says it.
func (p paid) noted(answer error) error {
	if answer == nil || p == (paid{}) {
		return answer
	}
	return charged{answer, p}
}

// above reports whether a message is above some rates, which are asked once.
func (p *paid) above(rates string, ask func() bool) bool {
	if p.rates != rates {
		*p = paid{rates, ask()}
	}
	return p.more
}
