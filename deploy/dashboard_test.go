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
	series := regexp.MustCompile(`(ringfence_[a-z_]+)(\{[^}]*\})?`)
	by := regexp.MustCompile(`by \(([a-z_, ]+)\)`)
	asked := 0
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			asked++
			names := series.FindAllStringSubmatch(target.Expr, -1)
			if len(names) != 1 {
				wrong = append(wrong, p.Title+": asks for none of ours, or for several: "+target.Expr)
				continue
			}
			labels, known := all[names[0][1]]
			if !known {
				wrong = append(wrong, p.Title+": there is no "+names[0][1])
				continue
			}
			var used []string
			for _, m := range regexp.MustCompile(`([a-z_]+)=~?"`).FindAllStringSubmatch(names[0][2], -1) {
				used = append(used, m[1])
			}
			if m := by.FindStringSubmatch(target.Expr); m != nil {
				used = append(used, strings.Split(m[1], ", ")...)
			}
			for _, label := range used {
				if label != "namespace" && !slices.Contains(labels, label) { // that one is Prometheus' own
					wrong = append(wrong, p.Title+": "+names[0][1]+" has no label "+label)
				}
			}
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
