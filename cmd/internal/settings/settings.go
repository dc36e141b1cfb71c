// Package settings reads the configuration of our binaries: a table of what can be set, from a file, the environment and the
// command line. What the settings mean is each binary's.
package settings

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"sort"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/ringfence/ringfence/core/secret"
)

// Setting is one thing that can be configured. A table of them is the only place where it is named, described and checked:
// the documentation is made from it.
type Setting struct {
	Key, Default, Doc string
	Check             func(string) error
	Secret            bool // never shown, and never taken from the command line, which others can read
}

// Of is a setting that is no secret.
func Of(key, value, doc string, check func(string) error) Setting {
	return Setting{Key: key, Default: value, Doc: doc, Check: check}
}

// Hidden is a setting that is a secret.
func Hidden(key, doc string, check func(string) error) Setting {
	return Setting{Key: key, Doc: doc, Check: check, Secret: true}
}

// Err is the class of all that is wrong with a configuration.
var Err = errors.New("configuration")

// Prefix begins the names of our variables in the environment.
const Prefix = "RINGFENCE_"

// Environment is what is read of the process's environment.
type Environment struct {
	Lookup func(string) (string, bool)
	Names  func() []string // of all variables; nil: there are none
	Others []string        // names that mean something to the binary and are no settings
}

// Process is the process's own environment.
func Process(others ...string) Environment {
	return Environment{os.LookupEnv, EnvironNames, others}
}

// EnvironNames are the names of the process's environment.
func EnvironNames() []string {
	var names []string
	for _, line := range os.Environ() {
		name, _, _ := strings.Cut(line, "=")
		names = append(names, name)
	}
	return names
}

// Table is what one binary can be told.
type Table []Setting

// Config is the settings in effect.
type Config struct {
	table  Table
	values map[string]string
}

// Defaults are the settings when nothing is said.
func (t Table) Defaults() Config {
	c := Config{t, make(map[string]string, len(t))}
	for _, s := range t {
		c.values[s.Key] = s.Default
	}
	return c
}

// Keys are the names of all settings.
func (t Table) Keys() []string {
	out := make([]string, len(t))
	for i, s := range t {
		out[i] = s.Key
	}
	return out
}

func (t Table) index(key string) int {
	for i, s := range t {
		if s.Key == key {
			return i
		}
	}
	return -1
}

// Str is a setting's text.
func (c Config) Str(key string) string { return c.values[key] }

// Flag is a setting that is true or false.
func (c Config) Flag(key string) bool { return c.values[key] == "true" }

// Num is a number that was checked when it was read.
func (c Config) Num(key string) int {
	n, _ := strconv.Atoi(c.values[key])
	return n
}

// Secret is a setting that never prints.
func (c Config) Secret(key string) secret.Text { return secret.New(c.values[key]) }

// Redacted is a setting as it may be shown.
func (c Config) Redacted(key string) string {
	if i := c.table.index(key); i >= 0 && c.table[i].Secret && c.values[key] != "" {
		return secret.New(c.values[key]).String()
	}
	return c.values[key]
}

// Shown are all settings as they may be shown.
func (c Config) Shown() map[string]string {
	out := make(map[string]string, len(c.table))
	for _, s := range c.table {
		out[s.Key] = c.Redacted(s.Key)
	}
	return out
}

// Variable is the name of a setting in the environment.
func Variable(key string) string { return Prefix + strings.ToUpper(key) }

// variables are the names of the environment that mean something to the binary.
func (t Table) variables(others []string) []string {
	out := append([]string{"RINGFENCE_LONG", "RINGFENCE_PLANTED"}, others...) // the first two are for our tests
	for _, s := range t {
		out = append(out, Variable(s.Key))
		if t.index(s.Key+"_file") < 0 {
			out = append(out, Variable(s.Key)+"_FILE")
		}
	}
	return out
}

// serviceLink is what Kubernetes puts into every container of a namespace with services named ringfence or ringfence-…: no
// setting of ours ends so.
var serviceLink = regexp.MustCompile(`^RINGFENCE_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)

// strangers tells of each variable that looks like one of ours and is none, with the nearest one that is.
func (t Table) strangers(env Environment) (wrong []error) {
	if env.Names == nil {
		return nil
	}
	known := t.variables(env.Others)
	for _, name := range env.Names() {
		if strings.HasPrefix(name, Prefix) && !serviceLink.MatchString(name) && Nearest(name, known) != name {
			wrong = append(wrong, fmt.Errorf("environment: there is no setting %s; did you mean %s?", name, Nearest(name, known)))
		}
	}
	return wrong
}

// Load reads the file, then RINGFENCE_… from the environment (RINGFENCE_…_FILE names a file that holds the value), then the
// command line. What the settings name is not looked at. Every mistake is told at once; an unknown key is told with the nearest
// known one.
func (t Table) Load(file string, flags []string, env Environment) (Config, []error, error) {
	c := t.Defaults()
	var wrong []error
	set := func(from, key, value string) {
		i := t.index(key)
		if i < 0 {
			wrong = append(wrong, fmt.Errorf("%s: there is no setting %q; did you mean %q?", from, key, Nearest(key, t.Keys())))
			return
		}
		if err := t[i].Check(value); err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %s: %w", from, key, err))
			return
		}
		c.values[key] = value
	}
	if file == "" {
		if _, err := os.Stat("ringfence.yaml"); err == nil {
			file = "ringfence.yaml"
		}
	}
	if file != "" {
		raw, err := os.ReadFile(file) //nolint:gosec // named by the operator
		if err != nil {
			return c, nil, fmt.Errorf("%w: %w", Err, err)
		}
		var values map[string]string
		if err := yaml.Unmarshal(raw, &values); err != nil {
			return c, nil, fmt.Errorf("%w: %s: want lines of KEY: VALUE", Err, file)
		}
		for _, key := range sorted(values) {
			set(file, key, values[key])
		}
	}
	wrong = append(wrong, t.strangers(env)...)
	for _, s := range t {
		name := Variable(s.Key)
		if path, ok := env.Lookup(name + "_FILE"); ok && t.index(s.Key+"_file") < 0 {
			raw, err := os.ReadFile(path) //nolint:gosec // named by the operator
			if err != nil {
				wrong = append(wrong, err)
				continue
			}
			set(name+"_FILE", s.Key, strings.TrimSpace(string(raw)))
		} else if v, ok := env.Lookup(name); ok {
			set(name, s.Key, v)
		}
	}
	for _, f := range flags {
		key, value, ok := strings.Cut(f, "=")
		if !ok {
			wrong = append(wrong, fmt.Errorf("--set %s: want KEY=VALUE", f))
			continue
		}
		if i := t.index(key); i >= 0 && t[i].Secret {
			wrong = append(wrong, fmt.Errorf("--set %s: others can read the command line; put it into a file that %s_FILE names", key, Variable(key)))
			continue
		}
		set("--set", key, value)
	}
	return c, wrong, nil
}

// All is the error of everything that is wrong; nil if nothing is.
func All(wrong []error) error {
	if len(wrong) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %w", Err, errors.Join(wrong...))
}

func sorted(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
