package deploy_test

import (
	"context"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/ringfence/ringfence/adapters/httpapi"
	"github.com/ringfence/ringfence/adapters/mqttlink"
)

// exported are the series that our processes can tell, by name, with the names of their labels: those that are told at once are
// asked for, the others, which come with what they count, are read from the code that counts.
func exported(t *testing.T) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	add := func(series string) {
		name, labels, _ := strings.Cut(strings.TrimSuffix(series, "}"), "{")
		all[name] = append(all[name], "")
		for _, m := range regexp.MustCompile(`([a-z_]+)="`).FindAllStringSubmatch(labels, -1) {
			all[name] = append(all[name], m[1])
		}
	}
	links, err := mqttlink.Open(t.Context(), []mqttlink.Connection{{Name: "site", URL: "mqtt://127.0.0.1:1", Filters: []string{"up/#"}}}, mqttlink.Options{
		Log: slog.New(slog.DiscardHandler), Name: "deploy", Take: func(_ context.Context, ms []mqttlink.Message) []error { return make([]error, len(ms)) },
	})
	if err != nil {
		t.Fatal(err)
	}
	metrics := httpapi.NewMetrics()
	metrics.Watch(links.Counts)
	w := httptest.NewRecorder()
	metrics.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if err := links.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	for line := range strings.Lines(w.Body.String()) {
		if strings.HasPrefix(line, "ringfence_") {
			add(line[:strings.LastIndex(line, " ")])
		}
	}
	for _, dir := range []string{"adapters", "app", "cmd"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(f, func(n ast.Node) bool {
				e, ok := n.(ast.Expr)
				if series := flat(e); ok && strings.HasPrefix(series, "ringfence_") && regexp.MustCompile(`^[a-z_]+(\{[^}]*\})?$`).MatchString(series) {
					add(series)
					return false
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// flat is what a concatenation of texts says, with X for what is not known before it runs.
func flat(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if s, err := strconv.Unquote(e.Value); err == nil && e.Kind == token.STRING {
			return s
		}
	case *ast.BinaryExpr:
		if e.Op == token.ADD {
			return flat(e.X) + flat(e.Y)
		}
	}
	return "X"
}

// unknown are what a query asks for and nobody tells.
func unknown(who, query string, all map[string][]string) (wrong []string) {
	names := regexp.MustCompile(`(ringfence_[a-z_]+)(\{[^}]*\})?`).FindAllStringSubmatch(query, -1)
	if len(names) != 1 {
		return []string{who + ": asks for none of ours, or for several: " + query}
	}
	labels, known := all[names[0][1]]
	if !known {
		return []string{who + ": there is no " + names[0][1]}
	}
	var used []string
	for _, m := range regexp.MustCompile(`([a-z_]+)=~?"`).FindAllStringSubmatch(names[0][2], -1) {
		used = append(used, m[1])
	}
	if m := regexp.MustCompile(`by \(([a-z_, ]+)\)`).FindStringSubmatch(query); m != nil {
		used = append(used, strings.Split(m[1], ", ")...)
	}
	for _, label := range used {
		if !slices.Contains(append(labels, "namespace", "job", "instance"), label) { // those are Prometheus' own
			wrong = append(wrong, who+": "+names[0][1]+" has no label "+label)
		}
	}
	return wrong
}

// strangers are what a dashboard asks for and nobody tells.
func strangers(t *testing.T, dashboard string, all map[string][]string) (wrong []string) {
	t.Helper()
	var d struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(dashboard), &d); err != nil {
		t.Fatal(err)
	}
	asked := 0
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			asked++
			wrong = append(wrong, unknown(p.Title, target.Expr, all)...)
		}
	}
	if asked < 20 {
		wrong = append(wrong, "the dashboard asks for next to nothing")
	}
	return wrong
}

