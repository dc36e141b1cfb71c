//go:build services

package node_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What the broker keeps for a worker that was killed and does not come back becomes readings by the command that the chart's notes name.
func TestWhatTheBrokerKeepsForADeadWorkerIsAdopted(t *testing.T) {
	d := deploy(t)
	file := filepath.Join(d.dir, "connections.yaml")
	config, err := os.ReadFile(file)
	if err == nil {
		grouped := strings.Replace(strings.Replace(string(config), "filters:", "group: workers\n  filters:", 1), "presence: false", "presence: true", 1)
		err = os.WriteFile(file, []byte(grouped), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	const second = "mqtt-ingestion-worker 2"
	d.workers[second] = with(d.workers["mqtt-ingestion-worker"], "RINGFENCE_ORDINAL=1")
	d.workers["mqtt-ingestion-worker"] = with(d.workers["mqtt-ingestion-worker"], "RINGFENCE_ORDINAL=0")
	for _, name := range []string{"mqtt-ingestion-worker", second, "event-worker"} {
		d.run(name)
	}
	adopt := func(flags ...string) (string, error) {
		c := exec.CommandContext(t.Context(), filepath.Join(d.bin, "mqtt-ingestion-worker"), append([]string{"adopt", "lab", "ringfence-lab-1", "--end"}, flags...)...)
		c.Dir, c.Env = d.dir, append(d.workers[second].cmd.Env, "RINGFENCE_LOG_LEVEL=info")
		out, err := c.CombinedOutput()
		return string(out), err
	}
	if out, err := adopt(); err == nil || !strings.Contains(out, "That member is there") {
		t.Errorf("of one that lives: %v %s", err, out)
	}
	d.end(d.workers[second], syscall.SIGKILL)
	d.publish(0, 50)
	out, err := adopt("--force") // the broker says that it is gone 10 s later
	if taken := regexp.MustCompile(`"messages":([1-9]\d*)`).FindString(out); err != nil || taken == "" {
		t.Errorf("%v %s", err, out)
	}
	d.whole(50, 30*time.Second)
	if out, err := adopt("--force"); err == nil || !strings.Contains(out, "The broker keeps nothing") {
		t.Errorf("of one whose session is ended: %v %s", err, out)
	}
}
