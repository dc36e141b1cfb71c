//go:build services

package postgres

import (
	"context"
	"database/sql"
	"io/fs"
	"slices"
	"testing/fstest"

	"github.com/jackc/pgx/v5"
	"github.com/uptrace/bun"

	"github.com/ringfence/ringfence/core/secret"
)

// MigrateTo is Migrate as the program did whose newest migration had this name.
func MigrateTo(ctx context.Context, url secret.Text, name string) error {
	then := fstest.MapFS{}
	files, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return err
	}
	for _, file := range files {
		if text, err := fs.ReadFile(migrations, file); err != nil {
			return err
		} else if file[len("migrations/"):][:len(name)] <= name {
			then[file] = &fstest.MapFile{Data: text}
		}
	}
	return bring(ctx, url, then, func(context.Context, *bun.DB) error { return nil })
}

// OldestPrograms are the migrations by name, each with what it says to be the oldest program; "" if it says nothing.
func OldestPrograms() (map[string]string, error) {
	said, err := oldestPrograms(migrations)
	if err != nil {
		return nil, err
	}
	files, err := fs.Glob(migrations, "migrations/*.sql")
	for _, file := range files {
		name := file[len("migrations/"):][:14]
		said[name] += ""
	}
	return said, err
}

// FlawsIn is Flaws within a transaction, of what it changed.
func FlawsIn(ctx context.Context, tx *sql.Tx) ([]string, error) { return flaws(ctx, tx) }

// Heard are options by which a function is told of every statement of a store, with its arguments.
func Heard(o Options, tell func(query string, args []any)) Options {
	o.tracer = ear(tell)
	return o
}

type ear func(string, []any)

func (e ear) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	e(q.SQL, slices.DeleteFunc(slices.Clone(q.Args), func(a any) bool { _, mode := a.(pgx.QueryExecMode); return mode }))
	return ctx
}

func (ear) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// BatchTexts are the statements of batches by name, and what is set for them. They go another way than what is heard.
func BatchTexts() (said map[string]string, set string) {
	t := newTexts()
	return map[string]string{"show": t.show, "plain": t.plain, "part": t.part, "duplicates": t.duplicates, "folds": t.folds, "sooner": t.sooner}, t.settings
}

// HandedText is the statement by which a round takes what it hands over.
const HandedText = oldest
