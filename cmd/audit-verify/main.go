// Command audit-verify checks an exported audit bundle without any server: it links the core and golang.org/x/mod alone.
package main

import (
	"os"

	"github.com/ringfence/ringfence/cmd/audit-verify/verify"
)

func main() {
	os.Exit(verify.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
