//go:build !linux

package quickjssandbox

func discard(b []byte) { clear(b) }
