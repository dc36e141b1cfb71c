package deploy_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// instructions of a container file, one a line.
func instructions(text string) [][]string {
	var out [][]string
	text = regexp.MustCompile(`\\\n`).ReplaceAllString(text, " ")
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) > 0 && !strings.HasPrefix(fields[0], "#") {
			out = append(out, fields)
		}
	}
	return out
}

// wrongFile is what is wrong with a container file.
func wrongFile(text string, commands []string) (wrong []string) {
	user, base, stages := "", "", 0
	var built []string
	said := map[string]bool{}
	for _, f := range instructions(text) {
		line := strings.Join(f, " ")
		switch f[0] {
		case "FROM":
			stages++
			user, base = "", f[1]
			if strings.HasSuffix(f[1], ":latest") || f[1] != "scratch" && !strings.ContainsAny(f[1], ":@") {
				wrong = append(wrong, line+": which version?")
			}
		case "ADD":
			wrong = append(wrong, line+": ADD fetches and unpacks; COPY does neither")
		case "USER":
			user = f[1]
		case "RUN":
			if base == "scratch" {
				wrong = append(wrong, line+": there is nothing to run")
			}
			if regexp.MustCompile(`\b(curl|wget|apt-get|git clone)\b`).MatchString(line) {
				wrong = append(wrong, line+": what it brings is in no checksum")
			}
			if strings.Contains(line, "go build") {
				if !strings.Contains(line, "-trimpath") {
					wrong = append(wrong, line+": without -trimpath")
				}
				for _, word := range f {
					if name, ok := strings.CutPrefix(word, "./cmd/"); ok {
						built = append(built, name)
					}
				}
			}
		case "ENTRYPOINT", "CMD":
			if !strings.HasPrefix(f[1], "[") {
				wrong = append(wrong, line+": wants a shell")
			}
		case "LABEL", "ENV":
			for _, word := range f[1:] {
				name, _, _ := strings.Cut(word, "=")
				said[name] = true
			}
			if strings.Contains(line, "CGO_ENABLED=0") {
				said["static"] = true
			}
		}
	}
	if base != "scratch" || stages < 2 {
		wrong = append(wrong, "the last stage has more than what was built")
	}
	uid, gid, _ := strings.Cut(user, ":")
	for _, id := range []string{uid, gid} {
		if n, err := strconv.Atoi(id); err != nil || n == 0 {
			wrong = append(wrong, "USER "+user+": want UID:GID as numbers that are not 0, which is what runAsNonRoot can judge")
			break
		}
	}
	slices.Sort(built)
	if !slices.Equal(built, commands) {
		wrong = append(wrong, "built is "+strings.Join(built, " ")+", and there is "+strings.Join(commands, " "))
	}
	for _, name := range []string{"static", "org.opencontainers.image.title", "org.opencontainers.image.licenses", "org.opencontainers.image.source", "org.opencontainers.image.version"} {
		if !said[name] {
			wrong = append(wrong, name+" is not said")
		}
	}
	return wrong
}

func TestTheImageHoldsStaticBinariesAndNobodyWhoMayAnything(t *testing.T) {
	mains, err := filepath.Glob(filepath.Join(root, "cmd", "*", "main.go"))
	if err != nil {
		t.Fatal(err)
	}
	var commands []string
	for _, m := range mains {
		commands = append(commands, filepath.Base(filepath.Dir(m)))
	}
	text := read(t, "Containerfile")
	if wrong := wrongFile(text, commands); len(wrong) > 0 {
		t.Errorf("%q", wrong)
	}
	for _, p := range []struct{ from, to, want string }{
		{"USER 65532:65532\n", "", "USER :"},
		{"USER 65532:65532", "USER 0:0", "USER 0:0"},
		{"USER 65532:65532", "USER nobody", "USER nobody"},
		{"FROM scratch", "FROM debian:12", "more than what was built"},
		{"FROM golang:1.26-bookworm", "FROM golang", "which version?"},
		{"USER 65532", "ADD https://example.com/x /x\nUSER 65532", "ADD fetches"},
		{" ./cmd/platform-api", "", "built is"},
		{" ./cmd/platform-api", " ./cmd/platform-api ./cmd/gone", "built is"},
		{"-trimpath ", "", "without -trimpath"},
		{"CGO_ENABLED=0 ", "", "static is not said"},
		{`ENTRYPOINT ["/usr/bin/ringfence"]`, "ENTRYPOINT ringfence", "wants a shell"},
		{"COPY . .", "COPY . .\nRUN curl -O https://example.com/x", "in no checksum"},
		{`org.opencontainers.image.licenses="Apache-2.0"`, `x="y"`, "licenses is not said"},
	} {
		if !strings.Contains(text, p.from) {
			t.Errorf("%q is not in the file", p.from)
		}
		same(t, p.to, wrongFile(strings.Replace(text, p.from, p.to, 1), commands), p.want)
	}
	// What is not to be in an image is not even sent to whoever builds it.
	ignored := strings.Fields(read(t, "Containerfile.dockerignore"))
	for _, name := range []string{".git", "deploy/compose/secrets", "deploy/helm/secrets"} {
		if !slices.Contains(ignored, name) {
			t.Errorf("%s is sent to the builder", name)
		}
	}
	if _, err := os.Stat(filepath.Join(root, "go.sum")); err != nil {
		t.Error(err)
	}
}
