package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/ringfence/ringfence/adapters/auditverify"
	"github.com/ringfence/ringfence/cmd/internal/node"
)

// environment is what a command has of the outside, so that tests drive the same run as main.
type environment struct {
	lookup func(string) (string, bool)
	names  func() []string // of all variables; nil: there are none
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
}

// The exit codes: done, the answer is no, wrong usage, could not find out.
const (
	exitDone  = 0
	exitNo    = 1
	exitUsage = 2
	exitFail  = 3
)

// errNo is the answer no: it was told already.
var errNo = errors.New("no")

type commands struct {
	Config string   `help:"Configuration file." placeholder:"ringfence.yaml" type:"path"`
	Set    []string `help:"A setting, as KEY=VALUE; stands above the file and the environment." placeholder:"KEY=VALUE" sep:"none"`

	Serve serveCmd `cmd:"" example:"ringfence serve --config ringfence.yaml" help:"Run the server."`
	Setup setupCmd `cmd:"" example:"ringfence setup 'http://127.0.0.1:8080/setup?token=rf_set_…' --email ana@acme.example --name Ana" help:"Become the platform's administrator by the link that the server printed."`
	Demo  demoCmd  `cmd:"" example:"ringfence demo" help:"See it work: a server in a temporary folder, two tenants, an attack, and the audit log verified."`
	Conf  struct {
		Check checkCmd `cmd:"" example:"ringfence config check --set listen=0.0.0.0:8443" help:"Say what is wrong with the configuration, and show the one in effect, less its secrets."`
		Show  showCmd  `cmd:"" example:"ringfence config show --defaults" help:"Show the settings in effect; secrets are never settings."`
	} `cmd:"" example:"ringfence config check" name:"config" help:"Look at the configuration."`
	Audit struct {
		Verify verifyCmd `cmd:"" example:"ringfence audit verify audit.tar --policy policy.txt" help:"Check an exported bundle or a receipt; the same as audit-verify." passthrough:""`
		Export exportCmd `cmd:"" example:"ringfence audit export platform --server https://iot.example.com -o audit.tar" help:"Get a tenant's whole log from a server, as a bundle."`
		Prove  proveCmd  `cmd:"" example:"ringfence audit prove ten_06ethoo0000000000000000000 42 > 42.proof" help:"Get the receipt of one entry from a server."`
		Hash   hashCmd   `cmd:"" example:"ringfence audit hash < address.txt" help:"Print what failed sign-ins of a name hold of it in the platform's log, to look for them."`
		Key    keyCmd    `cmd:"" example:"ringfence audit key platform > policy.txt" help:"Print the policy file of a tenant's log, which verifiers need."`
	} `cmd:"" example:"ringfence audit verify audit.tar --policy policy.txt" help:"The audit log."`
	Decoder struct {
		Test  decoderTestCmd  `cmd:"" example:"ringfence decoder test ./codecs" help:"Run decoders against their test vectors and show what differs."`
		Bench decoderBenchCmd `cmd:"" example:"ringfence decoder bench ./codecs --for 10s" help:"Measure decodes per second, each in a memory image of its own."`
	} `cmd:"" example:"ringfence decoder test ./codecs" help:"Decoders on this machine, without a server."`
	Admin struct {
		Reset resetCmd `cmd:"" example:"ringfence admin reset ana@acme.example" help:"Make a link that sets a person's password, on the host."`
	} `cmd:"" example:"ringfence admin reset ana@acme.example" help:"What only the host may do. The server may run meanwhile."`
	Argon2 struct {
		Calibrate calibrateCmd `cmd:"" example:"ringfence argon2 calibrate --for 100ms" help:"Measure what a sign-in costs on this machine and print settings that take about as long as is wanted. Changes nothing."`
	} `cmd:"" example:"ringfence argon2 calibrate" name:"argon2" help:"The hashing of passwords."`
	Migrate struct {
		Up     upCmd     `cmd:"" example:"ringfence migrate up --url-file owner.url" help:"Bring the schema up to date. Only one process does at a time; the others wait."`
		Status statusCmd `cmd:"" example:"ringfence migrate status --url-file owner.url" help:"Say which migrations the database has seen."`
		Roles  rolesCmd  `cmd:"" example:"ringfence migrate roles | psql postgres" help:"Print what makes the roles, for an administrator of the cluster to run once."`
	} `cmd:"" example:"ringfence migrate status --url-file owner.url" help:"The schema of a PostgreSQL database. SQLite's is kept by the server."`
	Keys struct {
		Init keysInitCmd `cmd:"" example:"ringfence keys init keys --event-worker keys-event-worker" help:"Make the keys of a new deployment, once, and say which process is given which."`
	} `cmd:"" example:"ringfence keys init keys" help:"The keys of a scaled-out deployment. The single server makes its own."`
	Maintain maintainCmd `cmd:"" example:"ringfence maintain --url-file owner.url --retention-url-file retention.url --loop" help:"Prepare a PostgreSQL database for the days to come and drop what it has kept for long enough. Any number may run at once."`
	Kafka    struct {
		Topics kafkaTopicsCmd `cmd:"" example:"ringfence kafka topics --brokers kafka-0:9092 --ca-file ca.pem --admin admin --password-file admin.password --user event-worker=events --apply" help:"Make the topics of a scaled-out deployment and the rights on them, or show what is to be made."`
	} `cmd:"" example:"ringfence kafka topics --brokers kafka-0:9092 --ca-file ca.pem --admin admin --password-file admin.password" help:"The Kafka of a scaled-out deployment, for an administrator of it."`
	DeadLetters struct {
		List   deadListCmd   `cmd:"" example:"ringfence dead-letters list --server https://iot.example.com --reason no_tenant" help:"List what nothing could be made of, oldest first: what each says of itself, and nothing of what it holds."`
		Replay deadReplayCmd `cmd:"" example:"ringfence dead-letters replay 3-1207 --server https://iot.example.com" help:"Put dead letters back on their way, once what was wrong is mended. All checks are run again; twice does no harm."`
	} `cmd:"" example:"ringfence dead-letters list --server https://iot.example.com" name:"dead-letters" help:"The dead letters of a scaled-out deployment, through its API."`
	Doctor     doctorCmd     `cmd:"" example:"ringfence doctor --profile p1 --server https://iot.example.com --token-file token --url-file runtime.url" help:"Look at a running deployment and say what of the hardening list does not hold, with what to do. Changes nothing."`
	Completion completionCmd `cmd:"" example:"ringfence completion bash > /etc/bash_completion.d/ringfence" help:"Print a script that completes commands and flags in a shell."`
	Version    versionCmd    `cmd:"" example:"ringfence version" help:"Print the version."`
}

