//go:build charts

package deploy_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// at follows a path of keys into an object; nil: it ends somewhere.
func at(o any, path ...string) any {
	for _, key := range path {
		m, ok := o.(obj)
		if !ok {
			return nil
		}
		o = m[key]
	}
	return o
}

func list(o any) []any {
	l, _ := o.([]any)
	return l
}

func text(o any) string {
	s, _ := o.(string)
	return s
}

// workload is what runs pods.
type workload struct {
	kind, name string
	object     obj
	pod        obj // its template's spec
	labels     any
	containers []obj
}

func workloads(objects []obj) (all []workload) {
	for _, o := range objects {
		template := at(o, "spec", "template")
		if template == nil {
			template = at(o, "spec", "jobTemplate", "spec", "template")
		}
		pod, ok := at(template, "spec").(obj)
		if !ok {
			continue
		}
		w := workload{kind: text(o["kind"]), name: text(at(o, "metadata", "name")), object: o, pod: pod, labels: at(template, "metadata", "labels")}
		for _, key := range []string{"initContainers", "containers"} {
			for _, c := range list(pod[key]) {
				w.containers = append(w.containers, c.(obj))
			}
		}
		all = append(all, w)
	}
	return all
}

func variables(container obj) map[string]string {
	env := map[string]string{}
	for _, e := range list(container["env"]) {
		env[text(at(e, "name"))] = text(at(e, "value"))
	}
	return env
}

// binary is which of ours a workload runs.
func (w workload) binary() string {
	return strings.TrimPrefix(text(list(w.containers[0]["command"])[0]), "/usr/bin/")
}

// mounts are the secrets that a workload is given.
func (w workload) mounts() (secrets []string) {
	for _, v := range list(w.pod["volumes"]) {
		if s := text(at(v, "secret", "secretName")); s != "" {
			secrets = append(secrets, s)
		}
	}
	slices.Sort(secrets)
	return slices.Compact(secrets)
}

// insecure is what is wrong with how a workload runs.
func (w workload) insecure(known told) (wrong []string) {
	say := func(format string, args ...any) { wrong = append(wrong, w.name+": "+fmt.Sprintf(format, args...)) }
	sure := func(o any, want any, path ...string) {
		if got := at(o, path...); !reflect.DeepEqual(got, want) {
			say("%s is %v, want %v", strings.Join(path, "."), got, want)
		}
	}
	sure(w.pod, false, "automountServiceAccountToken")
	sure(w.pod, false, "enableServiceLinks")
	sure(w.pod, true, "securityContext", "runAsNonRoot")
	sure(w.pod, "RuntimeDefault", "securityContext", "seccompProfile", "type")
	if uid, _ := at(w.pod, "securityContext", "runAsUser").(int); uid == 0 {
		say("runs as root")
	}
	if sa := text(w.pod["serviceAccountName"]); sa == "" || sa == "default" {
		say("has the service account of everybody")
	}
	for _, key := range []string{"hostNetwork", "hostPID", "hostIPC"} {
		sure(w.pod, nil, key)
	}
	for _, v := range list(w.pod["volumes"]) {
		if at(v, "hostPath") != nil {
			say("sees a folder of the host")
		}
	}
	for _, c := range w.containers {
		sure(c, false, "securityContext", "allowPrivilegeEscalation")
		sure(c, true, "securityContext", "readOnlyRootFilesystem")
		sure(c, []any{"ALL"}, "securityContext", "capabilities", "drop")
		sure(c, nil, "securityContext", "capabilities", "add")
		sure(c, nil, "securityContext", "privileged")
		sure(c, nil, "envFrom")
		for _, what := range []string{"requests", "limits"} {
			for _, of := range []string{"cpu", "memory"} {
				if at(c, "resources", what, of) == nil {
					say("has no %s of %s", what, of)
				}
			}
		}
		for _, e := range list(c["env"]) {
			if at(e, "valueFrom") != nil {
				say("%v is a secret in the environment, for all to read; mount it as a file", at(e, "name"))
			}
		}
		for _, m := range list(c["volumeMounts"]) {
			if at(m, "name") != "cache" && at(m, "readOnly") != true {
				say("writes to %v", at(m, "mountPath"))
			}
		}
		if image := text(c["image"]); strings.HasSuffix(image, ":latest") || !strings.ContainsAny(image, ":@") {
			say("image %s: which version?", image)
		}
		wrong = append(wrong, known.environment(w.name, w.binary(), variables(c))...)
	}
	if w.kind == "Deployment" || w.kind == "StatefulSet" {
		c := w.containers[0]
		sure(w.pod, 30, "terminationGracePeriodSeconds")
		sure(c, "/healthz", "livenessProbe", "httpGet", "path")
		sure(c, "/readyz", "readinessProbe", "httpGet", "path")
		if len(list(w.pod["topologySpreadConstraints"])) == 0 {
			say("all on one node")
		}
		if got, want := variables(c)["RINGFENCE_REPLICAS"], fmt.Sprint(at(w.object, "spec", "replicas")); got != want {
			say("is told of %s replicas, and there are %s", got, want)
		}
	}
	return wrong
}

