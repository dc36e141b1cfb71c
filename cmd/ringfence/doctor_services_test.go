//go:build services

package main

import (
	"crypto/tls"
	"database/sql"
	"errors"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/ringfence/ringfence/adapters/sqlstore/postgres/pgtest"
	"github.com/ringfence/ringfence/deploy/testbed/servers"
)

func TestDoctorHoldsASchemaToTheWall(t *testing.T) {
	server := pgtest.New(pgtest.Oldest)
	name := server.Database(t)
	file := filepath.Join(t.TempDir(), "url")
	look := func(database, role string) []string {
		if err := os.WriteFile(file, []byte(server.URL(database, role).Reveal()), 0o600); err != nil {
			t.Fatal(err)
		}
		return []string{"--server", "https://127.0.0.1:1", "--url-file", file}
	}
	for _, role := range []string{"owner", "runtime", "retention", "backup"} {
		want(t, role, green, "forced row-level security", "M69", nil, look(name, role)...)
	}
	if err := server.Ask(t.Context(), name, "ALTER TABLE devices NO FORCE ROW LEVEL SECURITY"); err != nil {
		t.Fatal(err)
	}
	want(t, "a table without", red, "devices: row-level security is not forced", "M69", nil, look(name, "runtime")...)
	if err := server.Ask(t.Context(), name, "ALTER TABLE devices FORCE ROW LEVEL SECURITY", "CREATE TABLE ours (id int)"); err != nil {
		t.Fatal(err)
	}
	want(t, "a table that is none of ours", red, "ours: has no tenant", "M69", nil, look(name, "runtime")...)
	want(t, "no schema", red, "migrate up", "M69", nil, look(server.Empty(t), "owner")...)
	if err := os.WriteFile(file, []byte("postgres://ringfence_runtime:hunter2@127.0.0.1:1/none"), 0o600); err != nil {
		t.Fatal(err)
	}
	want(t, "no server", yellow, "could not be asked", "M69", nil, "--server", "https://127.0.0.1:1", "--url-file", file)
}

// What real servers answer in clear, and what a PostgreSQL does that wants a certificate.
func TestDoctorAsksRealServersForACertificate(t *testing.T) {
	kafka, _ := servers.SharedKafka(t)
	s, admin := servers.Postgres(t)
	to := []string{"--profile", "p2", "--server", "https://127.0.0.1:1", "--database", s.Addr(), "--kafka", kafka}
	want(t, "PostgreSQL in clear", red, "PostgreSQL at "+s.Addr()+" answers in clear", "M75", nil, to...)
	want(t, "Kafka in clear", red, "Kafka at "+kafka+" answers in clear", "M75", nil, to...)

	a := servers.NewAuthority(t)
	cert, key := a.Issue("db")
	data := ask(t, admin, "SHOW data_directory")
	info, err := os.Stat(data)
	if err != nil {
		t.Fatal(err)
	}
	owner := info.Sys().(*syscall.Stat_t)
	for from, name := range map[string]string{cert: "db.pem", key: "db.key", a.File(): "ca.pem"} {
		raw, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(filepath.Join(data, name), raw, 0o600)
		}
		if err == nil {
			err = os.Chown(filepath.Join(data, name), int(owner.Uid), int(owner.Gid))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	enforce := func(rules string) {
		if err := os.WriteFile(filepath.Join(data, "pg_hba.conf"), []byte(rules), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, q := range []string{"ALTER SYSTEM SET ssl = on", "ALTER SYSTEM SET ssl_cert_file = 'db.pem'", "ALTER SYSTEM SET ssl_key_file = 'db.key'", "ALTER SYSTEM SET ssl_ca_file = 'ca.pem'"} {
		ask(t, admin, q)
	}
	enforce("hostssl all all 127.0.0.1/32 scram-sha-256\n")
	s.Stop()
	s.Start()
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	// A listener that does as Kafka does with ssl.client.auth=required: none of the testbed's wants certificates.
	to[len(to)-1] = listening(t, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.Pool()}, func(c net.Conn) {
		_, _ = c.Read(make([]byte, 1))
	})
	want(t, "TLS alone", red, "answers who shows no certificate", "M75", nil, to...)
	enforce("hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-ca\n")
	s.Stop()
	s.Start()
	want(t, "a certificate", green, "answer nobody", "M75", nil, to...)
}

// ask runs a statement as the administrator, and answers its one text.
func ask(t *testing.T, admin, statement string) (answer string) {
	t.Helper()
	db, err := sql.Open("pgx", admin)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRowContext(t.Context(), statement).Scan(&answer); err != nil && !errors.Is(err, sql.ErrNoRows) {
		t.Fatal(err)
	}
	return answer
}
