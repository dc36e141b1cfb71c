package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strings"
)

// settings are pragmas that a connection is opened with and must then have: SQLite ignores what it does not understand, and
// kill -9 does not show a sync that is missing.
type settings []struct {
	pragma, set, want string
}

// written are those of the one writing connection: nothing is acknowledged that a power cut could take back. Its cache is small
// on purpose: a split of a page in a table with random keys makes SQLite walk the whole cache at the commit (balance_nonroot
// lends pages a number behind the file's end), 0.1 ms for 32 MB, and a page that is missing is 3 µs away. wait is how many
// milliseconds another process may have the file for.
func written(wait string) settings {
	return settings{
		{"busy_timeout", wait, wait}, {"journal_mode", "WAL", "wal"}, {"synchronous", "FULL", "2"}, {"foreign_keys", "1", "1"},
		{"temp_store", "MEMORY", "2"}, {"wal_autocheckpoint", "16000", "16000"}, {"cache_size", "-4000", "-4000"},
	}
}

// read are those of the reading ones.
func read() settings {
	return settings{{"busy_timeout", "5000", "5000"}, {"query_only", "1", "1"}, {"synchronous", "FULL", "2"}, {"foreign_keys", "1", "1"}}
}

// pool opens connections to a file, each of which has the settings or is refused.
func pool(file string, s settings, more string, wrap func(driver.Conn) driver.Conn) (*sql.DB, error) {
	registered, err := sql.Open("sqlite", "")
	if err != nil {
		return nil, err
	}
	asked := make([]string, len(s))
	for i, p := range s {
		asked[i] = fmt.Sprintf("_pragma=%s(%s)", p.pragma, p.set)
	}
	c := &checked{driver: registered.Driver(), dsn: file + "?" + strings.Join(asked, "&") + more, want: s, wrap: wrap}
	return sql.OpenDB(c), registered.Close()
}

// checked is a driver.Connector that looks at each connection before anybody uses it.
type checked struct {
	driver driver.Driver
	dsn    string
	want   settings
	wrap   func(driver.Conn) driver.Conn
}

func (c *checked) Driver() driver.Driver { return c.driver }

func (c *checked) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.driver.Open(c.dsn)
	if err != nil {
		return nil, err
	}
	for _, p := range c.want {
		got, err := asked(ctx, conn, "PRAGMA "+p.pragma)
		if err == nil && got != p.want {
			err = fmt.Errorf("sqlite: a connection has %s = %s, it must be %s", p.pragma, got, p.want)
		}
		if err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	if c.wrap != nil {
		conn = c.wrap(conn)
	}
	return conn, nil
}

// asked answers the one value of a query.
func asked(ctx context.Context, conn driver.Conn, query string) (text string, err error) {
	q, ok := conn.(driver.QueryerContext)
	if !ok {
		return "", errors.New("sqlite: the driver's connections cannot be asked")
	}
	rows, err := q.QueryContext(ctx, query, nil)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	value := make([]driver.Value, len(rows.Columns()))
	if len(value) != 1 {
		return "", fmt.Errorf("sqlite: %s answers %d columns", query, len(value))
	}
	if err := rows.Next(value); errors.Is(err, io.EOF) {
		return "", fmt.Errorf("sqlite: %s answers nothing", query)
	} else if err != nil {
		return "", err
	}
	return fmt.Sprint(value[0]), nil
}
