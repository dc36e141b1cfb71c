package archtest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// Binaries are the folders of the module's commands, such as "cmd/ringfence".
func Binaries(ctx context.Context, dir string) ([]string, error) {
	return golist(ctx, dir, "{{if eq .Name \"main\"}}{{.ImportPath}}{{end}}", "./cmd/...")
}

// Modules are the modules, with their versions, that a package links when it is built as we ship it (linux/amd64, no cgo),
// less the module itself.
func Modules(ctx context.Context, dir, pkg string) ([]string, error) {
	return golist(ctx, dir, "{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}}{{end}}{{end}}", "-deps", pkg)
}

func golist(ctx context.Context, dir, format string, args ...string) ([]string, error) {
	cmd := exec.CommandContext(ctx, "go", slices.Concat([]string{"list", "-f", format}, args)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=readonly", "GOWORK=off", "GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list %v: %w: %s", args, err, &stderr)
	}
	lines := slices.DeleteFunc(strings.Split(string(out), "\n"), func(l string) bool { return l == "" })
	slices.Sort(lines)
	return slices.Compact(lines), nil
}
