package quickjssandbox

import (
	"encoding/binary"
	"os"
	"syscall"
	"unsafe"
)

// discard gives pages back; they read as zero afterwards. What cannot be given back is overwritten.
func discard(b []byte) {
	if len(b) == 0 {
		return
	}
	if syscall.Madvise(b, syscall.MADV_DONTNEED) != nil {
		clear(b)
	}
}

// touched is the end of the last page that was used since it was discarded, by the kernel's own map of the process: reading
// the unused ones would cost a fault each. Pages that were swapped out count as used. Where the map cannot be read, all do.
func touched(b []byte) int {
	const page, entry = 4096, 8
	const used = 1<<63 | 1<<62 // present, or swapped
	if len(b) == 0 || os.Getpagesize() != page {
		return len(b)
	}
	f, err := os.Open("/proc/self/pagemap")
	if err != nil {
		return len(b)
	}
	defer func() { _ = f.Close() }()
	first := int64(uintptr(unsafe.Pointer(&b[0]))) / page //nolint:gosec // the address alone is looked at
	pages := make([]byte, (len(b)+page-1)/page*entry)
	if n, err := f.ReadAt(pages, first*entry); err != nil || n != len(pages) {
		return len(b)
	}
	for i := len(pages) - entry; i >= 0; i -= entry {
		if binary.NativeEndian.Uint64(pages[i:])&used != 0 {
			return min((i/entry+1)*page, len(b))
		}
	}
	return 0
}
