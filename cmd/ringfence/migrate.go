package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ringfence/ringfence/adapters/sqlstore/postgres"
	"github.com/ringfence/ringfence/core/secret"
)

// databaseVariable holds the URL of a database, which has a password in it.
const databaseVariable = "RINGFENCE_DATABASE_URL"

// owned is a command that signs in to a database as its owner.
type owned struct {
	machine
	Plaintext bool   `help:"Allow a database that is not on this machine and that TLS does not verify."`
	URLFile   string `name:"url-file" type:"path" help:"File with the database's URL, postgres://ringfence_owner:…@host/ringfence; else RINGFENCE_DATABASE_URL has it." placeholder:"FILE"`
}

func (o owned) url(env environment) (secret.Text, error) {
	u, err := secretFrom(env, o.URLFile, databaseVariable)
	switch {
	case err != nil:
		return u, err
	case !u.IsZero():
		return u, o.verified(u)
	}
	return u, fmt.Errorf("%w: which database? Put its URL, as ringfence_owner signs in, into %s or a file named by --url-file", errConfig, databaseVariable)
}

// verified is what is wrong with the way to a database.
func (o owned) verified(url secret.Text) error {
	ok, err := postgres.Verified(url)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", errConfig, err)
	case ok || o.Plaintext:
		return nil
	}
	return fmt.Errorf("%w: the database is not on this machine and TLS does not verify it; add sslmode=verify-full to its URL, or say --plaintext if nobody else reaches that network", errConfig)
}

type upCmd struct{ owned }

// Run applies what the database has not seen, and says what it is at then.
func (k upCmd) Run(ctx context.Context, env environment) error {
	url, err := k.url(env)
	if err != nil {
		return err
	}
	if err := postgres.Migrate(ctx, url); err != nil {
		return err
	}
	return k.tell(ctx, env, url)
}

type statusCmd struct{ owned }

// Run says what the database has seen; the exit code is 1 if it is not what this program needs.
func (k statusCmd) Run(ctx context.Context, env environment) error {
	url, err := k.url(env)
	if err != nil {
		return err
	}
	return k.tell(ctx, env, url)
}

func (o owned) tell(ctx context.Context, env environment, url secret.Text) error {
	s, err := postgres.Status(ctx, url)
	if err != nil {
		return err
	}
	var text strings.Builder
	for _, part := range []struct {
		what  string
		names []string
	}{{"applied", s.Applied}, {"pending", s.Pending}, {"unknown to this program", s.Unknown}} {
		for _, name := range part.names {
			fmt.Fprintf(&text, "%s  %s\n", name, part.what)
		}
	}
	for _, name := range s.TooOld {
		fmt.Fprintf(&text, "%s  needs a newer program than this\n", name)
	}
	document := struct {
		postgres.Schema
		Alarm string `json:"alarm,omitempty"`
	}{Schema: s}
	if len(s.Pending) == 0 {
		p, err := postgres.Partitioned(ctx, url, time.Now())
		if err != nil {
			return err
		}
		if document.Alarm = p.Alarm(); document.Alarm != "" {
			fmt.Fprintf(&text, "ALARM: %s\n", document.Alarm)
		}
	}
	if err := o.say(env, text.String(), document); err != nil {
		return err
	}
	if s.Refused() != nil || document.Alarm != "" {
		return errNo
	}
	return nil
}

type rolesCmd struct{}

// Run prints the text of roles.sql.
func (rolesCmd) Run(env environment) error {
	_, err := io.WriteString(env.stdout, postgres.Roles)
	return err
}
