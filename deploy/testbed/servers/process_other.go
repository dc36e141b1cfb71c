//go:build !linux

package servers

import "os/exec"

// Only Linux ends a process with its parent; deploy/testbed/with ends the group of processes that the tests are.
func diesWithUs(*exec.Cmd) {}

// Nor does another system say so easily which processes one has started: they end by themselves when their parent is gone.
func children(int) []int { return nil }
