package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/ringfence/ringfence/cmd/internal/settings"
	"github.com/ringfence/ringfence/cmd/internal/telemetry"
)

// The exit codes: done, the answer is no, wrong usage or configuration, could not go on.
const (
	exitDone  = 0
	exitNo    = 1
	exitUsage = 2
	exitFail  = 3
)

// commands are those of every node.
type commands struct {
	Config string   `help:"Configuration file." placeholder:"ringfence.yaml" type:"path"`
	Set    []string `help:"A setting, as KEY=VALUE; stands above the file and the environment. Secrets are not taken here." placeholder:"KEY=VALUE" sep:"none"`

	Serve struct{} `cmd:"" default:"1" help:"Work until told to stop."`
	Conf  struct {
		Check struct {
			JSON bool `name:"json" help:"One JSON document, for machines."`
		} `cmd:"" help:"Say what is wrong with the configuration, and show the one in effect, less its secrets."`
	} `cmd:"" name:"config" help:"Look at the configuration."`
	Version struct {
		JSON bool `name:"json" help:"One JSON document, for machines."`
	} `cmd:"" help:"Print the version."`
}

// Main is main without the process: it answers the exit code.
func Main(ctx context.Context, spec Spec, args []string, env settings.Environment, stdout, stderr io.Writer) int {
	var k commands
	exited, code := false, 0
	options := []kong.Option{kong.Name(spec.Name), kong.Description(spec.About), kong.Writers(stdout, stderr), kong.Exit(func(n int) { exited, code = true, n }), kong.UsageOnError()}
	for _, more := range spec.Commands {
		options = append(options, kong.DynamicCommand(more.Name, more.Help, "", more.Run))
	}
	parser, err := kong.New(&k, options...)
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "%s: %v\n", spec.Name, err)
		return exitFail
	}
	parsed, err := parser.Parse(args)
	if exited {
		return code
	}
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "%s: %v\nTry: %s --help\n", spec.Name, err, spec.Name)
		return exitUsage
	}
	table := slices.Concat(Settings(), spec.Table, telemetry.Settings(), settings.Limits())
	if parsed.Command() == "version" {
		if k.Version.JSON {
			_ = json.NewEncoder(stdout).Encode(map[string]string{"version": Version()})
		} else {
			_, _ = fmt.Fprintf(stdout, "%s %s\n", spec.Name, Version())
		}
		return exitDone
	}
	c, err := load(spec, table, k.Config, k.Set, env)
	if parsed.Command() == "config check" {
		return check(c, table, err, k.Conf.Check.JSON, stdout, stderr)
	}
	if err == nil {
		var level slog.Level
		if err = level.UnmarshalText([]byte(c.Str("log_level"))); err == nil {
			log := telemetry.Log(stderr, level)
			if parsed.Command() == "serve" {
				err = run(ctx, spec, c, log)
			} else {
				parsed.BindTo(ctx, (*context.Context)(nil))
				err = parsed.Run(opener(spec, c, log))
			}
		}
	}
	switch {
	case err == nil || ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return exitDone
	case errors.Is(err, settings.Err):
		code = exitUsage
	default:
		code = exitFail
	}
	_, _ = fmt.Fprintf(stderr, "%s: %v\n", spec.Name, err)
	return code
}

func load(spec Spec, table settings.Table, file string, flags []string, env settings.Environment) (settings.Config, error) {
	c, wrong, err := table.Load(file, flags, env)
	if err != nil {
		return c, err
	}
	wrong = append(wrong, Together(c)...)
	if spec.Together != nil {
		wrong = append(wrong, spec.Together(c)...)
	}
	wrong = append(wrong, telemetry.Together(c)...)
	if err := telemetry.Files(c); err != nil {
		wrong = append(wrong, err)
	}
	if _, err := KafkaTLS(c); err != nil {
		wrong = append(wrong, err)
	}
	return c, settings.All(wrong)
}

// check tells what is wrong, or what is in effect.
func check(c settings.Config, table settings.Table, err error, asJSON bool, stdout, stderr io.Writer) int {
	found := struct {
		Good     bool              `json:"good"`
		Problems []string          `json:"problems"`
		Settings map[string]string `json:"settings"`
	}{err == nil, []string{}, c.Shown()}
	if err != nil {
		found.Problems = strings.Split(strings.TrimPrefix(err.Error(), settings.Err.Error()+": "), "\n")
		_, _ = fmt.Fprintln(stderr, err)
	}
	if asJSON {
		_ = json.NewEncoder(stdout).Encode(found)
	} else {
		for _, s := range table {
			_, _ = fmt.Fprintf(stdout, "%s: %s\n", s.Key, c.Redacted(s.Key))
		}
		if err == nil {
			_, _ = fmt.Fprintln(stdout, "# the configuration is good")
		}
	}
	if err != nil {
		return exitNo
	}
	return exitDone
}
