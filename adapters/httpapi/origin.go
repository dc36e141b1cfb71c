package httpapi

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/ringfence/ringfence/ports/trace"
)

// sender is where its sender says that a request stands in a trace: by exactly one traceparent.
func sender(r *http.Request) trace.Place {
	if fields := r.Header["Traceparent"]; len(fields) == 1 {
		return trace.Parse(fields[0])
	}
	return trace.Place{}
}

func cut(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "")
}

// client is the caller's address: the connection's, or, behind trusted proxies, the rightmost one that they added for
// somebody who is none of them.
func (a *API) client(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return ""
	}
	ip = ip.Unmap()
	trusted := func(ip netip.Addr) bool {
		return slices.ContainsFunc(a.o.Trusted, func(p netip.Prefix) bool { return p.Contains(ip) })
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && trusted(ip); i-- {
		hop, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		ip = hop.Unmap()
	}
	return ip.String()
}
