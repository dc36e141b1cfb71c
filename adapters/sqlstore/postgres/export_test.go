//go:build services

package postgres

import (
	"context"
	"io/fs"
	"testing/fstest"

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