// open is what is wrong with network policies, and which pods have none.
func open(objects []obj) (wrong []string) {
	denied := false
	for _, o := range objects {
		if o["kind"] != "NetworkPolicy" {
			continue
		}
		name, spec := text(at(o, "metadata", "name")), o["spec"]
		rules := 0
		for _, way := range []struct{ rules, peers string }{{"ingress", "from"}, {"egress", "to"}} {
			for _, r := range list(at(spec, way.rules)) {
				rules++
				peers := list(at(r, way.peers))
				if len(peers) == 0 {
					wrong = append(wrong, name+": "+way.rules+" allows everybody")
				}
				for _, p := range peers {
					ns, hasNS := p.(obj)["namespaceSelector"]
					_, hasPod := p.(obj)["podSelector"]
					all := hasNS && len(ns.(obj)) == 0 && (!hasPod || len(at(p, "podSelector").(obj)) == 0)
					if cidr := text(at(p, "ipBlock", "cidr")); all || strings.HasSuffix(cidr, "/0") || len(p.(obj)) == 0 {
						wrong = append(wrong, fmt.Sprintf("%s: %s allows everybody by %v", name, way.rules, p))
					}
				}
				if len(list(at(r, "ports"))) == 0 && !strings.Contains(name, "-guard-") {
					wrong = append(wrong, name+": "+way.rules+" allows every port")
				}
			}
		}
		types := list(at(spec, "policyTypes"))
		if rules == 0 && len(types) == 2 && at(spec, "podSelector", "matchLabels", "app.kubernetes.io/component") == nil {
			denied = true
		}
	}
	if !denied {
		wrong = append(wrong, "no policy denies what none allows")
	}
	return wrong
}

// reach is which components may open connections to a port.
func reach(objects []obj, port int) (components []string) {
	for _, o := range objects {
		if o["kind"] != "NetworkPolicy" {
			continue
		}
		for _, r := range list(at(o, "spec", "egress")) {
			for _, p := range list(at(r, "ports")) {
				if at(p, "port") == port {
					components = append(components, text(at(o, "spec", "podSelector", "matchLabels", "app.kubernetes.io/component")))
				}
			}
		}
	}
	slices.Sort(components)
	return components
}

