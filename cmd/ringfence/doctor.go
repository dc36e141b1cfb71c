package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/ringfence/ringfence/adapters/sqlstore/postgres"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/secret"
)

// doctorCmd looks at a running deployment as its operator, and changes nothing.
type doctorCmd struct {
	remote
	machine
	Profile       string   `help:"p0: what every deployment needs; p1: and a professional one; p2: and one with high demands." enum:"p0,p1,p2" default:"p0"`
	Listener      []string `help:"Another address that is open to the public and must speak TLS, such as a broker's." placeholder:"HOST:PORT"`
	Tenant        []string `help:"Look at this tenant; else at those where whoever asks is a member." placeholder:"TENANT"`
	BreakGlass    []string `name:"break-glass" help:"A person who may hold rights directly, for emergencies." placeholder:"PERSON"`
	KeyDays       int      `name:"key-days" help:"How old a key or token may be." default:"90" placeholder:"DAYS"`
	IngestKeyFile string   `name:"ingest-key-file" help:"File with an ingestion key, to see its limits; no event is sent." type:"path" placeholder:"FILE"`
	URLFile       string   `name:"url-file" help:"File with the database's URL, as any of its roles signs in; else RINGFENCE_DATABASE_URL has it." type:"path" placeholder:"FILE"`
	Policy        string   `help:"File with the policy of the first tenant's log, as audit key prints it, or platform-api audit-key." type:"path" placeholder:"FILE"`
	Database      string   `help:"Address of PostgreSQL." placeholder:"HOST:PORT"`
	Kafka         []string `help:"Addresses of Kafka." placeholder:"HOST:PORT"`
	Broker        []string `help:"Addresses of the MQTT brokers that workers connect to." placeholder:"HOST:PORT"`
	Foreign       bool     `help:"This runs where neither database nor Kafka nor broker may be reached, such as in a pod of somebody else."`
}

// The states of a row. Yellow is what could not be looked at, or is not there in this version: it is never green.
const (
	green  = "green"
	yellow = "yellow"
	red    = "red"
)

// finding is a row of the hardening list as it was found.
type finding struct {
	ID     string `json:"id"`
	Title  string `json:"title"`
	State  string `json:"state"`
	Seen   string `json:"seen"`
	Remedy string `json:"remedy"`
}

// found is what a check saw.
func found(state, seen, remedy string) finding {
	return finding{State: state, Seen: seen, Remedy: remedy}
}

// missing is a row that this version has nothing for.
func missing(remedy string) func(context.Context) finding {
	return func(context.Context) finding { return found(yellow, "not available in this version", remedy) }
}

// row is one of the hardening list.
type row struct {
	id, profile, title string
	look               func(context.Context) finding
}

func (k doctorCmd) rows(env environment) []row {
	url, err := secretFrom(env, k.URLFile, databaseVariable)
	api := &examined{doctorCmd: k, env: env}
	return []row{
		{"M66", "p0", "TLS on public endpoints", k.listeners},
		{"M67", "p0", "Least privilege, given to groups", api.rights},
		{"M68", "p0", "API keys are rotated", api.keys},
		{"M69", "p0", "Tenant-scoped tables and indexes", func(ctx context.Context) finding { return wall(ctx, url, err) }},
		{"M70", "p0", "Rates are limited at ingestion", api.limits},
		{"M71", "p1", "Central sign-in with a second factor", missing("Until there is single sign-on: long passwords, few people, and sessions that are looked at (/v1/me/sessions).")},
		{"M72", "p1", "Database and bus behind network policy", func(ctx context.Context) finding { return k.network(ctx, url) }},
		{"M73", "p1", "Backups, and restores that were tried", missing("Until there is a tool for it: pg_dump as ringfence_backup, encrypted, with a copy of the keys elsewhere; and restore it, now and then.")},
		{"M74", "p1", "An audit log that nobody can change unseen", api.log},
		{"M75", "p2", "Internal listeners want a certificate", func(ctx context.Context) finding { return k.internal(ctx, url) }},
		{"M76", "p2", "A deployment per tenant", missing("Until there is a single-tenant mode: install one deployment a tenant, with database, topics (kafka.prefix) and keys of its own.")},
	}
}

// Run looks at the rows of a profile and of those before it; the exit code is 1 if one is red.
func (k doctorCmd) Run(ctx context.Context, env environment) error {
	if k.KeyDays < 1 {
		return fmt.Errorf("%w: --key-days wants a number of days", errConfig)
	}
	report := struct {
		Profile string    `json:"profile"`
		Good    bool      `json:"good"`
		Rows    []finding `json:"rows"`
	}{k.Profile, true, nil}
	var text strings.Builder
	for _, r := range k.rows(env) {
		if r.profile > k.Profile {
			continue
		}
		within, end := context.WithTimeout(ctx, 2*time.Minute)
		f := r.look(within)
		end()
		f.ID, f.Title = r.id, r.title
		report.Good = report.Good && f.State != red
		report.Rows = append(report.Rows, f)
		fmt.Fprintf(&text, "%s  %-6s  %s: %s\n", f.ID, f.State, f.Title, f.Seen)
		if f.State != green && f.Remedy != "" {
			fmt.Fprintf(&text, "             → %s\n", f.Remedy)
		}
	}
	if err := k.say(env, text.String(), report); err != nil {
		return err
	}
	if !report.Good {
		return errNo
	}
	return nil
}

// wall looks at what the database says of its tables.
func wall(ctx context.Context, url secret.Text, err error) finding {
	const who = "Give the database's URL by --url-file."
	switch {
	case err != nil:
		return found(yellow, "the database's URL could not be read: "+err.Error(), who)
	case url.IsZero():
		return found(yellow, "not looked at: no database was named (SQLite has no policies; there the predicates stand alone)", who)
	}
	flaws, err := postgres.Flaws(ctx, url)
	switch {
	case err != nil:
		return found(yellow, "the database could not be asked: "+fault.Cause(err), who)
	case len(flaws) > 0:
		return found(red, some(flaws), "Undo it as ringfence_owner; the migrations made the schema without it. If a table is yours, put it into another database.")
	}
	return found(green, "every table has a tenant first in each key, and forced row-level security with the one policy; no role may more than its own", "")
}

// some are the first of many, and how many more there are.
func some(all []string) string {
	const most = 10
	if len(all) <= most {
		return strings.Join(all, "; ")
	}
	return fmt.Sprintf("%s; and %d more", strings.Join(all[:most], "; "), len(all)-most)
}
