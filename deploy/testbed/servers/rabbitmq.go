package servers

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// RabbitMQ is an MQTT 3.1.1 broker that lets in whom an address allows: it POSTs forms to authURL/user, /vhost, /resource and
// /topic, and takes "allow" or "deny".
func RabbitMQ(t testing.TB, authURL string) *Server {
	t.Helper()
	program := Program(t, "RabbitMQ", "TESTBED_RABBITMQ")
	mapper := portMapper(t)
	_, mapperPort, err := net.SplitHostPort(mapper.Addr())
	if err != nil {
		t.Fatal(err)
	}
	return start(t, "RabbitMQ", 2, func(dir string, ports []int) *Server {
		lines := []string{
			"listeners.tcp = none",
			"mqtt.listeners.tcp.1 = " + local(ports[0]),
			"mqtt.allow_anonymous = false",
			"auth_backends.1 = http",
			"auth_http.http_method = post",
			"log.console = true",
			"log.console.level = info",
			"log.file = false",
		}
		for _, what := range []string{"user", "vhost", "resource", "topic"} {
			lines = append(lines, fmt.Sprintf("auth_http.%s_path = %s/%s", what, strings.TrimSuffix(authURL, "/"), what))
		}
		config := write(t, filepath.Join(dir, "rabbitmq.conf"), lines...)
		plugins := write(t, filepath.Join(dir, "plugins"), "[rabbitmq_mqtt,rabbitmq_auth_backend_http].")
		env := append(os.Environ(),
			"HOME="+dir, // its cookie is there
			"ERL_EPMD_ADDRESS=127.0.0.1", "ERL_EPMD_PORT="+mapperPort,
			"RABBITMQ_NODENAME=testbed@localhost", // no other node has this port mapper
			fmt.Sprintf("RABBITMQ_DIST_PORT=%d", ports[1]),
			"RABBITMQ_CONFIG_FILE="+config, "RABBITMQ_ADVANCED_CONFIG_FILE="+filepath.Join(dir, "advanced.config"),
			"RABBITMQ_CONF_ENV_FILE="+filepath.Join(dir, "env.conf"), "RABBITMQ_ENABLED_PLUGINS_FILE="+plugins,
			"RABBITMQ_MNESIA_BASE="+filepath.Join(dir, "mnesia"), "RABBITMQ_LOG_BASE="+filepath.Join(dir, "log"), "RABBITMQ_LOGS=-",
			// The script becomes the server instead of waiting for it, so that a signal reaches it, kill -9 too.
			"RABBITMQ_ALLOW_INPUT=1",
			"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-noinput -kernel inet_dist_use_interface {127,0,0,1}",
		)
		return &Server{
			addr: local(ports[0]),
			command: func() *exec.Cmd {
				cmd := exec.Command(program)
				cmd.Env, cmd.Dir = env, dir
				return cmd
			},
			ready: func(log string) bool { return strings.Contains(log, "Server startup complete") },
			again: []string{"already running", "duplicate_name"}, // until the port mapper has noticed that it died
			stop:  syscall.SIGTERM,
			end:   syscall.SIGKILL,
		}
	})
}

// portMapper is an epmd for one broker: the one that it would start itself stays behind.
func portMapper(t testing.TB) *Server {
	t.Helper()
	return start(t, "epmd", 1, func(_ string, ports []int) *Server {
		_, port, _ := strings.Cut(local(ports[0]), ":")
		return &Server{
			addr:    local(ports[0]),
			command: func() *exec.Cmd { return exec.Command("epmd", "-address", "127.0.0.1", "-port", port) },
			ready: func(string) bool {
				conn, err := net.Dial("tcp", local(ports[0]))
				if err != nil {
					return false
				}
				return conn.Close() == nil
			},
			stop: syscall.SIGTERM,
			end:  syscall.SIGKILL,
		}
	})
}
