package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ringfence/ringfence/adapters/kafkabus"
	"github.com/ringfence/ringfence/cmd/internal/settings"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/ports/bus"
)

// kafkaTopicsCmd prepares a Kafka as an administrator of it, whose credential no service has.
type kafkaTopicsCmd struct {
	machine
	Brokers      []string          `help:"Kafka's addresses, HOST:PORT." required:"" placeholder:"HOST:PORT"`
	Admin        string            `help:"The administrator's name for SASL/SCRAM-SHA-512." placeholder:"NAME"`
	PasswordFile string            `name:"password-file" type:"path" help:"File with the administrator's password." placeholder:"FILE"`
	CAFile       string            `name:"ca-file" type:"path" help:"Certificates that Kafka's is verified by, PEM; TLS is used if it is given." placeholder:"FILE"`
	CertFile     string            `name:"cert-file" type:"path" help:"Client certificate for Kafka, PEM; TLS is used if it is given." placeholder:"FILE"`
	KeyFile      string            `name:"key-file" type:"path" help:"Its key, PEM." placeholder:"FILE"`
	TLS          bool              `name:"tls" help:"Use TLS, verified by the system's certificates."`
	Plaintext    bool              `help:"Allow a Kafka without TLS that is not on this machine."`
	Prefix       string            `help:"What the names of our topics begin with." default:"rf"`
	Partitions   int               `help:"Of the topics of events; never lowered. 0: as there are; 12 in a new Kafka."`
	Replicas     int               `help:"Of each partition. 0: as there are; 3 in a new Kafka."`
	InSync       int               `name:"in-sync" help:"Replicas that a record must be on before it is acknowledged. 0: as it is if that is all or all but one, else all but one."`
	Days         int               `help:"How long events are kept, by time and never by size; 7 at least. 0: as it is if that is longer, else 7."`
	User         map[string]string `help:"As whom a binary signs in: platform-api=NAME, mqtt-ingestion-worker=NAME, event-worker=NAME." placeholder:"BINARY=NAME"`
	Consumer     map[string]string `help:"A tenant that wants its decoded events, and as whom its own consumer signs in; it gets a topic of its own." placeholder:"TENANT=NAME"`
	Apply        bool              `help:"Do what is shown." xor:"do"`
	TakeAway     bool              `name:"take-away" help:"Also take rights away that the table does not have. What a tenant's consumer or a binary was given earlier stays if --consumer and --user do not name it: --former takes it away."`
	Former       []string          `help:"A Kafka user who was a tenant's consumer or a binary's, and is not any more: take away what it may do with our topics and groups." placeholder:"NAME"`
	Accept       []string          `help:"Go on although this topic was made anew, has fewer partitions, or lost what was not read. The workers must be stopped." xor:"do" placeholder:"TOPIC"`
}