const example = `ringfence demo    see it work, in twenty seconds
  ringfence serve   run it: 127.0.0.1:8080, data in ./data`

// help begins with an example: that of the command, or of the program.
func help(options kong.HelpOptions, ctx *kong.Context) error {
	text := example
	if n := ctx.Selected(); n != nil {
		text = n.Tag.Get("example")
	}
	if _, err := fmt.Fprintf(ctx.Stdout, "For example:\n\n  %s\n\n", text); err != nil {
		return err
	}
	return kong.DefaultHelpPrinter(options, ctx)
}

// run is main without the process: it answers the exit code.
func run(ctx context.Context, args []string, env environment) int {
	var c commands
	exited, code := false, 0
	parser, err := kong.New(&c, kong.Name("ringfence"), kong.Help(help), kong.Writers(env.stdout, env.stderr),
		kong.Exit(func(n int) { exited, code = true, n }), kong.UsageOnError(), kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(env, &c))
	if err != nil {
		fmt.Fprintln(env.stderr, "ringfence:", err)
		return exitFail
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args)
	if exited {
		return code
	}
	if err != nil {
		fmt.Fprintf(env.stderr, "ringfence: %v\nTry: ringfence --help\n", err)
		return exitUsage
	}
	switch err := parsed.Run(); {
	case err == nil:
		return exitDone
	case errors.Is(err, errNo):
		return exitNo
	case errors.Is(err, errConfig):
		fmt.Fprintln(env.stderr, "ringfence:", err)
		return exitUsage
	default:
		fmt.Fprintln(env.stderr, "ringfence:", err)
		return exitFail
	}
}

