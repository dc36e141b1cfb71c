//go:build services

package node_test

import (
	"context"
	"database/sql"
	"errors"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/ringfence/ringfence/adapters/kafkabus"
	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/deploy/testbed/servers"
)

// What opens the API to a tenant's people, devices and programs opens none of the servers behind it, whoever shows it.
func TestWhatATenantSignsInWithOpensNoServerBehindTheAPI(t *testing.T) {
	a := newAlone(t)
	kafka, admin := servers.SharedKafka(t)
	a.mqttUser, a.mqttPassword = "network-server", word()
	a.mosquitto = a.broker()
	listen := servers.Free(t)
	a.base = "http://" + listen
	env := append(a.env("platform-api"), "RINGFENCE_LISTEN="+listen)
	a.api = &process{name: "platform-api", make: func() *exec.Cmd {
		c := exec.Command(filepath.Join(a.bin, "platform-api"))
		c.Dir, c.Env = a.dir, append(os.Environ(), env...)
		return c
	}}
	a.start(a.api)
	t.Cleanup(func() { a.end(a.api, syscall.SIGKILL) })
	a.await("the API", time.Minute, func() error { return a.ready(a.base) })
	a.world()
	personal := str(a.ask("POST", "/v1/tenants/"+a.tenant+"/tokens", object{"name": "reports", "permissions": []string{"device:read"}}, 201), "secret")

	const itself = "its own" // a user of the server's, with its own password: the door is one
	for server, c := range map[string]struct {
		users []string
		own   [2]string
		enter func(ctx context.Context, user, password string) error
		kept  func(error) bool // out, for want of a credential and nothing else
	}{
		"PostgreSQL": {[]string{"ringfence_runtime", "ringfence_owner"}, [2]string{"ringfence_runtime", "runtime"}, func(ctx context.Context, user, password string) error {
			at, err := url.Parse(a.server.URL(a.database, "").Reveal())
			if err != nil {
				return err
			}
			at.User = url.UserPassword(user, password)
			db, err := sql.Open("pgx", at.String())
			if err != nil {
				return err
			}
			defer func() { _ = db.Close() }()
			return db.PingContext(ctx)
		}, func(err error) bool {
			var pg *pgconn.PgError
			return errors.As(err, &pg) && pg.Code[:2] == "28"
		}},
		"Kafka": {[]string{admin.User}, [2]string{admin.User, admin.Password}, func(ctx context.Context, user, password string) error {
			b, err := kafkabus.Open(kafkabus.Options{Brokers: []string{kafka}, User: user, Password: secret.New(password)})
			if err != nil {
				return err
			}
			defer func() { _ = b.Close() }()
			return b.Check(ctx)
		}, func(err error) bool { return fault.Is(err, fault.Unauthenticated) || fault.Is(err, fault.Invalid) }}, // invalid: no password
		"Mosquitto": {[]string{a.mqttUser, "worker"}, [2]string{a.mqttUser, a.mqttPassword}, func(ctx context.Context, user, password string) error {
			conn, err := net.Dial("tcp", a.mosquitto.Addr())
			if err != nil {
				return err
			}
			defer func() { _ = conn.Close() }()
			c := paho.NewClient(paho.ClientConfig{Conn: conn})
			answer, err := c.Connect(ctx, &paho.Connect{ClientID: a.source + "-x", CleanStart: true, KeepAlive: 30, UsernameFlag: true, Username: user, PasswordFlag: true, Password: []byte(password)})
			if answer != nil && answer.ReasonCode == 0x87 {
				return errKept
			}
			return err
		}, func(err error) bool { return errors.Is(err, errKept) }},
	} {
		for what, password := range map[string]string{"a session": a.token, "a personal token": personal, "a source's key": a.key, "a person's password": personsPassword, "nothing": "", itself: c.own[1]} {
			users := append(c.users, a.source, "ana@acme.example")
			if what == itself {
				users = c.own[:1]
			}
			for _, user := range users {
				ctx, end := context.WithTimeout(t.Context(), 20*time.Second)
				err := c.enter(ctx, user, password)
				end()
				if in := err == nil; in != (what == itself) || !in && !c.kept(err) {
					t.Errorf("%s, %s as %s: %v", server, what, user, err)
				}
			}
		}
	}
}

var errKept = errors.New("the broker says that this is nobody who may come in")