// Run shows what there is to do, or does it. The exit code is 1 if there is something to do that was not done.
func (k kafkaTopicsCmd) Run(ctx context.Context, env environment) error {
	layout, err := k.layout()
	if err != nil {
		return err
	}
	o := kafkabus.Options{Brokers: k.Brokers, ClientID: "ringfence", User: k.Admin, RequireTLS: !k.Plaintext, Expected: kafkabus.ExpectedTopic(k.Prefix)}
	if k.Admin != "" {
		if k.PasswordFile == "" {
			return fmt.Errorf("%w: --admin wants --password-file", errConfig)
		}
		if o.Password, err = secretFrom(env, k.PasswordFile, ""); err != nil {
			return err
		}
	}
	if (k.CertFile == "") != (k.KeyFile == "") {
		return fmt.Errorf("%w: --cert-file and --key-file belong together; give both, or neither", errConfig)
	}
	if k.CAFile != "" || k.CertFile != "" || k.TLS {
		if o.TLS, err = settings.TLS(k.CAFile, k.CertFile, k.KeyFile); err != nil {
			return err
		}
	}
	b, err := kafkabus.Open(o)
	if err != nil {
		return err
	}
	defer func() { _ = b.Close() }()
	if len(k.Accept) > 0 {
		return k.accept(ctx, env, b)
	}
	var plan kafkabus.Plan
	if k.Apply {
		plan, err = b.Apply(ctx, layout)
	} else {
		plan, err = b.Plan(ctx, layout)
	}
	found := struct {
		Applied bool     `json:"applied"`
		Steps   []string `json:"steps"`
		Notes   []string `json:"notes"`
	}{k.Apply, []string{}, []string{}}
	var text strings.Builder
	for _, s := range plan.Steps {
		found.Steps = append(found.Steps, s.String())
		_, _ = fmt.Fprintln(&text, s)
	}
	for _, s := range plan.Notes {
		found.Notes = append(found.Notes, s.String())
		_, _ = fmt.Fprintln(&text, "note:", s)
	}
	if k.TakeAway && slices.ContainsFunc(plan.Notes, func(s kafkabus.Step) bool { return s.Do == kafkabus.Unnamed }) {
		_, _ = fmt.Fprintln(env.stderr, "what users may who are not named was left to them; name them by --consumer or --user, or by --former to take it away")
	}
	if err == nil && plan.Done() {
		_, _ = fmt.Fprintln(&text, "nothing to do")
	}
	err = errors.Join(err, k.say(env, text.String(), found))
	if err == nil && !k.Apply && !plan.Done() {
		_, _ = fmt.Fprintln(env.stderr, "nothing was done; --apply does it")
		return errNo
	}
	return err
}

func (k kafkaTopicsCmd) layout() (kafkabus.Layout, error) {
	l := kafkabus.Layout{TakeAway: k.TakeAway, Former: k.Former, Prefix: k.Prefix, Partitions: k.Partitions, Replicas: k.Replicas, InSync: k.InSync, Retention: time.Duration(k.Days) * 24 * time.Hour,
		Users: map[kafkabus.Who]string{}, Consumers: map[ident.Tenant]string{}}
	for who, user := range k.User {
		if _, ok := kafkabus.Table()[kafkabus.Who(who)]; !ok || kafkabus.Who(who) == kafkabus.Consumer {
			return l, fmt.Errorf("%w: --user: there is no binary %q; there are platform-api, mqtt-ingestion-worker and event-worker", errConfig, who)
		}
		l.Users[kafkabus.Who(who)] = user
	}
	for _, id := range slices.Sorted(maps.Keys(k.Consumer)) {
		t, err := ident.ParseTenant(id)
		if err != nil {
			return l, fmt.Errorf("%w: --consumer: want the id of a tenant, ten_ and 26 characters", errConfig)
		}
		l.Tenants, l.Consumers[t] = append(l.Tenants, t), k.Consumer[id]
	}
	return l, nil
}

func (k kafkaTopicsCmd) accept(ctx context.Context, env environment, b *kafkabus.Bus) error {
	names := bus.TopicsUnder(k.Prefix)
	for _, topic := range k.Accept {
		if topic != names.Uplinks && topic != names.Later && topic != names.Dead && !strings.HasPrefix(topic, k.Prefix+".out.") {
			return fmt.Errorf("%w: --accept: %s is none of our topics", errConfig, topic)
		}
	}
	done, err := b.Accept(ctx, k.Accept...)
	if err != nil {
		return err
	}
	var text strings.Builder
	found := []map[string]any{}
	for _, a := range done {
		found = append(found, map[string]any{"topic": a.Topic, "anew": a.Anew, "marks_moved": len(a.Groups)})
		_, _ = fmt.Fprintf(&text, "%s is accepted as it is now; %d marks were moved to the oldest record kept\n", a.Topic, len(a.Groups))
	}
	return k.say(env, text.String(), map[string]any{"accepted": found})
}
