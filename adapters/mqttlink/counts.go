package mqttlink

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/eclipse/paho.golang/packets"
)

// counts of one connection, since the start.
type counts struct {
	received, redelivered, faulty, taken, acknowledged, discarded, retries, defects                    atomic.Int64
	connects, disconnects, connectFailures, subscribes, subscribeFailures, takeovers, presenceFailures atomic.Int64
}

// count adds a connection's series.
func (l *line) count(out map[string]int64, now time.Time) {
	label := `{connection="` + l.c.Name + `"}`
	for name, n := range map[string]*atomic.Int64{
		"received_total": &l.counts.received, "redelivered_total": &l.counts.redelivered, "faulty_total": &l.counts.faulty,
		"taken_total": &l.counts.taken, "acknowledged_total": &l.counts.acknowledged, "discarded_total": &l.counts.discarded,
		"take_retries_total": &l.counts.retries, "take_defects_total": &l.counts.defects, "connects_total": &l.counts.connects,
		"disconnects_total": &l.counts.disconnects, "connect_failures_total": &l.counts.connectFailures,
		"subscribes_total": &l.counts.subscribes, "subscribe_failures_total": &l.counts.subscribeFailures, "takeovers_total": &l.counts.takeovers, "presence_failures_total": &l.counts.presenceFailures,
	} {
		out["ringfence_mqtt_"+name+label] = n.Load()
	}
	n, bytes := l.budget.now()
	out["ringfence_mqtt_in_flight"+label], out["ringfence_mqtt_in_flight_bytes"+label] = int64(n), int64(bytes)
	out["ringfence_mqtt_waiting"+label], out["ringfence_mqtt_held"+label] = l.waiting.Load(), l.held.Load()
	out["ringfence_mqtt_down"+label], out["ringfence_mqtt_paused"+label] = 0, 0
	if l.trouble(now) != "" {
		out["ringfence_mqtt_down"+label] = 1
	}
	if w := l.wire.Load(); w != nil && w.paused.Load() && !w.lost() {
		out["ringfence_mqtt_paused"+label] = 1
	}
	out["ringfence_mqtt_members_absent"+label] = int64(len(l.members.missing(now)))
}

// trouble is why a connection does not do its work, and what to do about it; empty if it does, or did until a moment ago.
func (l *line) trouble(now time.Time) string {
	w := l.wire.Load()
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case !l.rival.IsZero() && now.Sub(l.rival) < takenMost:
		return refusals(refusal{code: packets.DisconnectSessionTakenOver})
	case l.up && l.subscribed && l.runs >= endless && now.Sub(l.upAt) < shortLived:
		return "The broker takes the connection and drops it at once, again and again. Look at its log, and whether another worker has the same ordinal."
	case l.up && l.subscribed && l.clogged.Load():
		return "A defect of ours keeps half of what may be in flight from being taken, and nothing more comes once that is all. Look at the log, report it, and bring this program up to date: the broker has the messages still."
	case l.up && l.subscribed:
		return ""
	case !l.up && w != nil && w.code.Load() == packets.DisconnectSessionTakenOver:
		return l.reason
	case !l.ever, now.Sub(l.troubled) >= l.o.DownAlarm:
		return l.reason
	}
	return ""
}

// alarms logs when a connection's trouble has lasted too long, once, and when it is over.
func (l *line) alarms(ctx context.Context, now time.Time) {
	l.members.alarms(ctx, now)
	why := l.trouble(now)
	l.mu.Lock()
	begins := why != "" && !l.alarmed && (now.Sub(l.troubled) >= l.o.DownAlarm || l.ever)
	ends := why == "" && l.alarmed
	if begins || ends {
		l.alarmed = begins
	}
	l.mu.Unlock()
	switch {
	case begins:
		l.o.Log.ErrorContext(ctx, "MQTT connection is down; the broker keeps what is published meanwhile for as long as the session lasts",
			slog.String("connection", l.c.Name), slog.String("client_id", l.id), slog.String("remedy", why))
	case ends:
		l.o.Log.InfoContext(ctx, "MQTT connection is back", slog.String("connection", l.c.Name))
	}
}
