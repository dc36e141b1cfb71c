//go:build services

package main

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl/scram"

	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/deploy/testbed/servers"
)

// An administrator's way with a Kafka: look, do, look again; give a tenant its topic and take it away; go on after a topic was lost.
func TestKafkaTopicsShowsWhatThereIsToDoAndDoesIt(t *testing.T) {
	addr, admin := servers.SharedKafka(t)
	prefix, file := strings.ToLower(rand.Text()), filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(admin.Password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	uplinks, acme, tenant := prefix+".uplinks", prefix+"-acme", ident.Tenant{9, 6: 0x70, 8: 0x80}.String()
	topics := func(args ...string) (code int, out, errs string) {
		return told(t, nil, "", append([]string{"kafka", "topics", "--brokers", addr, "--admin", admin.User, "--password-file", file, "--prefix", prefix, "--partitions", "2", "--replicas", "1"}, args...)...)
	}
	ask := func(code int, want string, args ...string) string {
		t.Helper()
		got, out, errs := topics(args...)
		if got != code || !strings.Contains(out+errs, want) {
			t.Errorf("%q: exit %d, want %d and %q: %s%s", args, got, code, want, out, errs)
		}
		return out
	}
	until := func(code int, want string, args ...string) string { // a broker learns of it a moment later
		t.Helper()
		for n := 0; ; n++ {
			got, out, errs := topics(args...)
			if got == code && strings.Contains(out+errs, want) {
				return out
			}
			if n == 100 {
				t.Fatalf("%q: exit %d, want %d and %q: %s%s", args, got, code, want, out, errs)
			}
			<-time.After(50 * time.Millisecond)
		}
	}
	users := []string{"--user", "platform-api=" + prefix + "-api", "--user", "mqtt-ingestion-worker=" + prefix + "-mqtt", "--user", "event-worker=" + prefix + "-events"}
	plan := ask(exitNo, "nothing was done; --apply does it", users...)
	if !strings.Contains(plan, "create topic "+uplinks+"\n") || !strings.Contains(plan, "allow "+prefix+"-api may write topic "+uplinks+"\n") {
		t.Errorf("the plan: %s", plan)
	}
	if done := ask(exitDone, "", append(users, "--apply")...); done != plan {
		t.Errorf("planned %s\ndid %s", plan, done)
	}
	until(exitDone, "nothing to do", users...)

	consumer := slices.Concat(users, []string{"--consumer", tenant + "=" + acme})
	out := "topic " + prefix + ".out." + tenant
	ask(exitNo, `{"applied":false,"steps":["create `+out+`"`, append(consumer, "--json")...)
	ask(exitDone, "allow "+acme+" may read "+out+"\n", append(consumer, "--apply")...)
	until(exitDone, "nothing to do", consumer...)
	former := slices.Concat(users, []string{"--former", acme})
	until(exitNo, "take away "+acme+" may read "+out+"\n", former...)
	ask(exitDone, "take away "+acme+" may read "+out+"\n", append(former, "--apply")...)
	until(exitDone, "nothing to do", former...)

	mechanism, err := scram.Mechanism(scram.SHA512, admin.User, admin.Password)
	if err != nil {
		t.Fatal(err)
	}
	by := &kafka.Transport{SASL: mechanism}
	t.Cleanup(by.CloseIdleConnections)
	deleted, err := (&kafka.Client{Addr: kafka.TCP(addr), Transport: by}).DeleteTopics(t.Context(), &kafka.DeleteTopicsRequest{Topics: []string{uplinks}})
	if err == nil {
		err = deleted.Errors[uplinks]
	}
	if err != nil {
		t.Fatal(err)
	}
	lost := "note: not the same " + uplinks
	until(exitNo, lost, users...)
	ask(exitDone, "create topic "+uplinks+"\n", append(users, "--apply")...)
	until(exitDone, lost, users...) // it is another, which nobody has said to know of
	ask(exitDone, `{"accepted":[{"anew":true,"marks_moved":0,"topic":"`+uplinks+`"}]}`, "--accept", uplinks, "--json")
	if still := until(exitDone, "nothing to do", users...); strings.Contains(still, lost) {
		t.Errorf("it was accepted: %s", still)
	}

	for want, args := range map[string][]string{
		"there is no binary":           {"--user", "audit-verify=a"},
		"want the id of a tenant":      {"--consumer", "acme=a"},
		"is none of our topics":        {"--accept", "another"},
		"can't be used together":       {"--accept", uplinks, "--apply"},
		"--cert-file and --key-file b": {"--key-file", file},
	} {
		ask(exitUsage, want, args...)
	}
}

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
