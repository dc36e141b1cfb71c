// Package deploy_test holds what is deployed to the rules that it is deployed by: container file, compose file, chart and dashboard.
package deploy_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const root = ".."

var update = flag.Bool("update", false, "write the settings into the schema of the chart's values")

// services are our binaries that serve.
func services() []string { return []string{"event-worker", "mqtt-ingestion-worker", "platform-api"} }

// TestMain builds them once: each is asked many times.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "deploy-")
	if err == nil {
		cmd := exec.Command("go", "build", "-trimpath", "-o", dir, "./cmd/event-worker", "./cmd/mqtt-ingestion-worker", "./cmd/platform-api", "./cmd/ringfence") //nolint:noctx // before there is a test
		cmd.Dir, cmd.Stderr = root, os.Stderr
		cmd.Env = append(os.Environ(), "GOFLAGS=-mod=readonly -buildvcs=false", "CGO_ENABLED=0")
		err = cmd.Run()
	}
	if err == nil {
		err = os.Setenv(built, dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// built names the folder of our binaries.
const built = "DEPLOY_BINARIES"

// ran is one of our binaries, run with an environment of RINGFENCE_… and nothing else.
func ran(t *testing.T, env map[string]string, binary string, args ...string) (out string, errs string, code int) {
	t.Helper()
	depends(t)
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), filepath.Join(os.Getenv(built), binary), args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = t.TempDir(), &stdout, &stderr
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "RINGFENCE_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	for k, v := range env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}

// depends looks at every file that the binaries are made of, so that go test does not take an answer of older ones for this one's:
// it knows what a test looked at, and not what it ran.
func depends(t *testing.T) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != root {
			return fs.SkipDir
		}
		if err == nil && (strings.HasSuffix(path, ".go") || strings.HasSuffix(path, ".sql")) {
			_, err = os.Stat(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// judged is what a binary says of its configuration.
type judged struct {
	Good     bool              `json:"good"`
	Problems []string          `json:"problems"`
	Settings map[string]string `json:"settings"`
}

func judge(t *testing.T, binary string, env map[string]string) (j judged) {
	t.Helper()
	out, errs, _ := ran(t, env, binary, "--config", os.DevNull, "config", "check", "--json")
	if err := json.Unmarshal([]byte(out), &j); err != nil || len(j.Settings) < 10 {
		t.Fatalf("%s config check: %v %s%s", binary, err, out, errs)
	}
	return j
}

// variable is a setting's name in the environment.
func variable(key string) string { return "RINGFENCE_" + strings.ToUpper(key) }

// told is what each binary can be told, and what of it is a secret: asked of the binaries themselves.
type told map[string]map[string]bool // binary, setting, secret

func settings(t *testing.T) told {
	t.Helper()
	all := told{}
	for _, binary := range append(services(), "ringfence") {
		def, canaries := judge(t, binary, nil), map[string]string{}
		for key := range def.Settings {
			canaries[variable(key)] = "canary"
		}
		all[binary] = map[string]bool{}
		for key, shown := range judge(t, binary, canaries).Settings {
			all[binary][key] = shown != "canary" && shown != def.Settings[key] // what is refused stays the default
		}
	}
	if !all["platform-api"]["database_url"] || all["platform-api"]["public_url"] || !all["event-worker"]["kafka_password"] {
		t.Fatalf("which settings are secrets was not found out: %v", all["platform-api"])
	}
	return all
}

// environment is what is wrong with the variables that one of our binaries is given.
func (k told) environment(where, binary string, env map[string]string) (wrong []string) {
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if !strings.HasPrefix(name, "RINGFENCE_") {
			wrong = append(wrong, where+": "+name+" is nothing that "+binary+" looks at")
			continue
		}
		key := strings.ToLower(strings.TrimPrefix(name, "RINGFENCE_"))
		secret, known := k[binary][key]
		if !known {
			_, known = k[binary][strings.TrimSuffix(key, "_file")] // a file that holds the value
			secret = false
		}
		switch {
		case !known:
			wrong = append(wrong, where+": "+binary+" has no setting for "+name)
		case secret:
			wrong = append(wrong, where+": "+name+" is a secret, in the environment for all to read; name a file by "+name+"_FILE")
		}
	}
	return wrong
}

// understood reports whether ringfence has a command with these flags, without running it.
func understood(t *testing.T, args []string) string {
	t.Helper()
	if _, errs, code := ran(t, nil, "ringfence", append(slices.Clone(args), "--help")...); code != 0 {
		return errs
	}
	return ""
}

// same compares what is wrong with what was planted.
func same(t *testing.T, planted string, wrong []string, want string) {
	t.Helper()
	if !slices.ContainsFunc(wrong, func(line string) bool { return strings.Contains(line, want) }) {
		t.Errorf("%s: want %q, found %q", planted, want, wrong)
	}
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
