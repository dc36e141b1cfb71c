package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ringfence/ringfence/ports/store"
	"github.com/ringfence/ringfence/testkit/storetest"
)

// heard is a connection that tells each statement before it is run.
type heard struct {
	driver.Conn
	tell func(string)
}

func (h heard) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	h.tell(query)
	return h.Conn.(driver.ConnPrepareContext).PrepareContext(ctx, query) //nolint:errcheck,forcetypeassert // the driver has it
}

func (h heard) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	h.tell(query)
	return h.Conn.(driver.ExecerContext).ExecContext(ctx, query, args) //nolint:errcheck,forcetypeassert // the driver has it
}

func (h heard) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	h.tell(query)
	return h.Conn.(driver.QueryerContext).QueryContext(ctx, query, args) //nolint:errcheck,forcetypeassert // the driver has it
}

func (h heard) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	return h.Conn.(driver.ConnBeginTx).BeginTx(ctx, o) //nolint:errcheck,forcetypeassert // the driver has it
}

func (h heard) ResetSession(ctx context.Context) error {
	return h.Conn.(driver.SessionResetter).ResetSession(ctx) //nolint:errcheck,forcetypeassert // the driver has it
}

var (
	literal = regexp.MustCompile(`(?i)x?'[^']*'`)
	number  = regexp.MustCompile(`\b[0-9]+\b`)
	mention = regexp.MustCompile(`(?i)\b(?:FROM|JOIN|INTO|UPDATE)\s+"?([a-z_]+)"?`)
	bound   = regexp.MustCompile(`(?i)"?\btenant"?\s*=\s*(?:\?|[a-z]+\.tenant)`)
	made    = regexp.MustCompile(`(?i)INTO\s+"?[a-z_]+"?(?:\s+AS\s+"?[a-z_]+"?)?\s*\("?tenant"?,`)
)

// unbound is why a statement is not bound to one tenant at each mention of a table of tenants; empty if it is.
func unbound(query string) string {
	tables := 0
	for _, m := range mention.FindAllStringSubmatch(query, -1) {
		if name := strings.ToLower(m[1]); name != "set" && name != "on" && name != "locations" && !strings.HasPrefix(name, "sqlite_") && !strings.HasPrefix(name, "bun_") {
			tables++
		}
	}
	if n := len(bound.FindAllString(query, -1)) + len(made.FindAllString(query, -1)); n < tables {
		return fmt.Sprintf("%d tables of tenants, %d times bound to one: %s", tables, n, query)
	}
	return ""
}

func TestEveryStatementIsBoundToOneTenant(t *testing.T) {
	var mu sync.Mutex
	seen := map[string]bool{}
	storetest.Run(t, func(t testing.TB, o storetest.Options) store.Store {
		s, err := open(t.Context(), Options{Path: filepath.Join(t.TempDir(), "ringfence.db"), Now: o.Now, Revised: o.Revised}, func(c driver.Conn) driver.Conn {
			return heard{c, func(query string) {
				mu.Lock()
				defer mu.Unlock()
				seen[number.ReplaceAllString(literal.ReplaceAllString(query, "?"), "0")] = true
			}}
		})
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
	for q := range seen {
		if why := unbound(q); why != "" && !slices.ContainsFunc(across, func(begin string) bool { return strings.HasPrefix(q, begin) }) {
			t.Error(why)
		}
	}
	if len(seen) < 100 {
		t.Errorf("%d statements were heard", len(seen))
	}
	for _, q := range []string{
		"SELECT body FROM devices WHERE id = ?", "DELETE FROM tokens WHERE tenant <> ? AND id = ?", "UPDATE uplinks SET state = ? WHERE id = ?",
		"SELECT r.data FROM readings r JOIN latest l ON l.id = r.id WHERE r.tenant = ?", "INSERT INTO nodes (id, tenant) VALUES (?, ?)",
	} {
		if unbound(q) == "" {
			t.Errorf("not found: %s", q)
		}
	}
}

// across are the statements that stand above tenants: the directory's three (ARCHITECTURE.md, The directory's door), and the migrations'.
var across = []string{"SELECT tenant, due FROM known WHERE due <= ", "INSERT INTO known SELECT", "SELECT tenant FROM audit_heads WHERE tenant > ? ORDER BY tenant LIMIT", "WITH RECURSIVE t(tenant) AS (", "UPDATE sessions SET expires = unixepoch(", "UPDATE members SET label = json_extract(", "UPDATE nodes SET label = json_extract(", "UPDATE readings SET has_fcnt =", "DELETE FROM links;",
	"INSERT INTO audit_spans WITH", "INSERT INTO audit_rows SELECT", "INSERT INTO uplink_rows SELECT", "INSERT INTO reading_rows SELECT", "INSERT INTO latest_rows SELECT", "CREATE TRIGGER audit_entries_update", "UPDATE audit_heads SET alive =", "UPDATE audit_heads SET narrowed ="}
