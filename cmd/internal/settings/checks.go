package settings

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// Any takes every text.
func Any(string) error { return nil }

// NotEmpty takes every text but the empty one.
func NotEmpty(s string) error {
	if s == "" {
		return errors.New("must not be empty")
	}
	return nil
}

// Optional also takes the empty text.
func Optional(check func(string) error) func(string) error {
	return func(s string) error {
		if s == "" {
			return nil
		}
		return check(s)
	}
}

// Address takes HOST:PORT.
func Address(s string) error {
	if _, _, err := net.SplitHostPort(s); err != nil {
		return errors.New("want HOST:PORT, such as 127.0.0.1:8080")
	}
	return nil
}

// Origin takes what URLs of a site begin with.
func Origin(s string) error {
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || (u.Path != "" && u.Path != "/") || u.RawQuery != "" {
		return errors.New("want an origin, such as https://iot.example.com")
	}
	return nil
}

// Boolean takes true and false.
func Boolean(s string) error { return OneOf("true", "false")(s) }

// OneOf takes one of the words.
func OneOf(words ...string) func(string) error {
	return func(s string) error {
		for _, w := range words {
			if s == w {
				return nil
			}
		}
		return fmt.Errorf("want one of %s", strings.Join(words, ", "))
	}
}

// Number takes whole numbers within bounds.
func Number(low, high int) func(string) error {
	return func(s string) error {
		if n, err := strconv.Atoi(s); err != nil || n < low || n > high {
			return fmt.Errorf("want a number from %d to %d", low, high)
		}
		return nil
	}
}

// Prefixes takes what ParsePrefixes reads.
func Prefixes(s string) error {
	_, err := ParsePrefixes(s)
	return err
}

// ParsePrefixes reads networks, separated by commas.
func ParsePrefixes(s string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, part := range strings.Split(s, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		p, err := netip.ParsePrefix(part)
		if err != nil {
			return nil, errors.New("want networks, such as 10.0.0.0/8, separated by commas")
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// Loopback reports whether a host is this machine alone.
func Loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || (err == nil && ip.IsLoopback())
}

// Open reports whether others than this machine reach an address.
func Open(address string) bool {
	host, _, err := net.SplitHostPort(address)
	return err == nil && !Loopback(host)
}

// Nearest is the known name that takes the fewest edits.
func Nearest(name string, known []string) string {
	best, least := "", 1<<30
	for _, k := range known {
		if n := distance(name, k); n < least {
			best, least = k, n
		}
	}
	return best
}

func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost++
			}
			diagonal = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}
