package servers_test

import (
	"errors"
	"net"
	"syscall"
	"testing"

	"github.com/ringfence/ringfence/deploy/testbed/servers"
)

func TestWhatIsShutRefusesEverybodyUntilItIsOpened(t *testing.T) {
	at, open := servers.Shut(t)
	if c, err := net.Dial("tcp", at); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("%v %v", c, err)
	}
	if l, err := net.Listen("tcp", at); !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatalf("somebody else has it: %v %v", l, err)
	}
	l := open()
	if l.Addr().String() != at {
		t.Errorf("it is at %v, was at %s", l.Addr(), at)
	}
	c, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	if c, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}
