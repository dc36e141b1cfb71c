//go:build charts

package deploy_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

const asking = `
platformApi: {service: {type: LoadBalancer}, brokerAuth: {enabled: true, port: 9444, secret: word-of-brokers}}
networkPolicy: {brokerAuth: {from: [{podSelector: {matchLabels: {app: rabbitmq}}}]}}
`

// wrongAsking is what is wrong with how brokers ask the API: who may, where, and what they show.
func wrongAsking(objects []obj) (wrong []string) {
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	var doors, policies []string
	for _, o := range objects {
		name := text(at(o, "metadata", "name"))
		switch o["kind"] {
		case "Service":
			for _, p := range list(at(o, "spec", "ports")) {
				if at(p, "targetPort") == "broker-auth" {
					doors = append(doors, fmt.Sprint(name, " ", at(o, "spec", "type"), " ", at(p, "port"), " ", at(o, "spec", "selector", "app.kubernetes.io/component")))
				}
			}
		case "NetworkPolicy":
			for _, r := range list(at(o, "spec", "ingress")) {
				for _, p := range list(at(r, "ports")) {
					if at(p, "port") == "broker-auth" || at(p, "port") == 8444 {
						policies = append(policies, name)
						if len(list(at(r, "ports"))) != 1 || !reflect.DeepEqual(at(r, "from"), []any{obj{"podSelector": obj{"matchLabels": obj{"app": "rabbitmq"}}}}) {
							say("%s lets %v in", name, at(r, "from"))
						}
					}
				}
			}
		}
	}
	if want := []string{"rel-ringfence-broker-auth ClusterIP 9444 platform-api"}; !slices.Equal(doors, want) {
		say("doors: %q, want %q", doors, want)
	}
	if want := []string{"rel-ringfence-platform-api"}; !slices.Equal(policies, want) {
		say("policies: %q, want %q", policies, want)
	}
	for _, w := range workloads(objects) {
		listens := variables(w.containers[0])["RINGFENCE_BROKER_AUTH_LISTEN"]
		given := slices.Contains(w.mounts(), "word-of-brokers")
		port := slices.ContainsFunc(list(w.containers[0]["ports"]), func(p any) bool { return at(p, "name") == "broker-auth" && at(p, "containerPort") == 8444 })
		if is := w.binary() == "platform-api"; is != given || is != port || is != (listens == "0.0.0.0:8444") {
			say("%s: is given the word: %v, has the port: %v, listens at %q", w.name, given, port, listens)
		}
	}
	return wrong
}

func TestTheChartLetsBrokersAskTheAPIAndNobodyElse(t *testing.T) {
	off, errs := template(t, "")
	if errs != "" || strings.Contains(off, "broker-auth") || strings.Contains(off, "BROKER_AUTH") {
		t.Errorf("nobody wanted it: %s", errs)
	}
	rendered, errs := template(t, asking)
	if errs != "" {
		t.Fatal(errs)
	}
	all := objects(t, rendered)
	if wrong := append(wrongAsking(all), open(all)...); len(wrong) > 0 {
		t.Errorf("%s", strings.Join(wrong, "\n"))
	}
	for _, p := range []struct{ from, to, want string }{
		{"matchLabels:\n              app: rabbitmq", "matchLabels:\n              app: anything", "lets"},
		{"{protocol: TCP, port: broker-auth}", "{protocol: TCP, port: broker-auth}\n        - {protocol: TCP, port: api}", "lets"},
		{"{protocol: TCP, port: broker-auth}", "{protocol: TCP, port: api}", "policies"},
		{"{protocol: TCP, port: metrics}", "{protocol: TCP, port: 8444}", "lets"},
		{"targetPort: api,", "targetPort: broker-auth,", "doors"},
		{"type: ClusterIP", "type: NodePort", "doors"},
		{"secretName: word-of-brokers", "secretName: another", "is given the word: false"},
		{"containerPort: 8444", "containerPort: 8443", "has the port: false"},
		{"secretName: ringfence-keys-event-worker", "secretName: word-of-brokers", "event-worker: is given the word: true"},
	} {
		if !strings.Contains(rendered, p.from) {
			t.Errorf("%q is not rendered", p.from)
		}
		same(t, p.to, wrongAsking(objects(t, strings.Replace(rendered, p.from, p.to, 1))), p.want)
	}
}