func TestTheDashboardAsksForSeriesThatAreThere(t *testing.T) {
	all, dashboard := exported(t), read(t, "grafana", "ringfence.json")
	if wrong := strangers(t, dashboard, all); len(wrong) > 0 {
		t.Errorf("%q\nthere are: %v", wrong, all)
	}
	for from, want := range map[string]string{
		"ringfence_ingest_accepted_total": "there is no ringfence_ingest_excepted_total", "ringfence_mqtt_down": "there is no ringfence_mqtt_up",
		"ringfence_http_request_duration_seconds_bucket": "there is no ringfence_http_request_duration_seconds_bin", "sum by (reason)": "has no label why",
	} {
		to := map[string]string{"sum by (reason)": "sum by (why)"}[from]
		if to == "" {
			_, to, _ = strings.Cut(want, "there is no ")
		}
		if !strings.Contains(dashboard, from) {
			t.Errorf("the dashboard does not ask for %s", from)
		}
		same(t, to, strangers(t, strings.Replace(dashboard, from, to, 1), all), want)
	}
	// The chart has this one, not another.
	if read(t, "helm", "ringfence", "dashboard.json") != dashboard {
		t.Error("the chart's dashboard is another")
	}
}

// alarms are the rules of a file for Prometheus, and what is wrong with them.
func alarms(t *testing.T, text string, all map[string][]string) (found map[string]string, wrong []string) {
	t.Helper()
	var f struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	d := yaml.NewDecoder(strings.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&f); err != nil {
		t.Fatal(err)
	}
	found = map[string]string{}
	for _, g := range f.Groups {
		for _, r := range g.Rules {
			if _, twice := found[r.Alert]; twice || r.Alert == "" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" || r.Labels["severity"] != "critical" && r.Labels["severity"] != "warning" {
				wrong = append(wrong, r.Alert+": is there twice, or says not what is wrong, what to do and how bad it is")
			}
			if _, err := time.ParseDuration(r.For + "0s"); err != nil {
				wrong = append(wrong, r.Alert+": "+err.Error())
			}
			if strings.Count(r.Expr, "(") != strings.Count(r.Expr, ")") || !regexp.MustCompile(`[<>] [0-9]+$|^absent\(`).MatchString(r.Expr) {
				wrong = append(wrong, r.Alert+": compares to no number: "+r.Expr)
			}
			found[r.Alert] = r.Expr
			wrong = append(wrong, unknown(r.Alert, r.Expr, all)...)
		}
	}
	return found, wrong
}

// Each alarm that the pages name is a rule, and asks for what is there.
func TestAlarmsAreOnSeriesThatAreThere(t *testing.T) {
	all, text := exported(t), read(t, "prometheus", "ringfence.rules.yaml")
	found, wrong := alarms(t, text, all)
	if len(wrong) > 0 {
		t.Errorf("%q", wrong)
	}
	for name, part := range map[string]string{
		"RingfenceOldestUnread": "(ringfence_bus_oldest_unread_seconds) > 3600", "RingfencePartitionsAhead": "(ringfence_partitions_ahead_days) < 2", "RingfenceMemberAbsent": "(ringfence_mqtt_members_absent) > 0",
		"RingfenceNotReady": "(ringfence_ready) < 1", "RingfenceBehind": "(ringfence_bus_lag_records) > ", "RingfenceConnectionDown": "(ringfence_mqtt_down) > 0",
	} {
		if !strings.Contains(found[name], part) {
			t.Errorf("%s: %q, want %q in it", name, found[name], part)
		}
	}
	for from, to := range map[string]string{"(ringfence_ready)": "(ringfence_red)", "connection) (ringfence_mqtt_down)": "line) (ringfence_mqtt_down)", `{class="5xx"}`: `{klass="5xx"}`, "> 3600": "", "severity: warning": "severity: none"} {
		if _, wrong := alarms(t, strings.Replace(text, from, to, 1), all); !strings.Contains(text, from) || len(wrong) != 1 {
			t.Errorf("with %q for %q: %q", to, from, wrong)
		}
	}
}