// unshown is what is wrong with who is given a client's certificate for a server: all that reach it are, each is told where it
// lies, and nobody else is.
func unshown(objects []obj) (wrong []string) {
	for secret, port := range map[string]int{"database-client": 5432, "kafka-client": 9093, "telemetry-client": 4318} {
		var given []string
		for _, w := range workloads(objects) {
			if !slices.Contains(w.mounts(), secret) {
				continue
			}
			given = append(given, text(at(w.labels, "app.kubernetes.io/component")))
			c, folder := w.containers[0], "/run/ringfence/"+secret
			if !slices.ContainsFunc(list(c["volumeMounts"]), func(m any) bool { return at(m, "mountPath") == folder }) {
				wrong = append(wrong, w.name+": does not find "+folder)
			}
			if said := fmt.Sprint(c["args"], variables(c)); secret != "database-client" && // of which the URL says it
				!strings.Contains(said, "--cert-file "+folder+"/tls.crt --key-file "+folder+"/tls.key") && !(strings.Contains(said, "_CERT_FILE:"+folder+"/tls.crt ") && strings.Contains(said, "_KEY_FILE:"+folder+"/tls.key ")) {
				wrong = append(wrong, w.name+": is not told of "+folder)
			}
		}
		slices.Sort(given)
		if want := reach(objects, port); len(want) == 0 || !slices.Equal(given, want) {
			wrong = append(wrong, fmt.Sprintf("%s is given to %q, and port %d is reached by %q", secret, given, port, want))
		}
	}
	return wrong
}

// apart are the guards that cut a server off from its own peers: the pods that it is, in their namespace, at any port.
func apart(objects []obj) (wrong []string) {
	guards := 0
	for _, o := range objects {
		name, spec := text(at(o, "metadata", "name")), at(o, "spec")
		if o["kind"] != "NetworkPolicy" || !strings.Contains(name, "-guard-") {
			continue
		}
		guards++
		own := obj{"from": []any{obj{"podSelector": at(spec, "podSelector")}}} // without a namespace: the policy's own
		if !slices.ContainsFunc(list(at(spec, "ingress")), func(rule any) bool { return reflect.DeepEqual(rule, own) }) {
			wrong = append(wrong, name+": cuts the server off from its own peers")
		}
	}
	if guards == 0 {
		wrong = append(wrong, "no server is guarded")
	}
	return wrong
}

// wrongChart is all that is wrong with what was rendered.
func wrongChart(objects []obj, known told) (wrong []string) {
	kinds, budgets := map[string][]string{}, []string{}
	for _, w := range workloads(objects) {
		wrong = append(wrong, w.insecure(known)...)
		kinds[w.kind] = append(kinds[w.kind], strings.TrimPrefix(w.name, "rel-ringfence-"))
		want := map[string][]string{
			"platform-api": {"ringfence-database-runtime", "ringfence-kafka-platform-api", "ringfence-keys", "ringfence-tls"}, "event-worker": {"ringfence-database-relay", "ringfence-database-runtime", "ringfence-kafka-event-worker", "ringfence-keys-event-worker"},
			"mqtt-ingestion-worker": {"ringfence-broker", "ringfence-database-reader", "ringfence-kafka-mqtt-ingestion-worker"}, "migrate": {"ringfence-database-owner"},
			"maintain": {"ringfence-database-owner", "ringfence-database-retention"}, "topics": {"ringfence-kafka-admin"},
		}[strings.TrimPrefix(w.name, "rel-ringfence-")]
		if got := w.mounts(); !slices.Equal(got, want) {
			wrong = append(wrong, fmt.Sprintf("%s: is given %q, and needs %q", w.name, got, want))
		}
	}
	for kind, want := range map[string][]string{"Deployment": {"event-worker", "platform-api"}, "StatefulSet": {"mqtt-ingestion-worker"}, "CronJob": {"maintain"}, "Job": {"migrate", "topics"}} {
		slices.Sort(kinds[kind])
		if !slices.Equal(kinds[kind], want) {
			wrong = append(wrong, fmt.Sprintf("%s: %q, want %q", kind, kinds[kind], want))
		}
	}
	for _, o := range objects {
		switch o["kind"] {
		case "PodDisruptionBudget":
			budgets = append(budgets, text(at(o, "spec", "selector", "matchLabels", "app.kubernetes.io/component")))
		case "ServiceAccount":
			if o["automountServiceAccountToken"] != false {
				wrong = append(wrong, text(at(o, "metadata", "name"))+": a token for whoever asks")
			}
		case "Secret", "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding", "PersistentVolumeClaim":
			wrong = append(wrong, "a "+text(o["kind"])+", which nothing here needs")
		}
	}
	slices.Sort(budgets)
	if !slices.Equal(budgets, services()) {
		wrong = append(wrong, fmt.Sprintf("disruption budgets: %q", budgets))
	}
	for port, want := range map[int][]string{5432: {"event-worker", "maintain", "migrate", "mqtt-ingestion-worker", "platform-api"}, 9093: {"event-worker", "mqtt-ingestion-worker", "platform-api", "topics"}, 8883: {"mqtt-ingestion-worker"}, 4318: nil} {
		if got := reach(objects, port); !slices.Equal(got, want) {
			wrong = append(wrong, fmt.Sprintf("port %d is reached by %q, want %q", port, got, want))
		}
		if want == nil { // there is none
			continue
		}
		guard := func(o obj) bool {
			return o["kind"] == "NetworkPolicy" && strings.Contains(text(at(o, "metadata", "name")), "-guard-") && reflect.DeepEqual(at(list(at(o, "spec", "ingress"))[0], "ports"), []any{obj{"protocol": "TCP", "port": port}}) &&
				len(list(at(list(at(o, "spec", "ingress"))[0], "from"))) == len(want)
		}
		if !slices.ContainsFunc(objects, guard) {
			wrong = append(wrong, fmt.Sprintf("port %d is open to others", port))
		}
	}
	return append(append(wrong, apart(objects)...), open(objects)...)
}

