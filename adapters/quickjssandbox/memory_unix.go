//go:build linux || darwin

package quickjssandbox

import (
	"context"
	"syscall"

	"github.com/tetratelabs/wazero/experimental"
)

// withMemory makes guests' memories reservations of the operating system, off the Go heap: pages cost when they are used
// and can be given back.
func withMemory(ctx context.Context) context.Context {
	return experimental.WithMemoryAllocator(ctx, experimental.MemoryAllocatorFunc(func(_, limit uint64) experimental.LinearMemory {
		b, err := syscall.Mmap(-1, 0, int(limit), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE) //nolint:gosec // 16 MiB
		if err != nil {
			panic(err) // wazero turns it into an error of the instantiation
		}
		return &mapped{b}
	}))
}

type mapped struct{ b []byte }

func (m *mapped) Reallocate(size uint64) []byte {
	if size > uint64(cap(m.b)) {
		return nil
	}
	return m.b[:size]
}

func (m *mapped) Free() {
	if m.b != nil {
		_ = syscall.Munmap(m.b[:cap(m.b)])
		m.b = nil
	}
}
