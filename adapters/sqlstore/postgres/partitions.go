package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/uptrace/bun"

	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/secret"
)

// How far ahead partitions are made, how few days ahead are an alarm, and how long what has a partition a day is kept at least:
// the database refuses to drop anything younger. It is well above the time that a bus keeps records which are still to be written.
const (
	DaysAhead   = 7
	AlarmBelow  = 2
	DaysBehind  = 2
	MinimumKept = 30
)

const day = 24 * time.Hour

// byDay are the tables that have a partition a day.
func byDay() []string { return []string{"uplinks", "outcomes", "readings"} }

// Kept says for how many days the database's largest tables are kept: MinimumKept or more. What an uplink that waits is to become
// needs its day, so readings are kept for some days longer.
type Kept struct {
	Uplinks  int // and their outcomes
	Readings int
}

func (k Kept) of(table string) int {
	if table == "readings" {
		return k.Readings
	}
	return k.Uplinks
}

// Check refuses what would be dropped too early.
func (k Kept) Check() error {
	for _, table := range byDay() {
		if k.of(table) < MinimumKept {
			return fmt.Errorf("%s are kept for at least %d days, not %d: what a bus still holds, and what waits for somebody's decision, needs its day", table, MinimumKept, k.of(table))
		}
	}
	if k.Readings < k.Uplinks+DaysBehind {
		return fmt.Errorf("readings are kept for at least %d days longer than uplinks (%d, %d): what becomes of one that waited needs its day", DaysBehind, k.Readings, k.Uplinks)
	}
	return nil
}

// Partitions is how a database is prepared for the days to come, and how far back its tables reach.
type Partitions struct {
	Ahead  int               `json:"days_ahead"` // whole days after today for which every table has its partition, with none missing before
	Oldest map[string]string `json:"oldest"`     // first day of each table
	Count  map[string]int    `json:"partitions"`
	Gap    time.Time         `json:"-"` // first day of the last MinimumKept that is over and missing, though there is an older one; zero: none
}

// Alarm says what is wrong; "" if nothing is.
func (p Partitions) Alarm() string {
	if p.Ahead >= AlarmBelow {
		return ""
	}
	return fmt.Sprintf("partitions are there for %d days ahead, less than %d: after that nothing can be written; run ringfence maintain", max(p.Ahead, 0), AlarmBelow)
}

// Prepare makes the partitions of the days from one moment's to another's, as the owner, and answers those that were missing.
// Any number of processes may do so at once.
func Prepare(ctx context.Context, url secret.Text, from, to time.Time) (made []string, err error) {
	db, err := connect(url)
	if err != nil {
		return nil, err
	}
	defer func() { _ = db.Close() }()
	return prepare(ctx, db, from, to)
}

func prepare(ctx context.Context, db *bun.DB, from, to time.Time) (made []string, err error) {
	made = []string{}
	for at := from.UTC().Truncate(day); !at.After(to); at = at.Add(day) {
		for _, table := range byDay() {
			var fresh bool
			if err := db.DB.QueryRowContext(ctx, "SELECT add_partition($1, $2::date)", table, at.Format(time.DateOnly)).Scan(&fresh); err != nil {
				return made, fmt.Errorf("make the partition of %s for %s: %w", table, at.Format(time.DateOnly), err)
			}
			if fresh {
				made = append(made, table+"_"+at.Format("20060102"))
			}
		}
	}
	return made, nil
}

// Expire drops, as the retention role, the partitions of days that are over for as long as they were to be kept, and answers
// them. One that somebody uses for longer than a second is left for the next time, with an error beside what was done.
func Expire(ctx context.Context, url secret.Text, now time.Time, keep Kept) (dropped []string, err error) {
	if err := keep.Check(); err != nil {
		return nil, err
	}
	db, err := connect(url)
	if err != nil {
		return nil, err
	}
	defer func() { _ = db.Close() }()
	dropped = []string{}
	for _, table := range byDay() {
		older := now.UTC().Truncate(day).Add(-time.Duration(keep.of(table)) * day)
		for busy := 0; ; {
			var name sql.NullString
			err := db.DB.QueryRowContext(ctx, "SELECT expire_partition($1, $2)", table, older).Scan(&name)
			var pg *pgconn.PgError
			if errors.As(err, &pg) && (pg.Code == "55P03" || pg.Code == "40P01") && busy < patience { // it is in use: whoever waited behind us goes first
				busy++
				continue
			}
			if err != nil {
				return dropped, fmt.Errorf("drop the oldest partition of %s: %w", table, err)
			}
			if !name.Valid {
				break
			}
			dropped, busy = append(dropped, name.String), 0
		}
	}
	return dropped, nil
}

