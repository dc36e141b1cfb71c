package quickjssandbox

import (
	"fmt"
	"testing"

	"github.com/ringfence/ringfence/core/decoder"
)

// Taking a script's output out of the guest needs memory, too. Where the script left none for it, that is the verdict, and not
// that the output is too large. How much it must leave depends on the output, so several are tried.
func TestAnOutputThatFindsNoMemoryIsNotCalledTooLarge(t *testing.T) {
	e, verdicts := engineFor(t, Options{}), map[decoder.Category]int{}
	for _, size := range []int{7000, 28_000} {
		for free := range 8 {
			r, err := e.Run(t.Context(), benched(t, 1, 1, fmt.Sprintf(`var a = [], s = "\u00e9".repeat(%d); function decodeUplink() {
				for (var n = 1 << 20; n > 512; n >>= 1) try { for (;;) a.push(new Uint8Array(n)) } catch (e) {}
				a.length -= %d; return { data: { x: s } } }`, size, free)))
			if verdicts[r.Category]++; err != nil || r.Category == decoder.BadOutput {
				t.Errorf("%d characters, %d blocks left: %s %s, %v", size, free, r.Category, r.Message, err)
			}
		}
	}
	if verdicts[decoder.Memory] == 0 || verdicts[decoder.Success] == 0 {
		t.Errorf("the border is not tried: %v", verdicts)
	}
}
