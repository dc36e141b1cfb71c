package fault

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// ours is an error whose text is ours alone.
type ours string

func (e ours) Error() string { return string(e) }

// Ours is an error whose text may be logged: it holds no value of anybody's.
func Ours(text string) error { return ours(text) }

// Cause is what a log may say of an error. A driver, a script or a parser may repeat whatever it choked on, so that nothing of
// an error is told but its kind and code if it is one of ours, its text if it was made by Ours or the runtime, its number if it
// has one, and else its type. The same for all that it wraps.
func Cause(err error) string { return cause(err, 0) }

// Panicked is an error of what a panic was called with, which may be anything: only the runtime's own words are kept of it.
func Panicked(value any) error {
	if err, ok := value.(error); ok {
		return ours("panic: " + Cause(err))
	}
	return ours(fmt.Sprintf("panic: %T", value))
}

const maxCauses = 16 // of a chain; no error of ours has as many

func cause(err error, depth int) string {
	if err == nil || depth == maxCauses {
		return "…"
	}
	said := fmt.Sprintf("%T", err)
	switch e := err.(type) { //nolint:errorlint // each error of the chain is looked at by itself
	case *Error:
		said = e.Kind.String() + " " + e.Code
	case ours:
		said = string(e)
	case interface {
		error
		RuntimeError() // of the runtime's own errors, whose words are the runtime's
	}:
		said = e.Error()
	case interface{ Code() int }: // of drivers
		said += " " + strconv.Itoa(e.Code())
	default:
		if k := reflect.TypeOf(err).Kind(); k >= reflect.Int && k <= reflect.Uintptr { // a number of the system's, with the system's words
			said += " " + err.Error()
		}
	}
	switch e := err.(type) { //nolint:errorlint // as above
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			said += ": " + cause(inner, depth+1)
		}
	case interface{ Unwrap() []error }:
		var all []string
		for _, inner := range e.Unwrap() {
			all = append(all, cause(inner, depth+1))
		}
		said += ": (" + strings.Join(all, "; ") + ")"
	}
	return said
}