func TestTheChartGivesEachPodWhatItNeedsAndNoMore(t *testing.T) {
	known := settings(t)
	rendered, errs := template(t, "")
	if errs != "" {
		t.Fatal(errs)
	}
	if wrong := wrongChart(objects(t, rendered), known); len(wrong) > 0 {
		t.Errorf("%s", strings.Join(wrong, "\n"))
	}
	for _, values := range []string{everything, proxied} {
		other, errs := template(t, values)
		if errs != "" {
			t.Fatal(errs)
		}
		all := objects(t, other)
		wrong := append(open(all), apart(all)...)
		if got := reach(all, 4318); !slices.Equal(got, services()) {
			wrong = append(wrong, fmt.Sprintf("the collector is reached by %q", got))
		}
		for _, w := range workloads(all) {
			wrong = append(wrong, w.insecure(known)...)
		}
		if len(wrong) > 0 {
			t.Errorf("%s", strings.Join(wrong, "\n"))
		}
	}
	full, _ := template(t, everything)
	if wrong := unshown(objects(t, full)); len(wrong) > 0 {
		t.Errorf("%s", strings.Join(wrong, "\n"))
	}
	for _, p := range []struct{ from, to, want string }{
		{"secretName: kafka-client", "secretName: ca", "kafka-client is given to"},
		{"secretName: telemetry-client", "secretName: database-client", "telemetry-client is given to"},
		{"mountPath: /run/ringfence/database-client", "mountPath: /run/ringfence/database", "does not find /run/ringfence/database-client"},
		{"{name: RINGFENCE_KAFKA_KEY_FILE, value: /run/ringfence/kafka-client/tls.key}", "", "is not told of /run/ringfence/kafka-client"},
		{"- --cert-file\n", "- --ca-file\n", "topics: is not told of /run/ringfence/kafka-client"},
	} {
		if !strings.Contains(full, p.from) {
			t.Errorf("%q is not rendered", p.from)
		}
		same(t, p.to, unshown(objects(t, strings.Replace(full, p.from, p.to, 1))), p.want)
	}
	for _, p := range []struct{ from, to, want string }{
		{"            limits:\n              cpu: \"2\"\n              memory: 512Mi\n", "", "has no limits of memory"},
		{"{name: RINGFENCE_KAFKA_PASSWORD_FILE, value: /run/ringfence/kafka/password}", "{name: RINGFENCE_KAFKA_PASSWORD, value: hunter2}", "RINGFENCE_KAFKA_PASSWORD is a secret"},
		{"{name: RINGFENCE_KAFKA_PASSWORD_FILE, value: /run/ringfence/kafka/password}", "{name: RINGFENCE_KAFKA_PASSWORD, valueFrom: {secretKeyRef: {name: a, key: b}}}", "RINGFENCE_KAFKA_PASSWORD is a secret"},
		{"RINGFENCE_KAFKA_BROKERS", "RINGFENCE_KAFKA_BROKER", "has no setting for RINGFENCE_KAFKA_BROKER"},
		{"runAsNonRoot: true", "runAsNonRoot: false", "runAsNonRoot"},
		{"runAsUser: 65532", "runAsUser: 0", "runs as root"},
		{"readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "readOnlyRootFilesystem"},
		{"allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true", "allowPrivilegeEscalation"},
		{"drop: [ALL]", "drop: [ALL], add: [NET_ADMIN]", "capabilities.add"},
		{"seccompProfile: {type: RuntimeDefault}", "seccompProfile: {type: Unconfined}", "seccompProfile"},
		{"automountServiceAccountToken: false\n      enableServiceLinks", "enableServiceLinks", "automountServiceAccountToken"},
		{"enableServiceLinks: false", "hostNetwork: true\n      enableServiceLinks: false", "hostNetwork"},
		{"enableServiceLinks: false", "enableServiceLinks: true", "enableServiceLinks"},
		{"terminationGracePeriodSeconds: 30", "terminationGracePeriodSeconds: 5", "terminationGracePeriodSeconds"},
		{"{name: RINGFENCE_REPLICAS, value: \"2\"}", "{name: RINGFENCE_REPLICAS, value: \"1\"}", "is told of 1 replicas"},
		{"httpGet: {path: /readyz, port: metrics}", "httpGet: {path: /healthz, port: metrics}", "readinessProbe"},
		{"secretName: ringfence-keys-event-worker", "secretName: ringfence-keys", "event-worker: is given"},
		{"mountPath: /run/ringfence/keys, readOnly: true", "mountPath: /run/ringfence/keys", "writes to /run/ringfence/keys"},
		{"{name: cache, emptyDir: {sizeLimit: 128Mi}}", "{name: cache, hostPath: {path: /var/cache}}", "sees a folder of the host"},
		{"image: ringfence:0.1.0", "image: ringfence:latest", "which version?"},
		{"  policyTypes: [Ingress, Egress]\n---", "  policyTypes: [Ingress]\n---", "no policy denies"},
		{"    - from:\n        - namespaceSelector:\n            matchLabels:\n              kubernetes.io/metadata.name: ingress-nginx\n", "    - from: []\n", "ingress allows everybody"},
		{"        - namespaceSelector:\n            matchLabels:\n              kubernetes.io/metadata.name: ingress-nginx\n", "        - namespaceSelector: {}\n", "ingress allows everybody by"},
		{"        - namespaceSelector:\n            matchLabels:\n              kubernetes.io/metadata.name: ingress-nginx\n", "        - ipBlock: {cidr: 0.0.0.0/0}\n", "ingress allows everybody by"},
		{"        - {protocol: TCP, port: 5432}", "        - {protocol: TCP, port: 5432}\n        - {protocol: TCP, port: 8883}", "port 8883 is reached by"},
		{"        - {protocol: TCP, port: 5432}", "        - {protocol: TCP, port: 5432}\n        - {protocol: TCP, port: 4318}", "port 4318 is reached by"},
		{"        - podSelector:\n            matchLabels:\n              app.kubernetes.io/name: kafka\n", "        - podSelector:\n            matchLabels:\n              app.kubernetes.io/name: kafka-controller\n", "guard-kafka: cuts the server off"},
		{"        - podSelector:\n            matchLabels:\n              app.kubernetes.io/name: postgresql\n", "        - podSelector:\n            matchLabels:\n              app.kubernetes.io/name: postgresql\n      ports:\n        - {protocol: TCP, port: 5432}\n", "guard-database: cuts the server off"},
		{"kind: PodDisruptionBudget", "kind: Secret", "a Secret, which nothing here needs"},
	} {
		if !strings.Contains(rendered, p.from) {
			t.Errorf("%q is not rendered", p.from)
		}
		same(t, p.to, wrongChart(objects(t, strings.Replace(rendered, p.from, p.to, 1)), known), p.want)
	}
}
