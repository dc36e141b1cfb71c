package main

import (
	"testing"
	"time"

	"github.com/ringfence/ringfence/adapters/localauth"
)

func TestCalibrationFitsTheMachineAndStaysAboveTheFloor(t *testing.T) {
	for what, c := range map[string]struct {
		perMiB time.Duration // and pass
		cost   localauth.Cost
	}{
		"a usual machine":  {time.Millisecond, localauth.Cost{Memory: 47_104, Time: 2}},
		"one in between":   {2 * time.Millisecond, localauth.DefaultCost},
		"a slow machine":   {3 * time.Millisecond, localauth.FloorCost},
		"one without hope": {time.Second, localauth.FloorCost},
		"a machine to be":  {time.Microsecond, localauth.Cost{Memory: 47_104, Time: mostPasses}},
	} {
		takes := func(of localauth.Cost) (time.Duration, error) {
			return time.Duration(of.Memory/1024*of.Time) * c.perMiB, of.Check()
		}
		got, took, err := calibrated(100*time.Millisecond, takes)
		if want, _ := takes(c.cost); got != c.cost || took != want || err != nil {
			t.Errorf("%s: %+v in %v, %v; want %+v in %v", what, got, took, err, c.cost, want)
		}
	}
}

func TestCalibratePrintsSettingsThatTheServerTakes(t *testing.T) {
	v := document(t, exitDone, nil, "", "argon2", "calibrate", "--for", "1ms")
	cost := localauth.Cost{Memory: uint32(v["password_memory_kib"].(float64)), Time: uint32(v["password_time"].(float64))}
	if cost != localauth.FloorCost && cost.Check() != nil || v["milliseconds"].(float64) < 1 {
		t.Errorf("%v", v)
	}
	if code, _, _ := told(t, nil, "", "argon2", "calibrate", "--for", "-1s"); code != exitUsage {
		t.Errorf("a time below zero: exit %d", code)
	}
}
