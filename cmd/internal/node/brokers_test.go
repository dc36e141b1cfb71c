//go:build services

package node_test

import (
	"fmt"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/deploy/testbed/servers"
	"github.com/ringfence/ringfence/testkit/brokertest"
)

// A broker of the operator's asks the deployment's API who may come in, and a key that is revoked opens nothing within a second.
func TestARabbitMQAsksTheDeploymentsAPI(t *testing.T) {
	d := deploy(t)
	listen, shown := servers.Free(t), word()
	d.end(d.api, syscall.SIGTERM)
	made := d.api.make
	d.api.make = func() *exec.Cmd {
		c := made()
		c.Env = append(c.Env, "RINGFENCE_BROKER_AUTH_LISTEN="+listen, "RINGFENCE_BROKER_AUTH_SECRET="+shown)
		return c
	}
	d.start(d.api)
	d.await("the API", time.Minute, func() error { return d.ready(d.base) })
	cs := d.customers(2, light)
	at := "/v1/tenants/" + cs[0].id + "/sources/" + cs[0].source + "/keys"
	key := d.ask("POST", at, object{"name": "gateway"}, 201)
	rabbit := servers.RabbitMQ(t, "http://"+listen+"/"+shown+"/rabbitmq")
	b := brokertest.Broker{Address: rabbit.Addr(), Version: 4, KeepsRetained: true, NoReason: true, AsksOnce: true}
	hello := brokertest.Hello{Version: 4, User: cs[0].source, Password: secret.New(str(key, "secret")), ID: cs[0].source + "-gw", KeepAlive: 60}
	topic := func(c customer) string { return "rf/" + c.id + "/" + c.source + "/up" }
	if code, err := b.Open(t, hello).Publish(topic(cs[0]), 1, false, brokertest.Message("1")); code != 0 || err != nil {
		t.Errorf("its own topic: %d %v", code, err)
	}
	for _, foreign := range []string{topic(cs[1]), "rf/" + cs[0].id + "/" + cs[1].source + "/up", "rf/" + cs[1].id + "/" + cs[0].source + "/up", "anything"} {
		if _, err := b.Open(t, hello).Publish(foreign, 1, false, brokertest.Message("2")); err == nil {
			t.Errorf("%s is acknowledged", foreign)
		}
	}
	d.ask("DELETE", at+"/"+str(key, "id"), object{"-rev": str(key, "-etag")}, 204)
	d.shut("the revoked key", time.Now(), func() error {
		if _, code, err := b.Try(t, hello); err == nil && code == 0 {
			return fmt.Errorf("it is let in")
		}
		return nil
	})
}
