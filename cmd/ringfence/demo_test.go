package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// command runs the program as main does, without a process.
func command(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(ctx, args, environment{lookup: func(string) (string, bool) { return "", false }, stdin: strings.NewReader(""), stdout: &out, stderr: &errs})
	return code, out.String(), errs.String()
}

func TestDemoGoesAsToldThroughThePublicAPIAlone(t *testing.T) {
	code, out, errs := command(t.Context(), "demo")
	if code != exitDone || strings.Contains(out, "NO ") || !strings.Contains(out, "went as told") {
		t.Fatalf("exit %d\n%s\n%s", code, out, errs)
	}
	for _, told := range []string{"Acme Water: a building", "Brook Energy: a building", "200 an empty answer"} {
		if !strings.Contains(out, told) {
			t.Errorf("not told: %s\n%s", told, out)
		}
	}
	if strings.Contains(out, "\x1b[") {
		t.Error("there is colour where no terminal is")
	}
}

func TestWrongUsageSaysWhatToDo(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"serv"}, exitUsage, "serve"},
		{[]string{"--set", "lisen=127.0.0.1:1", "config", "check"}, exitNo, `did you mean "listen"?`},
		{[]string{"--set", "listen=0.0.0.0:8080", "config", "check"}, exitNo, "is not loopback and has no TLS"},
		{[]string{"--set", "tls_cert_file=x", "config", "check"}, exitNo, "belong together"},
		{[]string{"--set", "docs=maybe", "config", "check"}, exitNo, "want one of true, false"},
		{[]string{"audit", "key", "dev_x"}, exitUsage, "ten_"},
		{[]string{"audit", "verify", "nothing.tar"}, exitFail, "--policy"},
	} {
		code, out, errs := command(t.Context(), c.args...)
		if code != c.code || !strings.Contains(out+errs, c.want) {
			t.Errorf("%v: exit %d, want %d and %q\n%s%s", c.args, code, c.code, c.want, out, errs)
		}
	}
}

func TestSettingsComeFromFileEnvironmentAndFlagsInThatOrder(t *testing.T) {
	dir := t.TempDir()
	file, secret := filepath.Join(dir, "r.yaml"), filepath.Join(dir, "public")
	for name, text := range map[string]string{file: "docs: \"false\"\nlog_level: warn\ndevices: \"7\"\n", secret: "https://iot.example.com\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	vars := map[string]string{"RINGFENCE_LOG_LEVEL": "error", "RINGFENCE_DEVICES": "8", "RINGFENCE_PUBLIC_URL_FILE": secret}
	env := environment{lookup: func(k string) (string, bool) { v, ok := vars[k]; return v, ok }}
	c, err := loadConfig(file, []string{"devices=9"}, env)
	if err != nil {
		t.Fatal(err)
	}
	if c.flag("docs") || c.str("log_level") != "error" || c.num("devices") != 9 || c.str("public_url") != "https://iot.example.com" {
		t.Fatalf("%v", c.Shown())
	}
}

func TestWeakOrOpenKeysAreRefusedAtStart(t *testing.T) {
	dir := t.TempDir()
	keys := filepath.Join(dir, "keys")
	if err := os.MkdirAll(keys, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{"Y2hhbmdlbWVjaGFuZ2VtZWNoYW5nZW1lY2hhbmdlbWU=": 0o600, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=": 0o600, "c2hvcnQ=": 0o600, "not base64": 0o600, "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=": 0o644} {
		if err := os.WriteFile(filepath.Join(keys, "seal-0001.key"), []byte(name), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(keys, "seal-0001.key"), mode); err != nil {
			t.Fatal(err)
		}
		code, _, errs := command(t.Context(), "--set", "data="+dir, "--set", "listen=127.0.0.1:0", "--set", "metrics_listen=", "serve")
		if code != exitFail || !strings.Contains(errs, "keys:") {
			t.Errorf("%q: exit %d\n%s", name, code, errs)
		}
	}
}
