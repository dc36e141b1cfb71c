package servers

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Options say what is special about a broker. The zero Options let anybody do anything, and queue without limit.
type Options struct {
	Passwords map[string]string // by user; with any, nobody else is let in
	ACL       []string          // lines of an ACL file; with any, what they do not allow is refused
	TLS       *Authority        // who signs its certificate; without, it speaks plainly
	Config    []string          // more lines of mosquitto.conf: they come last, and a number or a switch there wins
}

// Mosquitto is a broker with the settings of the test. What it queues outlives Stop; after Kill it has what it last saved, by
// its own settings when (autosave_interval).
func Mosquitto(t testing.TB, o Options) *Server {
	t.Helper()
	program := Program(t, "Mosquitto", "TESTBED_MOSQUITTO")
	return start(t, "Mosquitto", 1, func(dir string, ports []int) *Server {
		lines := []string{
			"persistence true",
			"persistence_location " + dir + "/",
			"max_queued_messages 0", // the default drops beyond 1,000
			"log_dest stderr",
			"allow_anonymous " + strconv.FormatBool(len(o.Passwords) == 0),
		}
		if os.Geteuid() == 0 {
			lines = append(lines, "user root") // else it gives up its rights, and cannot read its own files
		}
		if len(o.Passwords) > 0 {
			var known []string
			for user, password := range o.Passwords {
				known = append(known, user+":"+hashed(t, password))
			}
			lines = append(lines, "password_file "+write(t, filepath.Join(dir, "passwords"), known...))
		}
		if len(o.ACL) > 0 {
			lines = append(lines, "acl_file "+write(t, filepath.Join(dir, "acl"), o.ACL...))
		}
		lines = append(lines, fmt.Sprintf("listener %d 127.0.0.1", ports[0]))
		if o.TLS != nil {
			cert, key := o.TLS.Issue("mosquitto")
			lines = append(lines, "cafile "+o.TLS.File(), "certfile "+cert, "keyfile "+key)
		}
		config := write(t, filepath.Join(dir, "mosquitto.conf"), append(lines, o.Config...)...)
		return &Server{
			addr:    local(ports[0]),
			command: func() *exec.Cmd { return exec.Command(program, "-c", config) },
			ready:   func(log string) bool { return strings.Contains(log, " running\n") },
			stop:    syscall.SIGTERM,
			end:     syscall.SIGKILL,
		}
	})
}

// hashed is a password as mosquitto_passwd writes it, with its number of rounds.
func hashed(t testing.TB, password string) string {
	t.Helper()
	const rounds = 101
	salt := make([]byte, 12)
	_, _ = rand.Read(salt) // never fails
	sum, err := pbkdf2.Key(sha512.New, password, salt, rounds, sha512.Size)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("$7$%d$%s$%s", rounds, base64.StdEncoding.EncodeToString(salt), base64.StdEncoding.EncodeToString(sum))
}
