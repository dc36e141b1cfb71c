package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/ringfence/ringfence/adapters/sqlstore/postgres"
	"github.com/ringfence/ringfence/core/secret"
)

// retentionVariable holds the URL of a database as ringfence_retention signs in to it.
const retentionVariable = "RINGFENCE_RETENTION_URL"

// maintainEvery is how often --loop works, and how soon it tries again what failed.
const (
	maintainEvery = time.Hour
	maintainAgain = time.Minute
)

type maintainCmd struct {
	owned
	RetentionURLFile string `name:"retention-url-file" type:"path" help:"File with the database's URL as ringfence_retention signs in; else RINGFENCE_RETENTION_URL has it. Without either nothing is dropped." placeholder:"FILE"`
	ReadingsDays     int    `name:"readings-days" default:"400" help:"How many days readings are kept: two more than uplinks at least." placeholder:"DAYS"`
	UplinksDays      int    `name:"uplinks-days" default:"390" help:"How many days uplinks and their outcomes are kept: 30 or more." placeholder:"DAYS"`
	Loop             bool   `help:"Go on for ever, once an hour."`
	Check            bool   `help:"Change nothing; say how far ahead partitions are there. Exit code 1 below two days."`
}

// maintained is what one round did and found.
type maintained struct {
	Made    []string            `json:"made"`
	Dropped []string            `json:"dropped"`
	Now     postgres.Partitions `json:"partitions"`
	Alarm   string              `json:"alarm,omitempty"`
}

// Run prepares the days to come and drops those that are over. What went wrong in a round of --loop is told and tried again.
func (k maintainCmd) Run(ctx context.Context, env environment) error {
	url, err := k.url(env)
	if err != nil {
		return err
	}
	retention, err := secretFrom(env, k.RetentionURLFile, retentionVariable)
	if err == nil && !retention.IsZero() {
		err = k.verified(retention)
	}
	if err != nil {
		return err
	}
	keep := postgres.Kept{Uplinks: k.UplinksDays, Readings: k.ReadingsDays}
	if err := keep.Check(); err != nil {
		return fmt.Errorf("%w: %w", errConfig, err)
	}
	if !k.Loop {
		return k.round(ctx, env, url, retention, keep)
	}
	for {
		next := maintainEvery
		if err := k.round(ctx, env, url, retention, keep); err != nil && ctx.Err() == nil {
			fmt.Fprintln(env.stderr, "ringfence:", err)
			next = maintainAgain
		}
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// round makes partitions before it drops any: what cannot be written is worse than what lies too long.
func (k maintainCmd) round(ctx context.Context, env environment, url, retention secret.Text, keep postgres.Kept) error {
	now := time.Now()
	done := maintained{Made: []string{}, Dropped: []string{}}
	var failed error
	if !k.Check {
		from := now
		was, err := postgres.Partitioned(ctx, url, now)
		if err != nil {
			return err
		}
		if !was.Gap.IsZero() { // it was not run for so long: what a bus still holds of those days waits for them
			from = was.Gap
		}
		if done.Made, err = postgres.Prepare(ctx, url, from, now.AddDate(0, 0, postgres.DaysAhead)); err != nil {
			return err
		}
		if !retention.IsZero() {
			done.Dropped, failed = postgres.Expire(ctx, retention, now, keep)
		}
	}
	var err error
	if done.Now, err = postgres.Partitioned(ctx, url, now); err != nil {
		return err
	}
	done.Alarm = done.Now.Alarm()
	var text strings.Builder
	for _, part := range []struct {
		what  string
		names []string
	}{{"made", done.Made}, {"dropped", done.Dropped}} {
		for _, name := range part.names {
			fmt.Fprintf(&text, "%s  %s\n", name, part.what)
		}
	}
	fmt.Fprintf(&text, "partitions are there for %d days ahead\n", max(done.Now.Ahead, 0))
	if done.Alarm != "" {
		fmt.Fprintf(&text, "ALARM: %s\n", done.Alarm)
	}
	if err := k.say(env, text.String(), done); err != nil {
		return err
	}
	if failed != nil {
		return failed
	}
	if done.Alarm != "" {
		return errNo
	}
	return nil
}

// secretFrom is a secret that a file or a variable holds; zero if neither is named. A group may read the file: so it is given to a
// process that is not root.
func secretFrom(env environment, file, variable string) (secret.Text, error) {
	if file != "" {
		return secretOf(file, 0o027, "g-w,o-rwx")
	}
	u, _ := env.lookup(variable)
	return secret.New(strings.TrimSpace(u)), nil
}
