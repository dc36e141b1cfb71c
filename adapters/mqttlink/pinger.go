package mqttlink

import (
	"context"
	"net"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"github.com/eclipse/paho.golang/paho/log"

	"github.com/ringfence/ringfence/core/fault"
)

// pinger keeps a connection alive. paho's own gives a connection up when an answer stays out, and so it would each time that we
// stop reading for longer than the keep-alive, with all in flight sent again for nothing.
type pinger struct{ every time.Duration }

var errSilent = fault.Ours("the broker has fallen silent")

// Run pings until the connection ends or has been silent for one and a half times the keep-alive, which the broker may have
// chosen.
func (p pinger) Run(ctx context.Context, conn net.Conn, seconds uint16) error {
	every := p.every
	if seconds > 0 {
		every = time.Duration(seconds) * time.Second
	}
	w, ok := conn.(*wire)
	if !ok {
		return errPacket
	}
	tick := time.NewTicker(every / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if _, err := packets.NewControlPacket(packets.PINGREQ).WriteTo(w); err != nil {
			return err
		}
		if !w.paused.Load() && time.Since(time.Unix(0, w.heard.Load())) > every*3/2 {
			return errSilent
		}
	}
}

// PacketSent, PacketReceived, PingResp and SetDebug are paho's to call; the wire knows better.
func (pinger) PacketSent() {}

// PacketReceived is not needed.
func (pinger) PacketReceived() {}

// PingResp is not needed.
func (pinger) PingResp() {}

// SetDebug is not needed.
func (pinger) SetDebug(log.Logger) {}

// noAuth stands where paho calls a method of nil if a broker speaks of an authentication that nobody began.
type noAuth struct{}

// Authenticate is never asked: a wire refuses the packet.
func (noAuth) Authenticate(*paho.Auth) *paho.Auth { return &paho.Auth{} }

// Authenticated says nothing.
func (noAuth) Authenticated() {}
