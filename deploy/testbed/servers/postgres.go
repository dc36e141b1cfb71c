package servers

import (
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// PostgresClients is the folder of psql and pg_dump, which are not everywhere that the server is. Whoever needs them late in a
// test asks early too: the test is left out where they are.
func PostgresClients(t testing.TB) string {
	t.Helper()
	return Program(t, "PostgreSQL's clients", "TESTBED_POSTGRES_CLIENTS")
}

// Postgres is a cluster of PostgreSQL 15 of the test's own, and the URL of its administrator.
func Postgres(t testing.TB) (s *Server, url string) {
	t.Helper()
	return postgres(t, nil)
}

// SecuredPostgres is one that also speaks TLS, with a certificate of an authority's, and asks for one of its clients'.
func SecuredPostgres(t testing.TB, by *Authority) (s *Server, url string) {
	t.Helper()
	return postgres(t, by)
}

func postgres(t testing.TB, by *Authority) (s *Server, url string) {
	t.Helper()
	bin := told(t, "TESTBED_POSTGRES_BIN")
	password := rand.Text()
	as := unprivileged(t)
	s = start(t, "PostgreSQL", 1, func(dir string, ports []int) *Server {
		data, port := filepath.Join(dir, "data"), strconv.Itoa(ports[0])
		if err := os.Mkdir(data, 0o700); err != nil {
			t.Fatal(err)
		}
		secret := write(t, filepath.Join(dir, "password"), password)
		own, more := []string{data, secret}, []string(nil)
		if by != nil {
			cert, key := by.Issue("127.0.0.1")
			cert, key = write(t, filepath.Join(dir, "server.pem"), read(t, cert)), write(t, filepath.Join(dir, "server.key"), read(t, key))
			ca := write(t, filepath.Join(dir, "clients.pem"), read(t, by.File()))
			own, more = append(own, cert, key, ca), []string{"-c", "ssl=on", "-c", "ssl_cert_file=" + cert, "-c", "ssl_key_file=" + key, "-c", "ssl_ca_file=" + ca}
		}
		if as != nil {
			for _, file := range own {
				if err := os.Chown(file, int(as.Uid), int(as.Gid)); err != nil {
					t.Fatal(err)
				}
			}
		}
		run := func(program string, args ...string) *exec.Cmd {
			cmd := exec.Command(filepath.Join(bin, program), args...)
			cmd.Dir = dir
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
			return cmd
		}
		if out, err := run("initdb", "-D", data, "-U", "postgres", "--auth=scram-sha-256", "--pwfile="+secret, "--locale=C", "--encoding=UTF8", "--no-sync").CombinedOutput(); err != nil {
			t.Fatalf("initdb: %v: %s", err, out)
		}
		return &Server{
			addr: local(ports[0]),
			command: func() *exec.Cmd {
				return run("postgres", append([]string{"-D", data, "-p", port, "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "max_connections=300", "-c", "track_commit_timestamp=on"}, more...)...)
			},
			ready: func(log string) bool { return strings.Contains(log, "database system is ready to accept connections") },
			again: []string{"postmaster.pid", "pre-existing shared memory block"},
			stop:  syscall.SIGINT, // SIGTERM would wait for the clients to leave
			end:   syscall.SIGQUIT,
			brood: true,
		}
	})
	return s, fmt.Sprintf("postgres://postgres:%s@%s/postgres?sslmode=disable", password, s.Addr())
}

// unprivileged is whom PostgreSQL runs as if we are root, which it refuses.
func unprivileged(t testing.TB) *syscall.Credential {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		u, err = user.Lookup("nobody")
	}
	if err != nil {
		t.Fatal(err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}
