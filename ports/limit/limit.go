// Package limit says what Ringfence wants of whoever counts requests. Its state may be lost on restart.
package limit

import "time"

// Rate is how far apart things are on average, and how many may come at once.
type Rate struct {
	Every time.Duration
	Burst int
}

// PerSecond is a rate of n a second.
func PerSecond(n, burst int) Rate {
	return Rate{Every: time.Second / time.Duration(max(n, 1)), Burst: burst}
}

// Verdict is the answer to one request, with what the RateLimit fields of HTTP say.
type Verdict struct {
	OK         bool
	Limit      int           // the burst
	Remaining  int           // how many more may come now
	RetryAfter time.Duration // when one more may come; 0 if OK
}

// Limiter counts by key.
//
// Take must answer OK for at most Burst things at once and one in Every on average per key, count nothing that it refuses, and
// hold a bounded number of keys: what it forgets first is what has not been asked for longest.
//
// Enter must let at most max callers hold a key at the same time; leave gives the place back, once.
type Limiter interface {
	Take(key string, n int, r Rate) Verdict
	Enter(key string, maximum int) (leave func(), ok bool)
}