// patience is how often a partition that is in use is tried.
const patience = 10

// Partitioned looks at a database's partitions; any of our roles may.
func Partitioned(ctx context.Context, url secret.Text, now time.Time) (Partitions, error) {
	db, err := connect(url)
	if err != nil {
		return Partitions{}, err
	}
	defer func() { _ = db.Close() }()
	p := Partitions{Oldest: map[string]string{}, Count: map[string]int{}}
	rows, err := db.DB.QueryContext(ctx, "SELECT parent, starts FROM partitions() ORDER BY starts")
	if err != nil {
		return p, fmt.Errorf("look at partitions: %w", err)
	}
	defer func() { _ = rows.Close() }()
	days := map[string][]string{}
	for rows.Next() {
		var parent string
		var starts time.Time
		if err := rows.Scan(&parent, &starts); err != nil {
			return p, fmt.Errorf("look at partitions: %w", err)
		}
		days[parent] = append(days[parent], starts.UTC().Format(time.DateOnly))
	}
	if err := rows.Err(); err != nil {
		return p, fmt.Errorf("look at partitions: %w", err)
	}
	p.Ahead = -1
	for table, of := range days {
		p.Oldest[table], p.Count[table] = of[0], len(of)
		for behind := MinimumKept; behind > 0; behind-- {
			at := now.UTC().Truncate(day).Add(-time.Duration(behind) * day)
			if at.Format(time.DateOnly) > of[0] && !slices.Contains(of, at.Format(time.DateOnly)) && (p.Gap.IsZero() || at.Before(p.Gap)) {
				p.Gap = at
			}
		}
	}
	for at := now.UTC(); !slices.ContainsFunc(byDay(), func(table string) bool { return !slices.Contains(days[table], at.Format(time.DateOnly)) }); at = at.Add(day) {
		p.Ahead++
	}
	return p, nil
}

// Span answers for which times the database can keep an event, or could once ringfence maintain has made what is missing: from the
// oldest day of uplinks and that of readings, or the MinimumKept-th behind, to the last day ahead, by the database's own clock.
func Span(ctx context.Context, url secret.Text) (uplinks, readings, end time.Time, err error) {
	db, err := connect(url)
	if err != nil {
		return uplinks, readings, end, err
	}
	defer func() { _ = db.Close() }()
	err = db.DB.QueryRowContext(ctx, "SELECT min(starts) FILTER (WHERE parent = 'uplinks'), min(starts) FILTER (WHERE parent = 'readings'), now() FROM partitions()").Scan(&uplinks, &readings, &end)
	if err != nil {
		return uplinks, readings, end, fault.Wrap(err, fault.Unavailable, "store_unavailable", "The store cannot be asked for which days it has partitions. Try again.").WithRetry(time.Second)
	}
	today := end.UTC().Truncate(day)
	since := func(oldest time.Time) time.Time {
		if least := today.Add(-MinimumKept * day); oldest.Before(least) {
			return least
		}
		return oldest.UTC()
	}
	return since(uplinks), since(readings), today.Add((DaysAhead + 1) * day), nil
}

// told says of an error that somebody can mend what it is and how.
func told(err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "23514" && pg.ConstraintName == "" && strings.Contains(pg.Routine, "ExecFindPartition") {
		return fault.Wrap(err, fault.Unavailable, "no_partition", "The database is not prepared for this time. The operator is to run ringfence maintain; try again then.").WithRetry(time.Minute)
	}
	return err
}
