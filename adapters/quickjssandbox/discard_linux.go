package quickjssandbox

import "syscall"

// discard gives pages back; they read as zero afterwards. What cannot be given back is overwritten.
func discard(b []byte) {
	if len(b) == 0 {
		return
	}
	if syscall.Madvise(b, syscall.MADV_DONTNEED) != nil {
		clear(b)
	}
}
