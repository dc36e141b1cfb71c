package fault_test

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/ringfence/ringfence/core/fault"
)

type driverError struct{ text string }

func (e driverError) Error() string { return e.text }
func (driverError) Code() int       { return 2067 }

// What an error says of a value stays out of the log, however it is wrapped; what tells an operator where to look does not.
func TestACauseTellsTypesAndNumbersAndNoValue(t *testing.T) {
	const value = "Kanarie 12"
	inner := errors.New("cannot keep " + value)
	var crash error
	func() {
		defer func() { crash = fault.Panicked(recover()) }()
		_ = []int{}[len(value)]
	}()
	for _, one := range []struct {
		err  error
		want string
	}{
		{inner, "*errors.errorString"},
		{fmt.Errorf("while writing %s: %w", value, inner), "*fmt.wrapError: *errors.errorString"},
		{fault.Wrap(driverError{value}, fault.Unavailable, "store_unavailable", "%s", value), "unavailable store_unavailable: fault_test.driverError 2067"},
		{errors.Join(inner, driverError{value}), "*errors.joinError: (*errors.errorString; fault_test.driverError 2067)"},
		{syscall.ENOSPC, "syscall.Errno no space left on device"},
		{fault.Ours("the handler answered nothing"), "the handler answered nothing"},
		{fault.Panicked(value), "panic: string"},
		{fault.Panicked(inner), "panic: *errors.errorString"},
		{fault.Panicked(nil), "panic: <nil>"},
		{crash, "panic: runtime error: index out of range [10] with length 0"},
	} {
		if got := fault.Cause(one.err); got != one.want || strings.Contains(got, value) {
			t.Errorf("%q, want %q", got, one.want)
		}
	}
}
