// Package limit says what Ringfence wants of whoever counts requests. Its state may be lost on restart, and nothing but a
// rate depends on it: what a tenant may have at all is counted in the store.
package limit

import "time"

// Rate is how far apart things are on average, and how many may come at once. A Rate without either lets nothing in.
type Rate struct {
	Every time.Duration
	Burst int
}

// PerSecond is a rate of n a second.
func PerSecond(n, burst int) Rate {
	return Rate{Every: max(time.Second/time.Duration(max(n, 1)), 1), Burst: burst}
}

// Verdict is the answer to one request, with what the RateLimit fields of HTTP say.
type Verdict struct {
	OK         bool
	Limit      int           // the burst
	Remaining  int           // how many more may come now, never less than none
	RetryAfter time.Duration // when as many as were asked for may come; 0 if OK
	Reset      time.Duration // when the whole burst may come
}

// Limiter counts by key.
//
// Take must answer OK for at most Burst things at once and one in Every on average per key, at every moment and for any
// number of callers at once. It must count nothing that it refuses, so that hammering does not lengthen the wait, and obey
// each call's own Rate, since an administrator may change it between two. n that is negative or beyond the burst is
// refused.
//
// Keys may come from whoever sends requests, so a limiter must hold a bounded number of them, and must not let one go in a
// way that gives anything back: a key that it does not remember gets no more than it would have got if it were remembered.
// It may get less, and a limiter says how it is to be dimensioned so that honest keys do not notice.
//
// Enter must let at most maximum callers hold a key at the same time; leave gives the place back, once however often it is
// called. A key that nobody holds costs nothing.
type Limiter interface {
	Take(key string, n int, r Rate) Verdict
	Enter(key string, maximum int) (leave func(), ok bool)
}