func (c *commands) load(env environment) (config, error) { return loadConfig(c.Config, c.Set, env) }

// machine is a command whose output may be one document.
type machine struct {
	JSON bool `name:"json" help:"One JSON document, for machines."`
}

// say writes what a command found: a text for people, or a document.
func (m machine) say(env environment, text string, document any) (err error) {
	if m.JSON {
		e := json.NewEncoder(env.stdout)
		e.SetEscapeHTML(false) // links stay links
		return e.Encode(document)
	}
	_, err = io.WriteString(env.stdout, text)
	return err
}

type checkCmd struct{ machine }

// Run tells what is wrong, and what is in effect: where something is wrong, without that.
func (k checkCmd) Run(c *commands, env environment) error {
	conf, err := c.load(env)
	if err == nil {
		err = conf.judge()
	}
	found := struct {
		Good     bool              `json:"good"`
		Problems []string          `json:"problems"`
		Settings map[string]string `json:"settings"`
	}{err == nil, []string{}, conf.Shown()}
	var text strings.Builder
	for _, s := range table {
		fmt.Fprintf(&text, "%s: %s\n", s.Key, quoteYAML(conf.Redacted(s.Key)))
	}
	if found.Good {
		text.WriteString("# the configuration is good\n")
		return k.say(env, text.String(), found)
	}
	fmt.Fprintln(env.stderr, err)
	found.Problems = strings.Split(strings.TrimPrefix(err.Error(), errConfig.Error()+": "), "\n")
	if err := k.say(env, text.String(), found); err != nil {
		return err
	}
	return errNo
}

type showCmd struct {
	Defaults bool `help:"The defaults, whatever is set."`
	Markdown bool `help:"As the README's table." xor:"form"`
	JSON     bool `name:"json" help:"One JSON document, for machines." xor:"form"`
}

func (s showCmd) Run(c *commands, env environment) error {
	conf := config{table.Defaults()}
	if !s.Defaults {
		var err error
		if conf, err = c.load(env); err != nil {
			return err
		}
	}
	if s.JSON {
		return json.NewEncoder(env.stdout).Encode(conf.Shown())
	}
	if s.Markdown {
		fmt.Fprintln(env.stdout, "| setting | default | what it is |\n|---|---|---|")
	}
	for _, st := range table {
		if s.Markdown {
			fmt.Fprintf(env.stdout, "| `%s` | `%s` | %s |\n", st.Key, conf.Redacted(st.Key), st.Doc)
		} else {
			fmt.Fprintf(env.stdout, "# %s\n%s: %s\n", st.Doc, st.Key, quoteYAML(conf.Redacted(st.Key)))
		}
	}
	return nil
}

// exit turns an exit code into what run makes of it.
func exit(code int) error {
	switch code {
	case exitDone:
		return nil
	case exitNo:
		return errNo
	case exitUsage:
		return fmt.Errorf("%w: see the usage above", errConfig)
	default:
		return errors.New("could not find out")
	}
}

type verifyCmd struct {
	Args []string `arg:"" optional:"" help:"As audit-verify takes them."`
}

func (v verifyCmd) Run(env environment) error {
	code := auditverify.Main(v.Args, env.stdin, env.stdout, env.stderr)
	return exit(code)
}

type versionCmd struct{ machine }

func (v versionCmd) Run(env environment) error {
	return v.say(env, "ringfence "+version()+"\n", map[string]string{"version": version()})
}

func version() string { return node.Version() }

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func quoteYAML(s string) string {
	if s == "" || strings.ContainsAny(s, ":#{}[],&*!|>'\"%@`") {
		return `"` + strings.ReplaceAll(s, `"`, `\"`) + `"`
	}
	return s
}
