//go:build services

package main

import (
	"crypto/rand"
	"strings"
	"testing"

	"github.com/ringfence/ringfence/deploy/testbed/servers"
)

// A Kafka that wants a certificate of each client, as doctor's M75 asks, is prepared with one.
func TestKafkaTopicsShowsTheCertificateThatKafkaWants(t *testing.T) {
	at := servers.SharedSecured(t)
	prefix := strings.ToLower(rand.Text())
	args := []string{"kafka", "topics", "--brokers", at.Mutual, "--ca-file", at.CAFile, "--prefix", prefix, "--replicas", "1"}
	for _, c := range []struct {
		with      []string
		code      int
		out, errs string
	}{
		{nil, exitFail, "", "certificate"},
		{[]string{"--cert-file", at.CertFile}, exitUsage, "", "--cert-file and --key-file belong together"},
		{[]string{"--cert-file", at.CertFile, "--key-file", at.KeyFile}, exitNo, "create topic " + prefix + ".uplinks\n", "nothing was done"},
	} {
		code, out, errs := told(t, nil, "", append(args, c.with...)...)
		if code != c.code || !strings.Contains(out, c.out) || !strings.Contains(errs, c.errs) {
			t.Errorf("%q: exit %d %s%s", c.with, code, out, errs)
		}
	}
}
